"""Checks and mistakes of the chapter on Deformable DETR: what a match costs, and who answers for whom.

All functions take float64 tensors of one image. Boxes are (cx, cy, w, h), normalised. The right answers come from the
library's own matcher, and from SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, PaddedTargets, Predictions

from ..practice.reader_checks import Case, Mistake, Verdict, check

MATCHER = HungarianMatcher()  # Deformable DETR's: classes 2, L1 5, GIoU 2, focal


def _boxes(generator: torch.Generator, count: int) -> Tensor:
    """Boxes whose size is larger than their centre: read as two corners they are boxes too, though wrong ones."""
    centre = 0.03 + 0.42 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    size = centre + 0.01 + 0.24 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([centre, size], -1)


def draw_detections(seed: int, count: int, objects: tuple[int, int]) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """Description, and logits (Q, classes), boxes (Q, 4), labels (G,) and boxes (G, 4) of the objects."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        classes = int(torch.randint(2, 5, (), generator=generator))
        G = int(torch.randint(*objects, (), generator=generator))
        Q = G + int(torch.randint(1, 5, (), generator=generator))
        logits = 2 * torch.randn(Q, classes, generator=generator, dtype=torch.float64)
        labels = torch.randint(classes, (G,), generator=generator)
        arguments = logits, _boxes(generator, Q), labels, _boxes(generator, G)
        yield f"{Q} queries, {G} object(s), {classes} classes", arguments


# What it costs that a query answers for an object


def library_cost(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    """The library's matcher: 2 * class cost + 5 * L1 - 2 * GIoU of every query and object, (Q, G)."""
    targets = PaddedTargets(labels_G[None], objects_G4[None], [len(labels_G)])
    return MATCHER.cost(Predictions(logits_QK[None], boxes_Q4[None]), targets)[0]


def _cost_parts(
    logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Class cost, L1 and GIoU of every query and object, (Q, G) each."""
    l1 = (boxes_Q4[:, None] - objects_G4).abs().sum(-1)
    giou = generalized_iou(cxcywh_to_xyxy(boxes_Q4)[:, None], cxcywh_to_xyxy(objects_G4))
    class_cost = (library_cost(logits_QK, boxes_Q4, labels_G, objects_G4) - 5 * l1 + 2 * giou) / 2
    return class_cost, l1, giou


def _cost(combine: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A cost made of the right parts: ``combine(class_cost, l1, giou)``."""
    return lambda *arguments: combine(*_cost_parts(*arguments))


def _positive_part(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    """The cost without the part of the class cost that the query would pay anyway, as background."""
    _, l1, giou = _cost_parts(logits_QK, boxes_Q4, labels_G, objects_G4)
    p = logits_QK.sigmoid()[:, labels_G]
    return 2 * 0.25 * (1 - p) ** 2 * -(p + 1e-8).log() + 5 * l1 - 2 * giou


def _alpha_exchanged(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    _, l1, giou = _cost_parts(logits_QK, boxes_Q4, labels_G, objects_G4)
    p = logits_QK.sigmoid()[:, labels_G]
    class_cost = 0.75 * (1 - p) ** 2 * -(p + 1e-8).log() - 0.25 * p**2 * -(1 - p + 1e-8).log()
    return 2 * class_cost + 5 * l1 - 2 * giou


def _iou_cost(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    class_cost, l1, _ = _cost_parts(logits_QK, boxes_Q4, labels_G, objects_G4)
    return 2 * class_cost + 5 * l1 - 2 * box_iou(cxcywh_to_xyxy(boxes_Q4), cxcywh_to_xyxy(objects_G4))


def _centres_as_corners(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    class_cost, l1, _ = _cost_parts(logits_QK, boxes_Q4, labels_G, objects_G4)
    return 2 * class_cost + 5 * l1 - 2 * generalized_iou(boxes_Q4[:, None], objects_G4)


def _softmax_cost(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    _, l1, giou = _cost_parts(logits_QK, boxes_Q4, labels_G, objects_G4)
    return -2 * logits_QK.softmax(-1)[:, labels_G] + 5 * l1 - 2 * giou


def _corner_l1(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    class_cost, _, giou = _cost_parts(logits_QK, boxes_Q4, labels_G, objects_G4)
    l1 = (cxcywh_to_xyxy(boxes_Q4)[:, None] - cxcywh_to_xyxy(objects_G4)).abs().sum(-1)
    return 2 * class_cost + 5 * l1 - 2 * giou


def _giou_from_corners(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    class_cost, l1, _ = _cost_parts(logits_QK, boxes_Q4, labels_G, objects_G4)
    shifted = (torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], -1) for boxes in (boxes_Q4, objects_G4))
    queries, objects = shifted
    return 2 * class_cost + 5 * l1 - 2 * generalized_iou(queries[:, None], objects)


COST_MISTAKES = (
    Mistake(
        "GIoU is added instead of subtracted",
        "GIoU is large for a good box, a cost is small: subtract it.",
        _cost(lambda c, l1, giou: 2 * c + 5 * l1 + 2 * giou),
    ),
    Mistake(
        "the three costs are not weighted",
        "2 * classes + 5 * L1 - 2 * GIoU.",
        _cost(lambda c, l1, giou: c + l1 - giou),
    ),
    Mistake(
        "L1 is the mean of four differences",
        "sum over cx, cy, w and h.",
        _cost(lambda c, l1, giou: 2 * c + 5 * l1 / 4 - 2 * giou),
    ),
    Mistake(
        "classes are left out",
        "a query that is sure of another class must be expensive.",
        _cost(lambda c, l1, giou: 5 * l1 - 2 * giou),
    ),
    Mistake(
        "GIoU takes the centre of a box for its corner",
        "a box reaches from centre - size / 2 to centre + size / 2: cxcywh_to_xyxy first.",
        _giou_from_corners,
    ),
    Mistake(
        "GIoU reads (cx, cy, w, h) as two corners",
        "generalized_iou takes (x1, y1, x2, y2): cxcywh_to_xyxy both first.",
        _centres_as_corners,
    ),
    Mistake(
        "IoU stands in the place of GIoU",
        "IoU is zero for all boxes that do not touch, near or far. GIoU goes on: it subtracts the empty share of the "
        "hull.",
        _iou_cost,
    ),
    Mistake(
        "alpha is exchanged",
        "alpha = 0.25 weighs the yes, 1 - alpha = 0.75 the no: objects are rare, but so are confident queries.",
        _alpha_exchanged,
    ),
    Mistake("L1 is taken between corners", "L1 compares (cx, cy, w, h), as the box head predicts them.", _corner_l1),
    Mistake(
        "the class cost is minus a softmax probability",
        "that is DETR's. Deformable DETR has one sigmoid per class and a focal cost.",
        _softmax_cost,
    ),
    Mistake(
        "the focal cost lacks its second part",
        "subtract what the query would pay if it stayed background: 0.75 * p^2 * -log(1 - p).",
        _positive_part,
    ),
)


def check_cost(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``matching_cost(logits_QK, boxes_Q4, labels_G, objects_G4)``."""
    drawn = sorted(draw_detections(seed, 10, (1, 4)), key=lambda case: len(case[1][2]))  # from one object to three
    cases = [Case(description, arguments) for description, arguments in drawn]
    return check(function, library_cost, cases, COST_MISTAKES)


# Who answers for whom


def assign(cost_QG: Tensor) -> Tensor:
    """The query of every object at the least total cost, (G,); no query answers for two."""
    query, object = linear_sum_assignment(cost_QG.detach().numpy())
    return torch.from_numpy(query[object.argsort()])


def _one_after_another(cost_QG: Tensor) -> Tensor:
    cost, chosen = cost_QG.clone(), []
    for g in range(cost.shape[1]):
        chosen.append(int(cost[:, g].argmin()))
        cost[chosen[-1]] = torch.inf
    return torch.tensor(chosen)


def _cheapest_pair_first(cost_QG: Tensor) -> Tensor:
    cost, chosen = cost_QG.clone(), torch.zeros(cost_QG.shape[1], dtype=torch.long)
    for _ in range(cost.shape[1]):
        q, g = divmod(int(cost.argmin()), cost.shape[1])
        chosen[g] = q
        cost[q], cost[:, g] = torch.inf, torch.inf
    return chosen


def _assign_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        G = int(torch.randint(2, 5, (), generator=generator))
        Q = G + int(torch.randint(0, 3, (), generator=generator))
        wanted = torch.rand(Q, 1, generator=generator, dtype=torch.float64)  # some queries suit every object
        cost = wanted + torch.rand(Q, G, generator=generator, dtype=torch.float64)
        yield Case(f"{Q} queries, {G} objects", (cost,))


ASSIGN_MISTAKES = (
    Mistake(
        "every object takes its cheapest query",
        "two objects may want the same query. Each query answers for one object at most.",
        lambda cost: cost.argmin(0),
    ),
    Mistake(
        "the objects choose one after another",
        "an early object may take the only query that suits a later one. Compare the totals.",
        _one_after_another,
    ),
    Mistake(
        "the cheapest pair is taken first",
        "a cheap pair can force an expensive one. Compare the totals.",
        _cheapest_pair_first,
    ),
    Mistake(
        "SciPy's rows are returned as they come",
        "linear_sum_assignment sorts the pairs by query. query[object.argsort()] sorts them by object.",
        lambda cost: torch.from_numpy(linear_sum_assignment(cost.numpy())[0]),
    ),
    Mistake(
        "SciPy's columns are returned",
        "the second result counts the objects; the first one, in the order of the objects, is what is asked for.",
        lambda cost: torch.from_numpy(linear_sum_assignment(cost.numpy())[1]),
    ),
    Mistake("the total is made as large as possible", "costs are to be small.", lambda cost: assign(-cost)),
    Mistake(
        "the first queries are taken in their order",
        "queries have no order: object 0 has nothing to do with query 0.",
        lambda cost: torch.arange(cost.shape[1]),
    ),
)


def check_assign(function: Callable[..., Any], seed: int = 0) -> Verdict:
    """Check the reader's ``assign(cost_QG)``: the query of every object, (G,)."""
    return check(function, assign, _assign_cases(seed), ASSIGN_MISTAKES)
