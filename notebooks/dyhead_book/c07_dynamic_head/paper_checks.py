"""Checks and mistakes of the chapter on the Dynamic Head: one tensor of all levels, and the paper's block on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dyhead_lab.attention import DyHead, PaperDyHeadBlock
from dyhead_lab.attention.paper import join_levels, split_levels
from dyhead_lab.attention.pyramid import resize_area

from ..practice.module_checks import drawn
from ..practice.reader_checks import Case, Mistake, Verdict, check
from .block_checks import CHANNELS, OFF, Levels, activated, in_order, pyramid

# One tensor of all levels


def _join_cases() -> Iterator[Case]:
    yield Case("three levels of one size", ([x[:, :, :1, :2] for x in pyramid(3, 4)],))
    yield Case("three levels", (pyramid(3, 4),))
    yield Case("four levels", (pyramid(4, 4),))


def _joined(
    median: Callable[[int], int] = lambda count: count // 2,
    resize: Callable[[Tensor, Any], Tensor] = resize_area,
    flatten: Callable[[Tensor], Tensor] = lambda x: x.flatten(2).transpose(1, 2),
    axis: int = 1,
) -> Callable[[Levels], Tensor]:
    """All levels stacked, with one of the steps replaced."""

    def imitate(levels: Levels) -> Tensor:
        size = levels[median(len(levels))].shape[-2:]
        return torch.stack([flatten(resize(x, size)) for x in levels], dim=axis)

    return imitate


JOIN_MISTAKES = (
    Mistake(
        "the finer of two middle levels is the median",
        "of four levels take number 2, the coarser one: levels[len(levels) // 2]. It costs a quarter.",
        _joined(median=lambda count: (count - 1) // 2),
    ),
    Mistake(
        "all levels are brought to the finest size",
        "the median level's size, levels[len(levels) // 2].",
        _joined(median=lambda count: 0),
    ),
    Mistake(
        "all levels are brought to the coarsest size",
        "the median level's size, levels[len(levels) // 2].",
        _joined(median=lambda count: count - 1),
    ),
    Mistake(
        "a finer level is sampled, not averaged",
        "a bilinear sample of a map four times as large skips most of its cells: take means where it shrinks.",
        _joined(resize=lambda x, size: F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)),
    ),
    Mistake(
        "the numbers are cut into rows of C without moving the channels",
        "(B, C, H, W) keeps a whole map of one channel together: flatten to (B, C, S), then transpose.",
        _joined(flatten=lambda x: x.reshape(len(x), -1, x.shape[1])),
    ),
    Mistake(
        "levels and images are exchanged",
        "stack along axis 1: (B, L, S, C).",
        _joined(axis=0),
    ),
)


def check_join(function: Callable[..., tuple[Tensor, tuple[int, int]]]) -> Verdict:
    """Check the reader's ``join_levels(levels)``: F (B, L, S, C) and the size (H, W)."""

    def joined(levels: Levels) -> Tensor:
        answer = function(levels)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError("join_levels gives two things: the tensor (B, L, S, C), and the size (H, W) of its places")
        return answer[0]

    return check(joined, lambda levels: join_levels(levels)[0], _join_cases(), JOIN_MISTAKES)


# One block of the paper's form


def _paper_cases() -> Iterator[Case]:
    size = (4, 6)
    F_BLSC = join_levels(pyramid(3))[0]
    plain = {"channels": CHANNELS, "num_levels": 3, "levels": "collapse"}
    yield Case("collapse, every attention off", ({**plain, **OFF}, F_BLSC, size))
    for name in OFF:
        yield Case(f"collapse, only {name} on", ({**plain, **OFF, name: True}, F_BLSC, size))
    yield Case("collapse, all on", (plain, F_BLSC, size))
    yield Case("residual, all on", ({**plain, "levels": "residual"}, F_BLSC, size))
    yield Case("depthwise", ({**plain, "levels": "residual", "depthwise": True}, F_BLSC, size))


def _weighed(block: Any, x: Tensor) -> Tensor:
    return x if block.scale is None else block.scale(x)


def _summed(block: Any, x: Tensor, size: Any) -> Tensor:
    total = block.spatial(x, size)
    return total if block.levels == "collapse" else x + total


def _spatial_first(block: Any, x: Tensor, size: Any) -> Tensor:
    total = block.spatial(x, size).expand_as(x)
    weighed = _weighed(block, total if block.levels == "collapse" else x + total)
    return activated(block, weighed[:, :1] if block.levels == "collapse" else weighed)


def _around_input(block: Any, x: Tensor, size: Any) -> Tensor:
    total = block.spatial(_weighed(block, x), size)
    return activated(block, total if block.levels == "collapse" else x + total)


PAPER_BLOCK_MISTAKES = (
    Mistake(
        "spatial-aware attention comes before scale-aware attention",
        "that is the released order. In the paper the levels are weighed before they are summed.",
        _spatial_first,
    ),
    Mistake(
        "the sum over levels is not added back",
        "levels='residual' adds it to every level, so that another block has levels to weigh.",
        lambda block, x, size: activated(block, block.spatial(_weighed(block, x), size)),
    ),
    Mistake(
        "the sum is added to the levels as they came in",
        "add it to the levels that scale-aware attention has weighed: F, not the block's input.",
        _around_input,
    ),
    Mistake(
        "the sum over levels is added back on collapse too",
        "levels='collapse' is the literal equation: (B, 1, S, C).",
        lambda block, x, size: activated(block, (w := _weighed(block, x)) + block.spatial(w, size)),
    ),
    Mistake(
        "the weights of the levels are left out",
        "pi_L comes first: it multiplies each level by its weight.",
        lambda block, x, size: activated(block, _summed(block, x, size)),
    ),
    Mistake(
        "task-aware attention comes before spatial-aware attention",
        "the order of equation 2, from the inside out: levels, space, channels.",
        lambda block, x, size: _summed(block, activated(block, _weighed(block, x)), size),
    ),
    Mistake(
        "task-aware attention is missing",
        "the last step activates; where it is off, ReLU.",
        lambda block, x, size: _summed(block, _weighed(block, x), size),
    ),
)


def check_paper_block(block: type[nn.Module]) -> Verdict:
    """Check the reader's ``PaperDyHeadBlock``."""
    swapped = (PAPER_BLOCK_MISTAKES[0], PAPER_BLOCK_MISTAKES[5])
    return in_order(block, PaperDyHeadBlock, list(_paper_cases()), PAPER_BLOCK_MISTAKES, "scale", swapped)


# From pyramid to pyramid


def _skip_cases() -> Iterator[Case]:
    plain = {"channels": CHANNELS, "form": "paper", "num_levels": 3}
    yield Case("levels of one size, one block", ({**plain, "blocks": 1}, [x[:, :, :2, :3] for x in pyramid(3)]))
    yield Case("three levels, one block", ({**plain, "blocks": 1}, pyramid(3)))
    yield Case("three levels, two blocks", ({**plain, "blocks": 2}, pyramid(3)))
    yield Case("collapse", ({**plain, "blocks": 1, "levels": "collapse"}, pyramid(3)))


def ending(skip: Callable[[Tensor, Tensor], Tensor], last: int | None = None) -> Callable[[Any, Levels], list[Tensor]]:
    """The paper's form that ends with ``skip(level, attended)``, both maps of one level, after ``last`` blocks."""

    def imitate(head: Any, levels: Levels) -> list[Tensor]:
        F_BLSC, size = join_levels(levels)
        for block in head.blocks[:last]:
            F_BLSC = block(F_BLSC, size)
        attended = split_levels(F_BLSC, size, len(levels))
        return [skip(x, y) for x, y in zip(levels, attended, strict=True)]

    return imitate


LEFT_OUT = Mistake(
    "the skip is left out",
    "the median's size is too coarse for the fine levels: x + resize(y) brings back what was lost.",
    ending(lambda x, y: resize_area(y, x.shape[-2:])),
)
SKIP_MISTAKES = (
    LEFT_OUT,
    Mistake(
        "the levels keep the median's size",
        "bring every attended level back to the size of the level that went in.",
        ending(lambda x, y: y),
    ),
    Mistake("the skip multiplies", "x + resize(y), a sum.", ending(lambda x, y: x * resize_area(y, x.shape[-2:]))),
    Mistake(
        "what is added has been through the median's size too",
        "add the level as it came in, not what it became in F: that has lost its detail already.",
        ending(lambda x, y: resize_area(resize_area(x, y.shape[-2:]) + y, x.shape[-2:])),
    ),
    Mistake(
        "only the first block runs",
        "F_BLSC = block(F_BLSC, size) for every block, one behind the other.",
        ending(lambda x, y: x + resize_area(y, x.shape[-2:]), last=1),
    ),
    Mistake(
        "maps are resized so that corner cells meet",
        "cells have areas: align_corners=False.",
        ending(lambda x, y: x + _corners(y, x.shape[-2:])),
    ),
)


def _corners(x: Tensor, size: Any) -> Tensor:
    if x.shape[-2] >= size[0]:
        return resize_area(x, size)
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def check_skip(function: Callable[[Any, Levels], list[Tensor]]) -> Verdict:
    """Check the reader's ``through_one_tensor(blocks, levels)``: maps in, as many maps out."""

    def run(of: Callable[[Any, Levels], Any]) -> Callable[..., Any]:
        def on_case(options: Any, levels: Levels) -> Any:
            with torch.no_grad():
                return of(drawn(DyHead, options), levels)

        return on_case

    mistakes = [Mistake(m.name, m.hint, run(m.imitate)) for m in SKIP_MISTAKES]
    own = run(lambda head, levels: function(head.blocks, levels))
    return check(own, run(lambda head, levels: head(levels)), _skip_cases(), mistakes)
