"""Checks and mistakes of the chapter on the Dynamic Head: its released block, and the stack of blocks.

Modules are compared with the library's, filled with the same weights; see ``practice/module_checks.py``. A mistake
takes the library's module and the inputs, and gives what comes out with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dyhead_lab.attention import DyHead, DyHeadBlock
from dyhead_lab.attention.scale import mean_of_branches

from ..practice.module_checks import check_module, drawn, filled
from ..practice.reader_checks import Case, Mistake, Verdict, because, raises

CHANNELS = 16  # the fewest that GroupNorm with 16 groups takes
SIZES = ((8, 12), (4, 6), (2, 3), (1, 2))
Levels = Sequence[Tensor]
OFF = {"scale": False, "spatial": False, "task": False}


class Shifted(nn.Module):
    """An attention for the argument ``extra``: without weights, and not to be overlooked."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, levels: Levels) -> list[Tensor]:
        return [0.5 * level + levels[-1].mean((2, 3), keepdim=True) for level in levels]


def pyramid(levels: int, channels: int = CHANNELS, seed: int = 0) -> list[Tensor]:
    """Maps (2, C, H, W) in float64, fine to coarse."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, *size, generator=generator, dtype=torch.float64) for size in SIZES[:levels]]


# One block of the released form


def _block_cases() -> Iterator[Case]:
    yield Case("one level, every attention off", ({"channels": CHANNELS, **OFF}, pyramid(1)))
    yield Case("three levels, every attention off", ({"channels": CHANNELS, **OFF}, pyramid(3)))
    for name in OFF:
        yield Case(f"three levels, only {name} on", ({"channels": CHANNELS, **OFF, name: True}, pyramid(3)))
    yield Case("four levels, all on", ({"channels": CHANNELS}, pyramid(4)))
    yield Case("offset_fit='upsample'", ({"channels": CHANNELS, "offset_fit": "upsample"}, pyramid(3)))
    yield Case("with an extra attention", ({"channels": CHANNELS, "extra": Shifted}, pyramid(3)))


def fuse_branches(block: Any, branches: Levels) -> Tensor:
    return mean_of_branches(branches) if block.scale is None else block.scale(branches)


def activated(block: Any, x: Tensor) -> Tensor:
    return F.relu(x) if block.task is None else block.task(x)


def _of_level(block: Any, levels: Levels, l: int) -> Tensor:
    finer = levels[l - 1] if l > 0 else None
    coarser = levels[l + 1] if l + 1 < len(levels) else None
    return activated(block, fuse_branches(block, block.spatial(levels[l], finer, coarser)))


def _entered(block: Any, levels: Levels) -> list[Tensor]:
    """The levels as they are when the extra attention has passed."""
    return list(levels if block.extra is None else block.extra(levels))


def _in_place(block: Any, levels: Levels) -> list[Tensor]:
    outputs = _entered(block, levels)
    for l in range(len(outputs)):
        outputs[l] = _of_level(block, outputs, l)
    return outputs


def _wrapped(block: Any, levels: Levels) -> list[Tensor]:
    levels = _entered(block, levels)
    around = [levels[-1], *levels] if len(levels) > 1 else levels
    return [_of_level(block, around, l) for l in range(len(around))][-len(levels) :]


def _with(
    spatial: Callable[..., Any] = lambda block, own, finer, coarser: block.spatial(own, finer, coarser),
    fuse: Callable[..., Any] = fuse_branches,
    activate: Callable[..., Any] = activated,
    enter: Callable[..., Any] = _entered,
) -> Callable[[Any, Levels], list[Tensor]]:
    """A block with one of its steps replaced."""

    def imitate(block: Any, levels: Levels) -> list[Tensor]:
        levels = enter(block, levels)
        padded = [None, *levels, None]
        return [
            activate(block, fuse(block, spatial(block, padded[l], padded[l - 1], padded[l + 1])))
            for l in range(1, len(levels) + 1)
        ]

    return imitate


def _scale_first(block: Any, own: Tensor, finer: Tensor | None, coarser: Tensor | None) -> list[Tensor]:
    return block.spatial(*(x if x is None else fuse_branches(block, [x]) for x in (own, finer, coarser)))


PAPERS_ORDER = Mistake(
    "scale-aware attention comes before spatial-aware attention",
    "that is the paper's order. In the released block the spatial step makes the branches, and the gates weigh them.",
    _with(spatial=_scale_first, fuse=lambda block, branches: mean_of_branches(branches)),
)
TASK_FIRST = Mistake(
    "task-aware attention comes before scale-aware attention",
    "the released order is spatial, scale, task: first fuse the branches, then activate.",
    _with(
        fuse=lambda block, branches: fuse_branches(block, [activated(block, x) for x in branches]),
        activate=lambda block, x: x,
    ),
)
BLOCK_MISTAKES = (
    Mistake(
        "a level reads what its neighbour has just become",
        "all levels read the input of the block: do not write into `levels`.",
        _in_place,
    ),
    Mistake(
        "the finer and the coarser neighbour are swapped",
        "levels go fine to coarse: the finer neighbour of l is l - 1.",
        _with(spatial=lambda block, own, finer, coarser: block.spatial(own, coarser, finer)),
    ),
    Mistake(
        "the finest level takes the coarsest one for its finer neighbour",
        "levels[-1] is the last element in Python: at l = 0 the finer neighbour is None.",
        _wrapped,
    ),
    Mistake(
        "the coarser neighbour is left out",
        "pass levels[l + 1], and None only for the last level.",
        _with(spatial=lambda block, own, finer, coarser: block.spatial(own, finer, None)),
    ),
    PAPERS_ORDER,
    TASK_FIRST,
    Mistake(
        "the activation is missing where task-aware attention is off",
        "without task-aware attention the block ends with ReLU, as plain convolutions do.",
        _with(activate=lambda block, x: x if block.task is None else block.task(x)),
    ),
    Mistake("task-aware attention is missing", "the last step activates the map.", _with(activate=lambda block, x: x)),
    Mistake(
        "the branches are summed where scale-aware attention is off",
        "gates of one leave the mean of the branches that are present.",
        _with(fuse=lambda block, branches: sum(branches) if block.scale is None else block.scale(branches)),
    ),
    Mistake(
        "the extra attention is left out",
        "if there is one, it comes first, and takes all levels at once.",
        _with(enter=lambda block, levels: levels),
    ),
)


def check_block(block: type[nn.Module]) -> Verdict:
    """Check the reader's ``DyHeadBlock``: its names, its weights, and what it gives."""
    return in_order(block, DyHeadBlock, list(_block_cases()), BLOCK_MISTAKES, "spatial", (PAPERS_ORDER, TASK_FIRST))


def in_order(
    own: Any, library: Any, cases: Sequence[Case], mistakes: Sequence[Mistake], first: str, named: Sequence[Mistake]
) -> Verdict:
    """A check that knows a wrong order even where its shapes do not fit, so that the reader's code raises.

    Args:
        first: the attention that has to come first.
        named: the mistake of the other of scale and spatial that comes first, and that of task.
    """
    verdict = check_module(own, library, cases, mistakes)
    if not raises(verdict):
        return verdict
    begins = _first_called(own, library, next(case for case in cases if "all on" in case.description))
    if begins in (None, first):
        return verdict
    mistake = named[1] if begins == "task" else named[0]
    return because(verdict, mistake.name, mistake.hint)


def _first_called(own: Any, library: Any, case: Case) -> str | None:
    """Which of its three attentions the reader's block calls first, whether it comes to its end or not."""
    called: list[str] = []
    options, *inputs = case.arguments
    module = filled(own(**options), drawn(library, options).state_dict())
    for name in OFF:
        module.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
    with torch.no_grad(), suppress(Exception):
        module(*inputs)
    return called[0] if called else None


# The stack


def _head_cases() -> Iterator[Case]:
    plain = {"channels": CHANNELS, "blocks": 1}
    paper = {"form": "paper", "num_levels": 3}
    yield Case("released, one block", (plain, pyramid(3)))
    yield Case("released, two blocks", ({**plain, "blocks": 2}, pyramid(3)))
    yield Case("released, without spatial-aware attention", ({**plain, "spatial": False}, pyramid(3)))
    yield Case("paper, one block", ({**plain, **paper}, pyramid(3)))
    yield Case("paper, two blocks", ({**plain, **paper, "blocks": 2}, pyramid(3)))
    yield Case("paper, collapse, two blocks", ({**plain, **paper, "blocks": 2, "levels": "collapse"}, pyramid(3)))


def _paper_with(skip: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Levels], list[Tensor]]:
    """The head whose paper's form ends with ``skip(level, attended)``, both maps of one level."""

    def imitate(head: Any, levels: Levels) -> list[Tensor]:
        outputs = head(levels)
        if head.form == "released":
            return outputs
        return [skip(x, y - x) for x, y in zip(levels, outputs, strict=True)]

    return imitate


def _always_from_start(head: Any, levels: Levels) -> list[Tensor]:
    return head.blocks[-1](levels) if head.form == "released" else head(levels)


def _each_once_more(head: Any, levels: Levels) -> list[Tensor]:
    outputs = head(levels)
    return [x + y for x, y in zip(levels, outputs, strict=True)] if head.form == "released" else outputs


HEAD_MISTAKES = (
    Mistake(
        "every block reads the pyramid, not what the block before gave",
        "levels = block(levels): what one block gives the next one takes.",
        _always_from_start,
    ),
    Mistake(
        "the skip of the paper's form is left out",
        "the median's size is too coarse for the fine levels: x + resize(y) brings back what was lost.",
        _paper_with(lambda x, y: y),
    ),
    Mistake("the skip multiplies", "x + resize(y), a sum.", _paper_with(lambda x, y: x * y)),
    Mistake(
        "the skip of the paper's form is there twice",
        "through_one_tensor adds what came in already.",
        _paper_with(lambda x, y: 2 * x + y),
    ),
    Mistake(
        "the released form has a skip too",
        "only the paper's form leaves the sizes of the levels; the released blocks end with what they give.",
        _each_once_more,
    ),
)


def check_head(head: type[nn.Module]) -> Verdict:
    """Check the reader's ``DyHead`` in both forms, on pyramids that are lists and pyramids that are dicts."""
    verdict = check_module(head, DyHead, _head_cases(), HEAD_MISTAKES)
    if not verdict:
        return verdict
    named = {f"p{3 + l}": level.float() for l, level in enumerate(pyramid(3))}
    with torch.no_grad():
        answer = head(CHANNELS, 1)(named)
    if not isinstance(answer, Mapping) or list(answer) != list(named):
        return Verdict(
            False, "A pyramid that comes as a dict goes as a dict with the same names: dict(zip(pyramid, …))."
        )
    return verdict
