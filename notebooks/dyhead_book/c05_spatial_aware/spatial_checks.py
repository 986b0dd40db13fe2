"""Checks of the functions of the chapter on spatial-aware attention, and the mistakes that they name.

Tensors are float64. Letters: B images, L levels, C channels, H, W size of the level that has the offsets, h, w size of
its coarser neighbour. Offsets are (dy, dx) per tap, in cells of the level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dyhead_lab.attention.pyramid import resize_corners
from dyhead_lab.attention.spatial import KERNEL, TAPS, fit_offsets
from dyhead_lab.ops import formula

from ..practice.reader_checks import Case, Mistake, Verdict, check

# The paper's form: one deformable convolution over all levels


def paper_spatial_formula(F_BLCHW: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """1/L sum_l sum_k w_{l,k} F(l; p + p_k + dp_k) dm_k; ``weight`` is (L, Co, C, 3, 3), the result (B, Co, H, W)."""
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


# A level's offsets on the grids of its neighbours


def neighbours_formula(offset: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets for the finer convolution, offsets and masks for the coarser one; the size of the level is even.

    Cell i of the level has its centre at finer cell 2 i + 1/2, where the convolution stands on 2 i; an offset d leads
    2 d finer cells further. A coarser cell lies in the middle of four cells, and d is half of its width.
    """
    H, W = offset.shape[-2:]
    coarser, mask = fit_offsets(offset, mask, torch.Size((H // 2, W // 2)), "centres")
    return 2 * offset + 0.5, coarser, mask


def neighbours_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """From offsets that are all alike to any offsets, then any masks, then two images."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        B, H, W = 1 + number // 3 % 2, 4 + 2 * (number % 3), 8
        offset = torch.randn(B, 2 * TAPS, H, W, generator=generator, dtype=torch.float64)
        mask = torch.rand(B, TAPS, H, W, generator=generator, dtype=torch.float64)
        if number == 0:
            offset, mask = torch.full_like(offset, 4.0), torch.full_like(mask, 0.8)
        elif number == 1:
            mask = torch.ones_like(mask)
        what = ("offsets of 4, masks of 0.8", "any offsets, masks of one")[number] if number < 2 else f"{B} images"
        yield Case(f"{what}, {H} x {W} cells", (offset, mask))


def _neighbours(
    finer: Callable[[Tensor], Tensor] = lambda d: 2 * d + 0.5,
    smaller: Callable[[Tensor], Tensor] = lambda x: F.avg_pool2d(x, 2),
    coarser: float = 0.5,
    masks: float = 1.0,
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The right fit with some of its steps replaced."""
    return lambda offset, mask: (finer(offset), coarser * smaller(offset), masks * smaller(mask))


def _corner_aligned(x: Tensor) -> Tensor:
    return resize_corners(x, (x.shape[-2] // 2, x.shape[-1] // 2))


def _flat(x: Tensor) -> Tensor:
    B, K, H, W = x.shape
    return x.flatten(1)[:, : K * H * W // 4].view(B, K, H // 2, W // 2)


NEIGHBOURS_MISTAKES = (
    Mistake(
        "the coarser offsets are not halved",
        "offsets count cells, and a cell of the coarser level is twice as wide.",
        _neighbours(coarser=1),
    ),
    Mistake("the coarser offsets are doubled", "a wider cell needs a smaller number: halve.", _neighbours(coarser=2)),
    Mistake(
        "the masks are halved too",
        "a mask is a share, not a distance: it stays as it is.",
        _neighbours(masks=0.5),
    ),
    Mistake(
        "the top-left corner is cut out",
        "resize the maps; cut nothing off.",
        _neighbours(smaller=lambda x: x[..., : x.shape[-2] // 2, : x.shape[-1] // 2]),
    ),
    Mistake(
        "the numbers are read as if they already had the smaller size",
        "that is what the released kernel does; resize the maps instead.",
        _neighbours(smaller=_flat),
    ),
    Mistake(
        "corner cells are put on corner cells",
        "a coarser cell has its centre in the middle of four cells, not on one of them: align_corners=False.",
        _neighbours(smaller=_corner_aligned),
    ),
    Mistake(
        "every other cell is taken",
        "the centre of a coarser cell lies between four cells; take the mean of all four.",
        _neighbours(smaller=lambda x: x[..., ::2, ::2]),
    ),
    Mistake(
        "the finer offsets are left as they are",
        "an offset of 1 is one cell of the level, and two cells of the finer one.",
        _neighbours(finer=lambda d: d),
    ),
    Mistake(
        "the finer offsets are only doubled",
        "with stride 2 the convolution stands on finer cell 2 i, but cell i of the level has its centre at 2 i + 1/2.",
        _neighbours(finer=lambda d: 2 * d),
    ),
    Mistake(
        "the finer offsets are halved",
        "finer cells are narrower: the same distance is a larger number.",
        _neighbours(finer=lambda d: d / 2 + 0.5),
    ),
    Mistake(
        "the half cell is added before doubling",
        "2 d + 1/2: the half is half a cell of the finer level.",
        _neighbours(finer=lambda d: 2 * (d + 0.5)),
    ),
)


def check_neighbours(function: Callable[..., tuple[Tensor, Tensor, Tensor]], seed: int = 0) -> Verdict:
    """Check the reader's ``offsets_for_neighbours(offset, mask)``."""
    return check(function, neighbours_formula, neighbours_cases(seed), NEIGHBOURS_MISTAKES)


# What the flat reading takes for an offset


def _source(number: int, H: int, W: int) -> tuple[int, int, int]:
    """Channel, row and column of a number in maps of H x W."""
    return number // (H * W), number // W % H, number % W


def flat_source_formula(channel: int, row: int, column: int, h: int, w: int, H: int, W: int) -> tuple[int, int, int]:
    """Which number of a fine map (channels, H, W) stands at a place of its prefix (channels, h, w): found by looking.

    Every place of the fine map is numbered, and its prefix is read.
    """
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
        lambda c, i, j, h, w, H, W: _source((c * H + i) * W + j, h, w),
    ),
    Mistake(
        "the row is not wrapped",
        "number // W counts rows through all channels: take it modulo H.",
        lambda c, i, j, h, w, H, W: (
            ((c * h + i) * w + j) // (H * W),
            ((c * h + i) * w + j) // W,
            ((c * h + i) * w + j) % W,
        ),
    ),
    Mistake(
        "columns are counted before rows",
        "the last letter runs fastest: columns are neighbours in memory.",
        lambda c, i, j, h, w, H, W: _source((c * w + j) * h + i, H, W),
    ),
)


def check_flat_source(function: Callable[..., tuple[int, int, int]], seed: int = 0) -> Verdict:
    """Check the reader's ``flat_source(channel, row, column, h, w, H, W)``."""
    return check(function, flat_source_formula, flat_cases(seed), FLAT_MISTAKES)
