"""The loss of set prediction: check, mistakes and solution. All of one image, in float64 tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou

from ..practice.reader_checks import Case, Mistake, Verdict, check
from .refinement_checks import assign, draw_detections, matching_cost

Losses = tuple[Tensor, Tensor, Tensor]


def set_loss(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor) -> Losses:
    """Focal loss of all queries, L1 and 1 - GIoU of the matched ones; each divided by the number of objects."""
    objects = max(len(labels_G), 1)
    wanted_QK = torch.zeros_like(logits_QK)
    wanted_QK[query_G, labels_G] = 1
    class_loss = sigmoid_focal_loss(logits_QK, wanted_QK, alpha=0.25, gamma=2, reduction="sum")
    matched_G4 = boxes_Q4[query_G]
    l1 = (matched_G4 - objects_G4).abs().sum()
    giou_G = generalized_iou(cxcywh_to_xyxy(matched_G4), cxcywh_to_xyxy(objects_G4))
    return class_loss / objects, l1 / objects, (1 - giou_G).sum() / objects


def _cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """From matched predictions to an image without objects."""
    for number, (description, arguments) in enumerate(draw_detections(seed, count, (1, 4))):
        logits, boxes, labels, objects = arguments
        if number == count - 1:
            labels, objects = labels[:0], objects[:0]
            description = f"{len(logits)} queries, no object"
        query = assign(matching_cost(logits, boxes, labels, objects))
        yield Case(description, (logits, boxes, labels, objects, query))


def _scaled(scale: Callable[..., tuple[float, float, float]]) -> Callable[..., Losses]:
    """The right losses times ``scale(Q, classes, objects)``."""

    def imitate(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor) -> Losses:
        losses = set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G)
        factors = scale(*logits_QK.shape, max(len(labels_G), 1))
        a, b, c = (loss * factor for loss, factor in zip(losses, factors, strict=True))
        return a, b, c

    return imitate


def _matched_only(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor) -> Losses:
    order = torch.arange(len(query_G))
    return set_loss(logits_QK[query_G], boxes_Q4[query_G], labels_G, objects_G4, order)


def _in_order_of_queries(
    logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor
) -> Losses:
    return set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G.sort().values)


def _plain_cross_entropy(
    logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor
) -> Losses:
    _, l1, giou = set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G)
    wanted_QK = torch.zeros_like(logits_QK)
    wanted_QK[query_G, labels_G] = 1
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits_QK, wanted_QK, reduction="sum")
    return entropy / max(len(labels_G), 1), l1, giou


def _giou_itself(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor) -> Losses:
    class_loss, l1, giou = set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G)
    return class_loss, l1, len(labels_G) / max(len(labels_G), 1) - giou


SET_LOSS_MISTAKES = (
    Mistake(
        "only the matched queries enter the class loss",
        "a query without an object must learn to say so: all queries enter.",
        _matched_only,
    ),
    Mistake(
        "the losses are not divided by the number of objects",
        "divide all three by max(objects, 1).",
        _scaled(lambda Q, K, G: (G, G, G)),
    ),
    Mistake(
        "the class loss is divided by the number of queries",
        "300 queries, 7 objects: divided by queries the loss would be tiny. Divide by max(objects, 1).",
        _scaled(lambda Q, K, G: (G / Q, 1, 1)),
    ),
    Mistake(
        "the class loss is a mean over queries and classes",
        "sum over queries and classes, then divide by max(objects, 1).",
        _scaled(lambda Q, K, G: (G / (Q * K), 1, 1)),
    ),
    Mistake(
        "L1 is the mean of four differences",
        "sum over cx, cy, w and h.",
        _scaled(lambda Q, K, G: (1, 0.25, 1)),
    ),
    Mistake(
        "the loss is GIoU itself",
        "GIoU is 1 for a perfect box: the loss is 1 - GIoU.",
        _giou_itself,
    ),
    Mistake(
        "the class loss is plain cross-entropy",
        "focal: times (1 - p_t)^2, and alpha = 0.25 for the wanted class, 0.75 for the others.",
        _plain_cross_entropy,
    ),
    Mistake(
        "the matches are in the order of the queries, the objects are not",
        "query_G[g] answers for object g: boxes_Q4[query_G] stands in the order of the objects.",
        _in_order_of_queries,
    ),
)


def check_set_loss(function: Callable[..., Losses], seed: int = 0) -> Verdict:
    """Check the reader's ``set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G)``: classes, L1, GIoU."""
    return check(function, set_loss, _cases(seed), SET_LOSS_MISTAKES)
