"""Checks and planted bugs of what a one-stage detector learns from: which place belongs to which object, two losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou

from ..practice.reader_checks import Case, Mistake, Verdict, check

# Which place belongs to which object


def assign_formula(points: Tensor, units: Tensor, reach: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """Every place of every level asked for itself, object by object; see :func:`check_assign`."""
    found = []
    for (x, y), unit, (least, most) in zip(points.tolist(), units.tolist(), reach.tolist(), strict=True):
        fitting = []
        for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            off_centre = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            if min(sides) > 0 and off_centre < radius * unit and least < max(sides) < most:
                fitting.append(((x2 - x1) * (y2 - y1), number))
        found.append(min(fitting)[1] if fitting else -1)
    return torch.tensor(found, dtype=torch.int64)


def _assign_cases(seed: int = 0) -> Iterator[Case]:
    """One object on one level, then objects that overlap, then levels, then a picture without objects."""
    generator = torch.Generator().manual_seed(seed)
    everything = (0.0, torch.inf)
    for objects, levels in ((1, 1), (1, 1), (2, 1), (3, 1), (1, 3), (3, 3), (5, 3), (0, 3)):
        corner = 64 * torch.rand(objects, 2, generator=generator, dtype=torch.float64)
        boxes = torch.cat([corner, corner + 12 + 70 * torch.rand(objects, 2, generator=generator).double()], 1)
        ranges = [everything] if levels == 1 else [(0.0, 32.0), (32.0, 64.0), (64.0, torch.inf)]
        parts = [_grid(8 * 2**level, 128) for level in range(levels)]
        units = torch.cat([torch.full((len(part),), 4.0 * 2**level).double() for level, part in enumerate(parts)])
        reach = torch.tensor([ranges[level] for level, part in enumerate(parts) for _ in part]).double()
        words = f"{objects} object{'s' * (objects != 1)}, {levels} level{'s' * (levels > 1)}"
        yield Case(words, (torch.cat(parts), units, reach, boxes, 3.0))


def _grid(stride: int, size: int) -> Tensor:
    steps = torch.arange(0, size, stride, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def _assign_variant(
    size: Callable[[Tensor, Tensor], Tensor] = lambda sides, boxes: sides.amax(-1),
    inside: Callable[[Tensor], Tensor] = lambda sides: sides.amin(-1) > 0,
    near: bool = True,
    in_pixels: bool = False,
    levels: bool = True,
    rank: Callable[[Tensor], Tensor] = lambda area: area,
    read: Callable[[Tensor], Tensor] = lambda boxes: boxes,
    background: int = -1,
) -> Callable[..., Tensor]:
    def imitate(points: Tensor, units: Tensor, reach: Tensor, boxes: Tensor, radius: float) -> Tensor:
        if not len(boxes):
            return torch.full((len(points),), background)
        boxes = read(boxes)
        sides = torch.cat([points[:, None] - boxes[:, :2], boxes[:, 2:] - points[:, None]], -1)
        fits = inside(sides)
        off_centre = (points[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(-1)
        if near:
            fits = fits & (off_centre < (torch.full_like(units, radius) if in_pixels else radius * units)[:, None])
        if levels:
            far = size(sides, boxes)
            fits = fits & (far > reach[:, :1]) & (far < reach[:, 1:])
        cost = torch.where(fits, rank((boxes[:, 2:] - boxes[:, :2]).prod(-1)), torch.inf)
        best, number = cost.min(1)
        return torch.where(best < torch.inf, number, background)

    return imitate


ASSIGN_MISTAKES = (
    Mistake(
        "every place of the box is taken, however far from its middle",
        "a place counts within `radius` units of the box's centre, in x and in y.",
        _assign_variant(near=False),
    ),
    Mistake("the radius is taken in pixels", "it counts in units of the level.", _assign_variant(in_pixels=True)),
    Mistake(
        "places outside the box are taken",
        "near a narrow box's centre lie places outside of it: the smallest of the four sides must be positive.",
        _assign_variant(inside=lambda sides: sides.amin(-1) > -torch.inf),
    ),
    Mistake(
        "all levels want every object",
        "the farthest of the four sides must lie between the two numbers of `reach`.",
        _assign_variant(levels=False),
    ),
    Mistake(
        "the nearest side decides the level",
        "the farthest of the four sides does: it is what the level has to predict.",
        _assign_variant(size=lambda sides, boxes: sides.amin(-1)),
    ),
    Mistake(
        "the longer side of the box decides the level",
        "the farthest of the four sides at this place does, which is between half and all of it.",
        _assign_variant(size=lambda sides, boxes: (boxes[:, 2:] - boxes[:, :2]).amax(-1).expand(sides.shape[:2])),
    ),
    Mistake("the largest object wins", "the smallest one does.", _assign_variant(rank=lambda area: -area)),
    Mistake(
        "the first object wins", "the one of the smallest area does.", _assign_variant(rank=lambda area: area * 0 + 1)
    ),
    Mistake(
        "the boxes are read as centre and size",
        "they are corners, x1, y1, x2, y2.",
        _assign_variant(read=cxcywh_to_xyxy),
    ),
    Mistake(
        "places without an object get 0",
        "0 is the first object: write -1 where there is none.",
        _assign_variant(background=0),
    ),
)


def check_assign(function: Callable[..., Tensor]) -> Verdict:
    """Check the reader's ``assign(points, units, reach, boxes, radius)``: the object of each place, (N,), or -1."""
    return check(function, assign_formula, _assign_cases(), ASSIGN_MISTAKES)


# The loss of the classes


def focal_formula(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    return sigmoid_focal_loss(logits, targets, alpha, gamma, reduction="sum")


def _focal_cases(seed: int = 0) -> Iterator[Case]:
    """One number with gamma 0, then with gamma, then maps of both kinds."""
    for logit, target, alpha, gamma in ((0.0, 1, 0.5, 0.0), (1.0, 1, 0.25, 0.0), (1.0, 0, 0.25, 0.0), (1.0, 1, 0.5, 2)):
        words = f"logit {logit:.0f}, target {target}, alpha {alpha}, gamma {gamma:.0f}"
        arguments = (torch.tensor([[logit]]).double(), torch.tensor([[float(target)]]).double(), alpha, float(gamma))
        yield Case(words, arguments)
    generator = torch.Generator().manual_seed(seed)
    for N, K in ((4, 1), (8, 3), (30, 5)):
        logits = 2 * torch.randn(N, K, generator=generator, dtype=torch.float64)
        targets = (torch.rand(N, K, generator=generator) < 0.3).double()
        yield Case(f"{N} places, {K} classes, alpha 0.25, gamma 2", (logits, targets, 0.25, 2.0))


def _focal_variant(
    weight: Callable[[Tensor, float], Tensor] = lambda targets, alpha: targets * alpha + (1 - targets) * (1 - alpha),
    factor: Callable[[Tensor, Tensor, float], Tensor] = lambda p, p_true, gamma: (1 - p_true) ** gamma,
    reduce: Callable[[Tensor], Tensor] = torch.sum,
) -> Callable[..., Tensor]:
    def imitate(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
        p = logits.sigmoid()
        p_true = targets * p + (1 - targets) * (1 - p)
        entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return reduce(weight(targets, alpha) * factor(p, p_true, gamma) * entropy)

    return imitate


FOCAL_MISTAKES = (
    Mistake(
        "alpha is exchanged",
        "alpha weighs the objects, 1 - alpha the background: 0.25 and 0.75.",
        _focal_variant(weight=lambda targets, alpha: targets * (1 - alpha) + (1 - targets) * alpha),
    ),
    Mistake(
        "alpha weighs both",
        "the background is weighed by 1 - alpha.",
        _focal_variant(weight=lambda targets, alpha: torch.full_like(targets, alpha)),
    ),
    Mistake("alpha is forgotten", "weigh objects by alpha, background by 1 - alpha.", _focal_variant(
        weight=lambda targets, alpha: torch.ones_like(targets))),
    Mistake(
        "the factor for easy places is missing",
        "multiply by (1 - p_t) ** gamma, p_t the probability of what is true.",
        _focal_variant(factor=lambda p, p_true, gamma: torch.ones_like(p)),
    ),
    Mistake(
        "hard places are turned down instead of easy ones",
        "(1 - p_t) ** gamma, not p_t ** gamma.",
        _focal_variant(factor=lambda p, p_true, gamma: p_true**gamma),
    ),
    Mistake(
        "the factor of the background is that of objects",
        "p_t is p where there is an object, and 1 - p where there is none.",
        _focal_variant(factor=lambda p, p_true, gamma: (1 - p) ** gamma),
    ),
    Mistake(
        "the mean is taken",
        "return the sum: what it is divided by is the number of positive places, not of all.",
        _focal_variant(reduce=torch.mean),
    ),
)  # fmt: skip


def check_focal_loss(function: Callable[..., Tensor]) -> Verdict:
    """Check the reader's ``focal_loss(logits, targets, alpha, gamma)``, summed over all places and classes."""
    return check(function, focal_formula, _focal_cases(), FOCAL_MISTAKES)


# The loss of the boxes


def giou_formula(found: Tensor, wanted: Tensor) -> Tensor:
    return (1 - generalized_iou(found, wanted)).sum()


def _giou_cases(seed: int = 0) -> Iterator[Case]:
    """Equal boxes, boxes apart, and boxes that overlap: first one pair, then many."""
    pairs = (
        ("equal boxes", (0, 0, 10, 10), (0, 0, 10, 10)),
        ("boxes that share half a side", (0, 0, 10, 10), (5, 0, 15, 10)),
        ("boxes apart in x", (0, 0, 10, 10), (20, 0, 30, 10)),
        ("boxes apart in x and y", (0, 0, 10, 10), (20, 30, 30, 50)),
    )
    for words, a, b in pairs:
        yield Case(f"{words}, {a} and {b}", tuple(torch.tensor([box], dtype=torch.float64) for box in (a, b)))
    generator = torch.Generator().manual_seed(seed)
    for n in (3, 12):
        corner, size = (60 * torch.rand(2, n, 2, generator=generator, dtype=torch.float64) + 5 for _ in range(2))
        yield Case(f"{n} pairs", tuple(torch.cat([c, c + s], 1) for c, s in zip(corner, size, strict=True)))


def _giou_variant(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda overlap, union, hull: (
        1 - overlap / union + (hull - union) / hull
    ),
    clamp: bool = True,
    subtract: bool = True,
    read: Callable[[Tensor], Tensor] = lambda boxes: boxes,
    reduce: Callable[[Tensor], Tensor] = torch.sum,
) -> Callable[[Tensor, Tensor], Tensor]:
    def imitate(found: Tensor, wanted: Tensor) -> Tensor:
        found, wanted = read(found), read(wanted)
        low, high = torch.maximum(found[:, :2], wanted[:, :2]), torch.minimum(found[:, 2:], wanted[:, 2:])
        overlap = ((high - low).clamp(min=0) if clamp else high - low).prod(-1)
        area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (found, wanted))
        union = area_a + area_b - (overlap if subtract else 0)
        low, high = torch.minimum(found[:, :2], wanted[:, :2]), torch.maximum(found[:, 2:], wanted[:, 2:])
        return reduce(loss(overlap, union, (high - low).prod(-1)))

    return imitate


GIOU_MISTAKES = (
    Mistake(
        "IoU stands for GIoU",
        "boxes apart all have IoU 0, and its gradient is 0 too: subtract (hull - union) / hull.",
        _giou_variant(loss=lambda overlap, union, hull: 1 - overlap / union),
    ),
    Mistake(
        "the empty share of the hull is rewarded",
        "GIoU = IoU - (hull - union) / hull, so the loss grows by that share.",
        _giou_variant(loss=lambda overlap, union, hull: 1 - overlap / union - (hull - union) / hull),
    ),
    Mistake(
        "the empty part is divided by the union",
        "divide hull - union by the hull.",
        _giou_variant(loss=lambda overlap, union, hull: 1 - overlap / union + (hull - union) / union),
    ),
    Mistake(
        "GIoU itself is returned",
        "a loss falls as boxes improve: 1 - GIoU.",
        _giou_variant(loss=lambda overlap, union, hull: overlap / union - (hull - union) / hull),
    ),
    Mistake(
        "boxes apart overlap in a negative width times a negative height",
        "clamp width and height of the overlap at 0 before you multiply.",
        _giou_variant(clamp=False),
    ),
    Mistake(
        "the overlap is counted twice in the union", "union = both areas - overlap.", _giou_variant(subtract=False)
    ),
    Mistake(
        "the boxes are read as centre and size",
        "they are corners, x1, y1, x2, y2.",
        _giou_variant(read=cxcywh_to_xyxy),
    ),
    Mistake(
        "the mean is taken", "return the sum over the pairs.", _giou_variant(reduce=torch.mean)
    ),
)  # fmt: skip


def check_giou_loss(function: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Check the reader's ``giou_loss(found, wanted)`` of boxes (n, 4), summed over the pairs.

    A tiny number that guards a division is no mistake.
    """
    return check(function, giou_formula, _giou_cases(), GIOU_MISTAKES, tolerance=1e-6)
