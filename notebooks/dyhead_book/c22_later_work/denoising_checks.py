"""Checks and mistakes of denoising: who may read whom, and how far a true box is shaken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..practice.reader_checks import Case, Mistake, Verdict, check

# Who is hidden from whom


def hidden_formula(groups: int, objects: int, queries: int) -> Tensor:
    """Pair by pair: noised queries are hidden from ordinary ones and from the noised ones of other groups."""
    noised = groups * objects
    hidden = torch.zeros(noised + queries, noised + queries, dtype=torch.bool)
    for row in range(noised + queries):
        for column in range(noised):
            hidden[row, column] = row >= noised or row // objects != column // objects
    return hidden


def _mask_cases() -> Iterator[Case]:
    """The plainest first: one query of each kind; one group; several groups."""
    for groups, objects, queries in ((1, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 3), (3, 4, 5)):
        yield Case(f"{groups} group(s) of {objects}, {queries} ordinary queries", (groups, objects, queries))


def _blocks(of_noised: Callable[[int, int], Tensor], of_ordinary: bool = True) -> Callable[..., Tensor]:
    """A mask with ``of_noised(groups, objects)`` among the noised queries."""

    def imitate(groups: int, objects: int, queries: int) -> Tensor:
        hidden = torch.zeros_like(hidden_formula(groups, objects, queries))
        noised = groups * objects
        hidden[noised:, :noised] = of_ordinary
        hidden[:noised, :noised] = of_noised(groups, objects)
        return hidden

    return imitate


def _apart(group: Tensor) -> Tensor:
    return group[:, None] != group[None]


def _groups(groups: int, objects: int) -> Tensor:
    return _apart(torch.arange(groups).repeat_interleave(objects))


MASK_MISTAKES = (
    Mistake(
        "rows and columns are exchanged",
        "a row is who reads, a column who is read: the ordinary rows are closed for the noised columns.",
        lambda *sizes: hidden_formula(*sizes).mT,
    ),
    Mistake(
        "True stands where one may read",
        "PyTorch's attn_mask is True where a row must not read a column.",
        lambda *sizes: ~hidden_formula(*sizes),
    ),
    Mistake(
        "ordinary queries may read noised ones",
        "a noised query holds nearly the true box: whoever reads it is told the answer.",
        _blocks(_groups, of_ordinary=False),
    ),
    Mistake(
        "groups may read each other",
        "each group holds all objects: another group's query of the same object gives away what was shaken.",
        _blocks(lambda groups, objects: torch.zeros(groups * objects, groups * objects, dtype=torch.bool)),
    ),
    Mistake(
        "a noised query may read itself alone",
        "the queries of one group are different objects. They may read each other, as ordinary ones do.",
        _blocks(lambda groups, objects: ~torch.eye(groups * objects, dtype=torch.bool)),
    ),
    Mistake(
        "noised queries must not read ordinary ones",
        "ordinary queries know no truth, so there is nothing to hide: only their columns are all open.",
        lambda *sizes: hidden_formula(*sizes) | hidden_formula(*sizes).mT,
    ),
    Mistake(
        "the noised queries of one object are taken for a group",
        "a group is one noised copy of all objects: the first `objects` queries, then the next.",
        _blocks(lambda groups, objects: _apart(torch.arange(objects).repeat(groups))),
    ),
    Mistake(
        "the ordinary queries come first",
        "the noised ones do, in rows and in columns.",
        lambda groups, objects, queries: hidden_formula(groups, objects, queries).roll((queries, queries), (0, 1)),
    ),
)


def check_mask(function: Callable[[int, int, int], Tensor]) -> Verdict:
    """Check the reader's ``who_is_hidden(groups, objects, queries)``."""
    return check(function, hidden_formula, _mask_cases(), MASK_MISTAKES)


# How far a box is shaken

EDGE = 0.001


def shaken_formula(boxes: Tensor, random: Tensor, noise: float) -> Tensor:
    """Number by number, from DN-DETR's description."""
    cx, cy, w, h = boxes.unbind(-1)
    right, down, wider, higher = random.unbind(-1)
    moved = cx + noise * right * w / 2, cy + noise * down * h / 2
    return torch.stack([*moved, w * (1 + noise * wider), h * (1 + noise * higher)], -1).clamp(EDGE, 1 - EDGE)


def _shaken_cases(seed: int = 0) -> Iterator[Case]:
    """First no noise; then one thing at a time; boxes at the border last."""
    box = torch.tensor([[0.5, 0.4, 0.2, 0.3]], dtype=torch.float64)
    centre, size = (torch.tensor([x], dtype=torch.float64) for x in ([1.0, -0.5, 0, 0], [0, 0, 1.0, -0.5]))
    for words, random, noise in (
        ("no noise", centre, 0.0),
        ("the centre moves", centre, 0.4),
        ("the sides change", size, 0.4),
    ):
        yield Case(words, (box, random, noise))
    generator = torch.Generator().manual_seed(seed)
    for words, low, sides in (("boxes inside the image", 0.3, 0.2), ("boxes at its border", 0.0, 1.0)):
        drawn, random = torch.rand(2, 2, 3, 4, generator=generator, dtype=torch.float64)
        boxes = torch.cat([low + (1 - 2 * low) * drawn[..., :2], sides * drawn[..., 2:]], -1)
        yield Case(words, (boxes, 2 * random - 1, 0.4))


def _shaking(way: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """Centre and size from ``way(centre, size, how the centre moves, how the sides change)``."""

    def imitate(boxes: Tensor, random: Tensor, noise: float) -> Tensor:
        parts = way(*boxes.chunk(2, -1), *(noise * random).chunk(2, -1))
        return torch.cat(parts, -1).clamp(EDGE, 1 - EDGE)

    return imitate


SHAKEN_MISTAKES = (
    Mistake(
        "the centre moves by a share of the whole side",
        "at most noise times half of a side: so it stays inside the object.",
        _shaking(lambda c, s, shift, stretch: (c + shift * s, s * (1 + stretch))),
    ),
    Mistake(
        "the centre moves by a share of the image",
        "a small object would be lost: the step counts in sides of its own box.",
        _shaking(lambda c, s, shift, stretch: (c + shift, s * (1 + stretch))),
    ),
    Mistake(
        "the sides are multiplied by the noise itself",
        "by one plus the noise: without noise the box stays as it is.",
        _shaking(lambda c, s, shift, stretch: (c + shift * s / 2, s * stretch)),
    ),
    Mistake(
        "the noise is added to the sides",
        "sides are multiplied, so that a small box changes little and a large one much.",
        _shaking(lambda c, s, shift, stretch: (c + shift * s / 2, s + stretch)),
    ),
    Mistake(
        "the centre moves in sides of the shaken box",
        "take the sides of the true one.",
        _shaking(lambda c, s, shift, stretch: (c + shift * s * (1 + stretch) / 2, s * (1 + stretch))),
    ),
    Mistake(
        "the sides stay as they are",
        "two of the four random numbers are for width and height.",
        _shaking(lambda c, s, shift, stretch: (c + shift * s / 2, s)),
    ),
    Mistake(
        "nothing is clamped",
        "the logit of a box outside of 0 to 1 is NaN: clamp(0.001, 0.999).",
        lambda boxes, random, noise: torch.cat(
            [
                boxes[..., :2] + noise * random[..., :2] * boxes[..., 2:] / 2,
                boxes[..., 2:] * (1 + noise * random[..., 2:]),
            ],
            -1,
        ),
    ),
)


def check_shaken(function: Callable[[Tensor, Tensor, float], Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``shaken_boxes(boxes, random, noise)``."""
    return check(function, shaken_formula, _shaken_cases(seed), SHAKEN_MISTAKES)
