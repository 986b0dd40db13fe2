"""Checks of the modules of the chapter on spatial-aware attention, and the mistakes that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyhead_lab.attention import spatial as library
from dyhead_lab.attention.pyramid import resize_corners, to_finer
from dyhead_lab.attention.spatial import AT_CENTRES, EXACT_FIT, TAPS, fit_offsets

from ..practice.module_checks import Build, check_filled, drawn, given, run
from ..practice.reader_checks import Case, Mistake, Verdict

CHANNELS = 32
#: Of the weights: 288 products a place then give offsets of one or two cells.
SPREAD = 0.1


def _draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _options(theirs: Any) -> tuple[Any, ...]:
    """What one of the library's modules was built with."""
    if isinstance(theirs, library.OffsetMaskConv):
        return (theirs.in_channels,)
    if isinstance(theirs, library.DeformableConvNorm):
        return theirs.conv.in_channels, theirs.conv.stride[0]
    return theirs.own.conv.in_channels, theirs.offset_fit


def running(build: Build) -> Callable[..., Any]:
    """A class as a function of a case's arguments: built and filled like the library's module."""
    return lambda theirs, *inputs: given(build(*_options(theirs)), theirs.state_dict(), *inputs)


def _check(build: Build, cases: Iterator[Case], mistakes: Sequence[Mistake]) -> Verdict:
    return check_filled(lambda theirs: build(*_options(theirs)), run, cases, mistakes)


# The convolution that predicts where to look


def offset_mask_cases(seed: int = 0) -> Iterator[Case]:
    for number, (B, H, W) in enumerate(((1, 4, 4), (2, 5, 7))):
        x = _draw(seed + number, B, CHANNELS, H, W)
        layer = drawn(library.OffsetMaskConv, {"channels": CHANNELS}, seed + number, SPREAD)
        yield Case(f"{B} maps of {H} x {W}", (layer, x))


def _predicting(split: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    """The convolution whose 27 channels become offsets and masks in another way."""

    class Other(nn.Conv2d):
        def __init__(self, channels: int):
            super().__init__(channels, 3 * TAPS, 3, padding=1)

        def forward(self, x: Tensor) -> Any:
            return split(super().forward(x))

    return running(Other)


OFFSET_MASK_MISTAKES = (
    Mistake(
        "the masks pass no sigmoid",
        "a mask is a share between 0 and 1: sigmoid.",
        _predicting(lambda y: (y[:, :18], y[:, 18:])),
    ),
    Mistake(
        "the offsets pass the sigmoid, too",
        "an offset may be any number, to both sides; only the masks are squashed.",
        _predicting(lambda y: (y[:, :18].sigmoid(), y[:, 18:].sigmoid())),
    ),
    Mistake(
        "the masks compete in a softmax",
        "each tap has a mask of its own: sigmoid, not softmax.",
        _predicting(lambda y: (y[:, :18], y[:, 18:].softmax(1))),
    ),
    Mistake(
        "the masks are doubled",
        "some codes take 2 sigmoid so that masks start at 1; the released Dynamic Head does not.",
        _predicting(lambda y: (y[:, :18], 2 * y[:, 18:].sigmoid())),
    ),
    Mistake(
        "the first nine channels are taken for the masks",
        "first 18 offsets, then 9 masks.",
        _predicting(lambda y: (y[:, 9:], y[:, :9].sigmoid())),
    ),
    Mistake(
        "all dy come before all dx",
        "the channels are dy, dx of tap 0, then dy, dx of tap 1: leave their order.",
        _predicting(lambda y: (y[:, :18].unflatten(1, (2, 9)).transpose(1, 2).flatten(1, 2), y[:, 18:].sigmoid())),
    ),
)


def check_offset_mask(build: Callable[..., nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``OffsetMaskConv``: that it starts at zero, and what it predicts."""
    fresh = build(CHANNELS)
    for name, parameter in fresh.named_parameters():
        if bool(parameter.any()):
            return Verdict(False, f"{name} does not start at zero: training begins on the regular grid.")
    return _check(build, offset_mask_cases(seed), OFFSET_MASK_MISTAKES)


# One branch


def branch_cases(seed: int = 0) -> Iterator[Case]:
    def case(number: int, words: str, stride: int, *steer: Tensor) -> Case:
        branch = drawn(library.DeformableConvNorm, {"channels": CHANNELS, "stride": stride}, seed + number, SPREAD)
        return Case(words, (branch, _draw(seed + number, 2, CHANNELS, 8, 6), *steer))

    zeros, ones = torch.zeros(2, 18, 8, 6, dtype=torch.float64), torch.ones(2, 9, 8, 6, dtype=torch.float64)
    yield case(0, "no offsets", 1)
    yield case(1, "offsets of zero, masks of one", 1, zeros, ones)
    yield case(2, "offsets, masks of one", 1, _draw(seed + 5, 2, 18, 8, 6), ones)
    yield case(3, "offsets and masks", 1, _draw(seed + 6, 2, 18, 8, 6), _draw(seed + 7, 2, 9, 8, 6).sigmoid())
    yield case(4, "stride 2", 2, _draw(seed + 8, 2, 18, 4, 3), _draw(seed + 9, 2, 9, 4, 3).sigmoid())


class _Branch(library.DeformableConvNorm):
    """The library's branch, in which one step can be replaced."""

    def forward(self, x: Tensor, offset: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return self.after(super().forward(self.before(x), self.moved(offset), self.kept(mask)))

    def before(self, x: Tensor) -> Tensor:
        return x

    def moved(self, offset: Tensor | None) -> Tensor | None:
        return offset

    def kept(self, mask: Tensor | None) -> Tensor | None:
        return mask

    def after(self, y: Tensor) -> Tensor:
        return y


class _WithoutBias(_Branch):
    def before(self, x: Tensor) -> Tensor:
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        return x


class _WithoutNorm(_Branch):
    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, stride)
        self.norm.forward = lambda x: x  # type: ignore[method-assign]


class _NormFirst(_WithoutNorm):
    def before(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.GROUPS, self.norm.weight, self.norm.bias)


class _WithoutMask(_Branch):
    def kept(self, mask: Tensor | None) -> Tensor | None:
        return None


class _WithoutOffset(_Branch):
    def moved(self, offset: Tensor | None) -> Tensor | None:
        return None if offset is None else torch.zeros_like(offset)


class _Activated(_Branch):
    def after(self, y: Tensor) -> Tensor:
        return y.relu()


class _Swapped(_Branch):
    def moved(self, offset: Tensor | None) -> Tensor | None:
        return None if offset is None else offset.unflatten(1, (TAPS, 2)).flip(2).flatten(1, 2)


class _OneGroup(_Branch):
    GROUPS = 1


class _GroupsOfOne(_Branch):
    GROUPS = CHANNELS


BRANCH_MISTAKES = (
    Mistake("the bias is forgotten", "deform_conv2d takes conv.bias as its fourth argument.", running(_WithoutBias)),
    Mistake("the normalisation is missing", "the branch ends with GroupNorm.", running(_WithoutNorm)),
    Mistake("the normalisation comes first", "convolve, then normalise.", running(_NormFirst)),
    Mistake("the mask is forgotten", "hand mask to deform_conv2d.", running(_WithoutMask)),
    Mistake("the offsets are forgotten", "hand offset to deform_conv2d.", running(_WithoutOffset)),
    Mistake(
        "x and y are swapped in the offsets",
        "of each tap's two channels the first is dy, the second dx: leave them as they are.",
        running(_Swapped),
    ),
    Mistake("an activation follows", "no ReLU here: the task-aware attention is the activation.", running(_Activated)),
    Mistake("all channels are normalised together", "GroupNorm has 16 groups.", running(_OneGroup)),
    Mistake("every channel is normalised alone", "GroupNorm has 16 groups.", running(_GroupsOfOne)),
)


def check_branch(build: Callable[..., nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``DeformableConvNorm``."""
    return _check(build, branch_cases(seed), BRANCH_MISTAKES)


# The whole


def spatial_cases(seed: int = 0) -> Iterator[Case]:
    """First the level alone, then one neighbour at a time, then other ways to fit the offsets."""
    finer, own, coarser = (_draw(seed + l, 2, CHANNELS, *size) for l, size in enumerate(((12, 16), (6, 8), (3, 4))))
    for words, fit, inputs in (
        ("the level alone", EXACT_FIT, (own,)),
        ("with its finer neighbour", EXACT_FIT, (own, finer)),
        ("with its coarser neighbour", EXACT_FIT, (own, None, coarser)),
        ("with both", EXACT_FIT, (own, finer, coarser)),
        ("with both, aligned", "aligned", (own, finer, coarser)),
        ("with both, resize", "resize", (own, finer, coarser)),
    ):
        options = {"channels": CHANNELS, "offset_fit": fit}
        yield Case(words, (drawn(library.SpatialAwareAttention, options, seed, SPREAD), *inputs))


def _enlarged(module: Any, x: Tensor, size: Any) -> Tensor:
    """A map at the cells of the finer level, as the module's ``offset_fit`` has it."""
    return to_finer(x, size) if module.offset_fit in AT_CENTRES else resize_corners(x, size)


class _EnlargedFirst(library.SpatialAwareAttention):
    def _from_coarser(self, coarser, offset, mask, size):  # type: ignore[no-untyped-def]
        return self.coarser(_enlarged(self, coarser, size), offset, mask)


class _Blocky(library.SpatialAwareAttention):
    def _from_coarser(self, coarser, offset, mask, size):  # type: ignore[no-untyped-def]
        fitted = fit_offsets(offset, mask, coarser.shape[-2:], self.offset_fit)
        return F.interpolate(self.coarser(coarser, *fitted), size=size, mode="nearest")


class _CornerOnCorner(library.SpatialAwareAttention):
    def _from_coarser(self, coarser, offset, mask, size):  # type: ignore[no-untyped-def]
        fitted = fit_offsets(offset, mask, coarser.shape[-2:], self.offset_fit)
        return resize_corners(self.coarser(coarser, *fitted), size)


class _ReadsFlat(library.SpatialAwareAttention):
    def _from_coarser(self, coarser, offset, mask, size):  # type: ignore[no-untyped-def]
        fitted = fit_offsets(offset, mask, coarser.shape[-2:], "flat")
        return _enlarged(self, self.coarser(coarser, *fitted), size)


class _FinerLeft(library.SpatialAwareAttention):
    def _from_finer(self, finer, offset, mask, size):  # type: ignore[no-untyped-def]
        return self.finer(finer, offset, mask)


class _OwnOffsets(library.SpatialAwareAttention):
    """Every branch asks its own map where to look."""

    def _from_coarser(self, coarser, offset, mask, size):  # type: ignore[no-untyped-def]
        return _enlarged(self, self.coarser(coarser, *self.offset_mask(coarser)), size)  # type: ignore[misc]


class _Unsteered(library.SpatialAwareAttention):
    """The neighbours are convolved on their regular grids."""

    def _from_finer(self, finer, offset, mask, size):  # type: ignore[no-untyped-def]
        return self.finer(finer)

    def _from_coarser(self, coarser, offset, mask, size):  # type: ignore[no-untyped-def]
        return _enlarged(self, self.coarser(coarser), size)


class _OneConvolution(library.SpatialAwareAttention):
    """All branches share the level's own convolution."""

    def _from_coarser(self, coarser, offset, mask, size):  # type: ignore[no-untyped-def]
        self.coarser = self.own
        return super()._from_coarser(coarser, offset, mask, size)


class _Reversed(library.SpatialAwareAttention):
    def forward(self, own, finer=None, coarser=None):  # type: ignore[no-untyped-def]
        return super().forward(own, finer, coarser)[::-1]


class _OwnFirst(library.SpatialAwareAttention):
    def forward(self, own, finer=None, coarser=None):  # type: ignore[no-untyped-def]
        branches = super().forward(own, finer, coarser)
        return [branches.pop(0 if finer is None else 1), *branches]


SPATIAL_MISTAKES = (
    Mistake("the branches run from coarse to fine", "finer, own, coarser: fine to coarse.", running(_Reversed)),
    Mistake("the level's own branch stands first", "finer, own, coarser: fine to coarse.", running(_OwnFirst)),
    Mistake(
        "the coarser map is enlarged before its convolution",
        "convolve on the coarser grid with fitted offsets, and enlarge the result.",
        running(_EnlargedFirst),
    ),
    Mistake("the result is enlarged by copying cells", "enlarge with bilinear interpolation.", running(_Blocky)),
    Mistake(
        "the result is enlarged corner on corner, whatever offset_fit says",
        'with "centres" and "aligned" cells meet at their centres: to_finer.',
        running(_CornerOnCorner),
    ),
    Mistake(
        "the coarser branch reads the offsets flat",
        "bring offsets and masks to the coarser size first: fit_offsets.",
        running(_ReadsFlat),
    ),
    Mistake(
        "the finer branch takes its offsets as they are, whatever offset_fit says",
        'with "aligned" they are 2 d + 1/2.',
        running(_FinerLeft),
    ),
    Mistake(
        "the coarser map predicts its own offsets",
        "one map of offsets serves all branches, and it comes from the level itself.",
        running(_OwnOffsets),
    ),
    Mistake(
        "the neighbours get no offsets",
        "hand offset and mask to all three branches.",
        running(_Unsteered),
    ),
    Mistake("all branches share one convolution", "finer, own and coarser have their own.", running(_OneConvolution)),
)


def check_spatial(build: Callable[..., nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``SpatialAwareAttention``."""
    return _check(build, spatial_cases(seed), SPATIAL_MISTAKES)
