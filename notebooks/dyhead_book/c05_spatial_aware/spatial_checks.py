"""Checks, mistakes and solutions of the chapter on spatial-aware attention.

Tensors are float64. Letters: B images, L levels, C channels, H, W size of the level that has the offsets, h, w size of
its coarser neighbour. Offsets are (dy, dx) per tap, in cells of the level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dyhead_lab.attention.spatial import KERNEL, TAPS, fit_offsets
from dyhead_lab.ops import deform_conv2d, formula

from ..practice.reader_checks import Case, Mistake, Verdict, check

# The paper's form: one deformable convolution over all levels


def paper_spatial(F_BLCHW: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """1/L sum_l sum_k w_{l,k} F(l; p + p_k + dp_k) dm_k; ``weight`` is (L, Co, C, 3, 3), the result (B, Co, H, W)."""
    L = F_BLCHW.shape[1]
    total = torch.zeros(1, dtype=F_BLCHW.dtype)
    for l in range(L):
        total = total + deform_conv2d(F_BLCHW[:, l], offset, weight[l], padding=1, mask=mask)
    return total / L


def paper_spatial_formula(F_BLCHW: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """The same at once: levels are channels too."""
    L, Co = weight.shape[:2]
    joined = weight.transpose(0, 1).reshape(Co, -1, KERNEL, KERNEL) / L
    return formula.deform_conv2d(F_BLCHW.flatten(1, 2), offset, joined, padding=(1, 1), mask=mask)


def paper_spatial_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for number in range(count):
        B, L, C, Co, H, W = 1 + number % 2, 2 + number % 3, 3, 2, 5, 4 + number % 3
        arrays = (
            draw(B, L, C, H, W),
            2 * draw(B, 2 * TAPS, H, W),
            draw(B, TAPS, H, W).sigmoid(),
            draw(L, Co, C, KERNEL, KERNEL),
        )
        yield Case(f"{L} levels of {B} x {C} x {H} x {W}", arrays)


def _swapped(offset: Tensor) -> Tensor:
    return offset.unflatten(1, (TAPS, 2)).flip(2).flatten(1, 2)


PAPER_SPATIAL_MISTAKES = (
    Mistake(
        "the levels are added, not averaged",
        "the formula begins with 1 / L.",
        lambda x, dp, dm, w: paper_spatial_formula(x, dp, dm, w) * len(w),
    ),
    Mistake(
        "all levels share the weights of the first",
        "w_{l,k}: every level has weights of its own.",
        lambda x, dp, dm, w: paper_spatial_formula(x, dp, dm, w[:1].expand_as(w)),
    ),
    Mistake(
        "the order of the levels is reversed",
        "weight l belongs to level l; both run from fine to coarse.",
        lambda x, dp, dm, w: paper_spatial_formula(x, dp, dm, w.flip(0)),
    ),
    Mistake(
        "the mask is missing",
        "multiply every sample by dm_k.",
        lambda x, dp, dm, w: paper_spatial_formula(x, dp, torch.ones_like(dm), w),
    ),
    Mistake(
        "the mask goes through another softmax",
        "the masks arrive in [0, 1]; use them as they are.",
        lambda x, dp, dm, w: paper_spatial_formula(x, dp, dm.softmax(1), w),
    ),
    Mistake(
        "the offsets are forgotten",
        "every tap reads at p + p_k + dp_k.",
        lambda x, dp, dm, w: paper_spatial_formula(x, 0 * dp, dm, w),
    ),
    Mistake(
        "x and y are swapped in the offsets",
        "of each tap's two channels the first is dy, the second dx.",
        lambda x, dp, dm, w: paper_spatial_formula(x, _swapped(dp), dm, w),
    ),
    Mistake(
        "only the first level is read",
        "sum over all levels l.",
        lambda x, dp, dm, w: paper_spatial_formula(x[:, :1], dp, dm, w[:1]),
    ),
)


def check_paper_spatial(function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``paper_spatial(F_BLCHW, offset, mask, weight)``."""
    return check(function, paper_spatial_formula, paper_spatial_cases(seed), PAPER_SPATIAL_MISTAKES)


# A level's offsets on the grid of its coarser neighbour


def resized_offsets(offset: Tensor, mask: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
    """Offsets (B, 18, 2h, 2w) and masks (B, 9, 2h, 2w) read at the centres of h x w coarser cells; offsets are halved.

    A cell of the coarser level covers two by two cells of this one, and its centre lies in their middle.
    """
    smaller = F.interpolate(offset, size=(h, w), mode="bilinear", align_corners=False) / 2
    return smaller, F.interpolate(mask, size=(h, w), mode="bilinear", align_corners=False)


def _library(offset_fit: str) -> Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]:
    return lambda offset, mask, h, w: fit_offsets(offset, mask, torch.Size((h, w)), offset_fit)


def offset_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """Fine grids of twice the coarse size."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        B, h, w = 1 + number % 2, 3 + number % 3, 4
        H, W = 2 * h, 2 * w
        offset = torch.randn(B, 2 * TAPS, H, W, generator=generator, dtype=torch.float64)
        mask = torch.rand(B, TAPS, H, W, generator=generator, dtype=torch.float64)
        yield Case(f"from {H} x {W} to {h} x {w} cells", (offset, mask, h, w))


def _scaled(offset_by: float, mask_by: float) -> Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]:
    def imitate(offset: Tensor, mask: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
        smaller, mask = resized_offsets(offset, mask, h, w)
        return offset_by * smaller, mask_by * mask

    return imitate


def _every_other(offset: Tensor, mask: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
    return offset[:, :, ::2, ::2] / 2, mask[:, :, ::2, ::2]


OFFSET_MISTAKES = (
    Mistake(
        "the offsets are not halved",
        "offsets count cells, and a cell of the coarser level is twice as wide.",
        _scaled(2, 1),
    ),
    Mistake("the offsets are doubled", "a wider cell needs a smaller number: halve.", _scaled(4, 1)),
    Mistake(
        "the masks are halved too",
        "a mask is a share, not a distance: it stays as it is.",
        _scaled(1, 0.5),
    ),
    Mistake("the top-left corner is cut out", "resize the maps; cut nothing off.", _library("crop")),
    Mistake(
        "the numbers are read as if they already had the smaller size",
        "that is what the released kernel does; resize the maps instead.",
        _library("flat"),
    ),
    Mistake(
        "corner cells are put on corner cells",
        "a coarser cell has its centre in the middle of four cells, not on one of them: align_corners=False.",
        _library("resize"),
    ),
    Mistake(
        "every other cell is taken",
        "the centre of a coarser cell lies between four cells; take the mean of all four.",
        _every_other,
    ),
)


def check_resized_offsets(function: Callable[..., tuple[Tensor, Tensor]], seed: int = 0) -> Verdict:
    """Check the reader's ``resized_offsets(offset, mask, h, w)``."""
    return check(function, _library("centres"), offset_cases(seed), OFFSET_MISTAKES)


# What the flat reading takes for an offset


def flat_source(channel: int, row: int, column: int, h: int, w: int, H: int, W: int) -> tuple[int, int, int]:
    """Which number of a fine map (channels, H, W) stands at (channel, row, column) of its prefix (channels, h, w)."""
    number = (channel * h + row) * w + column
    return number // (H * W), number // W % H, number % W


def flat_source_formula(channel: int, row: int, column: int, h: int, w: int, H: int, W: int) -> tuple[int, int, int]:
    """The same by looking: number every place of the fine map and read its prefix."""
    channels = 2 * TAPS
    prefix = torch.arange(channels * H * W).view(1, channels, H, W)
    numbers, _ = fit_offsets(prefix, prefix, torch.Size((h, w)), "flat")
    place = (prefix[0] == numbers[0, channel, row, column]).nonzero()[0]
    return int(place[0]), int(place[1]), int(place[2])


def flat_cases(seed: int = 0, count: int = 20) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)

    def below(end: int) -> int:
        return int(torch.randint(end, (), generator=generator))

    for _ in range(count):
        h, w = 3 + below(3), 6 + below(3)
        place = (below(2 * TAPS - 2) + 2, below(h), below(w))
        yield Case(
            f"channel, row, column {place} of {h} x {w}, fine map {2 * h} x {2 * w}", (*place, h, w, 2 * h, 2 * w)
        )


FLAT_MISTAKES = (
    Mistake(
        "the channel is kept",
        "four small maps fit into one large one, so the channels move as well.",
        lambda c, i, j, h, w, H, W: (c, (i * w + j) // W, (i * w + j) % W),
    ),
    Mistake(
        "the corner is taken",
        "the kernel counts numbers in memory; it does not look at rows.",
        lambda c, i, j, h, w, H, W: (c, i, j),
    ),
    Mistake(
        "the two sizes are swapped",
        "count with the small size, (channel * h + row) * w + column; take apart with the large one.",
        lambda c, i, j, h, w, H, W: flat_source(c, i, j, H, W, h, w),
    ),
    Mistake(
        "the row is not wrapped",
        "number // W counts rows through all channels: take it modulo H.",
        lambda c, i, j, h, w, H, W: (
            flat_source(c, i, j, h, w, H, W)[0],
            ((c * h + i) * w + j) // W,
            flat_source(c, i, j, h, w, H, W)[2],
        ),
    ),
    Mistake(
        "columns are counted before rows",
        "the last letter runs fastest: columns are neighbours in memory.",
        lambda c, i, j, h, w, H, W: flat_source(c, j, i, w, h, H, W),
    ),
)


def check_flat_source(function: Callable[..., tuple[int, int, int]], seed: int = 0) -> Verdict:
    """Check the reader's ``flat_source(channel, row, column, h, w, H, W)``."""
    return check(function, flat_source_formula, flat_cases(seed), FLAT_MISTAKES)
