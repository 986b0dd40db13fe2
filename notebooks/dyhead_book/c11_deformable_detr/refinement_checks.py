"""Checks, mistakes and solutions of the chapter on Deformable DETR: refining boxes, matching, and the loss.

All functions take float64 tensors of one image. Boxes are (cx, cy, w, h), normalised. The right answers come from the
library's own matcher and criterion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, PaddedTargets, Predictions
from dyhead_lab.detectors.detr.prediction_heads import inverse_sigmoid, refine_boxes

from ..practice.reader_checks import Case, Mistake, Verdict, check

MATCHER = HungarianMatcher()  # Deformable DETR's: classes 2, L1 5, GIoU 2, focal


def _boxes(generator: torch.Generator, count: int) -> Tensor:
    centre = 0.3 + 0.4 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    size = 0.1 + 0.4 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
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


# Refining boxes


def _refine_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        Q = int(torch.randint(1, 6, (), generator=generator))
        correction = torch.randn(Q, 4, generator=generator, dtype=torch.float64)
        yield Case(f"{Q} boxes", (correction, _boxes(generator, Q)))


REFINE_MISTAKES = (
    Mistake(
        "the reference is not taken back to logits",
        "the reference lies in [0, 1] already: take its inverse sigmoid before you add the correction.",
        lambda c, r: (c + r).sigmoid(),
    ),
    Mistake(
        "the correction is added to the box itself",
        "corrections count in logits. Added in [0, 1] a box can leave the image.",
        lambda c, r: c + r,
    ),
    Mistake(
        "the reference is forgotten",
        "the head predicts a correction to the reference, not a box.",
        lambda c, r: c.sigmoid(),
    ),
    Mistake(
        "the last sigmoid is missing",
        "the sum is a logit: bring it to [0, 1].",
        lambda c, r: c + inverse_sigmoid(r),
    ),
    Mistake(
        "only the centre is refined",
        "all four numbers get a correction.",
        lambda c, r: torch.cat([refine_boxes(c, r)[:, :2], r[:, 2:]], -1),
    ),
    Mistake(
        "the correction is subtracted",
        "sigmoid(correction + inverse_sigmoid(reference)).",
        lambda c, r: refine_boxes(-c, r),
    ),
)


def check_refine(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``refine(correction_Q4, reference_Q4)``."""
    return check(function, refine_boxes, _refine_cases(seed), REFINE_MISTAKES)


# What it costs that a query answers for an object


def matching_cost(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    """2 * class cost + 5 * L1 - 2 * GIoU of every query and object, (Q, G)."""
    p_QG = logits_QK.sigmoid()[:, labels_G]
    yes_QG = 0.25 * (1 - p_QG) ** 2 * -(p_QG + 1e-8).log()
    no_QG = 0.75 * p_QG**2 * -(1 - p_QG + 1e-8).log()
    l1_QG = (boxes_Q4[:, None] - objects_G4).abs().sum(-1)
    giou_QG = generalized_iou(cxcywh_to_xyxy(boxes_Q4)[:, None], cxcywh_to_xyxy(objects_G4))
    return 2 * (yes_QG - no_QG) + 5 * l1_QG - 2 * giou_QG


def _library_cost(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    targets = PaddedTargets(labels_G[None], objects_G4[None], [len(labels_G)])
    return MATCHER.cost(Predictions(logits_QK[None], boxes_Q4[None]), targets)[0]


def _cost_parts(
    logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Class cost, L1 and GIoU of every query and object, (Q, G) each."""
    l1 = (boxes_Q4[:, None] - objects_G4).abs().sum(-1)
    giou = generalized_iou(cxcywh_to_xyxy(boxes_Q4)[:, None], cxcywh_to_xyxy(objects_G4))
    class_cost = (matching_cost(logits_QK, boxes_Q4, labels_G, objects_G4) - 5 * l1 + 2 * giou) / 2
    return class_cost, l1, giou


def _cost(combine: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A cost made of the right parts: ``combine(class_cost, l1, giou)``."""
    return lambda *arguments: combine(*_cost_parts(*arguments))


def _positive_part(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor) -> Tensor:
    """The cost without the part of the class cost that the query would pay anyway, as background."""
    _, l1, giou = _cost_parts(logits_QK, boxes_Q4, labels_G, objects_G4)
    p = logits_QK.sigmoid()[:, labels_G]
    return 2 * 0.25 * (1 - p) ** 2 * -(p + 1e-8).log() + 5 * l1 - 2 * giou


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
    cases = [Case(description, arguments) for description, arguments in draw_detections(seed, 10, (1, 4))]
    return check(function, _library_cost, cases, COST_MISTAKES)


# Who answers for whom


def assign(cost_QG: Tensor) -> Tensor:
    """The query of every object at the least total cost, (G,); no query answers for two."""
    query, object = linear_sum_assignment(cost_QG.numpy())
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
