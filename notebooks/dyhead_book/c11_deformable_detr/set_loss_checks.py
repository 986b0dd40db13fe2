"""The loss of set prediction: check and mistakes. All of one image, in float64 tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import box_iou, sigmoid_focal_loss

from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou

from ..practice.reader_checks import Case, Mistake, Verdict, check
from .matching_checks import assign, draw_detections, library_cost

Losses = tuple[Tensor, Tensor, Tensor]


def set_loss(
    logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor, divisor: float
) -> Losses:
    """Focal loss of all queries, L1 and 1 - GIoU of the matched ones; each divided by the objects of the batch."""
    wanted_QK = torch.zeros_like(logits_QK)
    wanted_QK[query_G, labels_G] = 1
    class_loss = sigmoid_focal_loss(logits_QK, wanted_QK, alpha=0.25, gamma=2, reduction="sum")
    matched_G4 = boxes_Q4[query_G]
    l1 = (matched_G4 - objects_G4).abs().sum()
    giou_G = generalized_iou(cxcywh_to_xyxy(matched_G4), cxcywh_to_xyxy(objects_G4))
    return class_loss / divisor, l1 / divisor, (1 - giou_G).sum() / divisor


def _cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """From one image alone to images of a batch with more objects, and to an image without any."""
    for number, (description, arguments) in enumerate(draw_detections(seed, count, (1, 4))):
        logits, boxes, labels, objects = arguments
        if number == count - 1:
            labels, objects = labels[:0], objects[:0]
            description = f"{len(logits)} queries, no object"
        query = assign(library_cost(logits, boxes, labels, objects))
        divisor = max(len(labels), 1) + (0 if number < count // 2 else number)
        yield Case(f"{description}, {divisor} in the batch", (logits, boxes, labels, objects, query, divisor))


def _scaled(scale: Callable[..., tuple[float, float, float]]) -> Callable[..., Losses]:
    """The right losses times ``scale(Q, classes, G, divisor)``."""

    def imitate(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, *rest: Any) -> Losses:
        losses = set_loss(logits_QK, boxes_Q4, labels_G, *rest)
        factors = scale(*logits_QK.shape, len(labels_G), rest[-1])
        a, b, c = (loss * factor for loss, factor in zip(losses, factors, strict=True))
        return a, b, c

    return imitate


def _with_class_loss(class_loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Losses]:
    """The right losses, but for ``class_loss(logits, wanted)``, a sum over queries and classes."""

    def imitate(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor,
                divisor: float) -> Losses:  # fmt: skip
        _, l1, giou = set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G, divisor)
        wanted_QK = torch.zeros_like(logits_QK)
        wanted_QK[query_G, labels_G] = 1
        return class_loss(logits_QK, wanted_QK) / divisor, l1, giou

    return imitate


def _with_overlap(overlap: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Losses]:
    """The right losses, but with ``overlap(boxes, objects)``, (G,), in the place of GIoU."""

    def imitate(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor,
                divisor: float) -> Losses:  # fmt: skip
        class_loss, l1, _ = set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G, divisor)
        return class_loss, l1, (1 - overlap(boxes_Q4[query_G], objects_G4)).sum() / divisor

    return imitate


def _iou(boxes_G4: Tensor, objects_G4: Tensor) -> Tensor:
    return box_iou(cxcywh_to_xyxy(boxes_G4), cxcywh_to_xyxy(objects_G4)).diagonal()


def _matched_only(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor,
                  divisor: float) -> Losses:  # fmt: skip
    order = torch.arange(len(query_G))
    return set_loss(logits_QK[query_G], boxes_Q4[query_G], labels_G, objects_G4, order, divisor)


def _in_order_of_queries(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor,
                         divisor: float) -> Losses:  # fmt: skip
    return set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G.sort().values, divisor)


def _giou_itself(logits_QK: Tensor, boxes_Q4: Tensor, labels_G: Tensor, objects_G4: Tensor, query_G: Tensor,
                 divisor: float) -> Losses:  # fmt: skip
    class_loss, l1, giou = set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G, divisor)
    return class_loss, l1, len(labels_G) / divisor - giou


SET_LOSS_MISTAKES = (
    Mistake(
        "only the matched queries enter the class loss",
        "a query without an object must learn to say so: all queries enter.",
        _matched_only,
    ),
    Mistake(
        "the losses are not divided by the number of objects",
        "divide all three by divisor.",
        _scaled(lambda Q, K, G, divisor: (divisor, divisor, divisor)),
    ),
    Mistake(
        "the losses are divided by the objects of the image, not of the batch",
        "an image with one object would count as much as an image with ten: every object is to count the same.",
        _scaled(lambda Q, K, G, divisor: (divisor / max(G, 1),) * 3),
    ),
    Mistake(
        "the class loss is divided by the number of queries",
        "300 queries, 7 objects: divided by queries the loss would be tiny. Divide by the objects.",
        _scaled(lambda Q, K, G, divisor: (divisor / Q, 1, 1)),
    ),
    Mistake(
        "the class loss is a mean over queries and classes",
        "sum over queries and classes, then divide by the objects.",
        _scaled(lambda Q, K, G, divisor: (divisor / (Q * K), 1, 1)),
    ),
    Mistake(
        "L1 is the mean of four differences",
        "sum over cx, cy, w and h.",
        _scaled(lambda Q, K, G, divisor: (1, 0.25, 1)),
    ),
    Mistake(
        "the loss is GIoU itself",
        "GIoU is 1 for a perfect box: the loss is 1 - GIoU.",
        _giou_itself,
    ),
    Mistake(
        "IoU stands in the place of GIoU",
        "IoU has no gradient where boxes do not touch. Use generalized_iou.",
        _with_overlap(_iou),
    ),
    Mistake(
        "GIoU reads (cx, cy, w, h) as two corners",
        "generalized_iou takes (x1, y1, x2, y2): cxcywh_to_xyxy both first.",
        _with_overlap(generalized_iou),
    ),
    Mistake(
        "alpha is exchanged",
        "alpha = 0.25 weighs the wanted class, 0.75 all others.",
        _with_class_loss(lambda logits, wanted: sigmoid_focal_loss(logits, wanted, 0.75, 2, "sum")),
    ),
    Mistake(
        "the class loss is plain cross-entropy",
        "focal: times (1 - p_t)^2, and alpha = 0.25 for the wanted class, 0.75 for the others.",
        _with_class_loss(lambda logits, wanted: binary_cross_entropy_with_logits(logits, wanted, reduction="sum")),
    ),
    Mistake(
        "the matches are in the order of the queries, the objects are not",
        "query_G[g] answers for object g: boxes_Q4[query_G] stands in the order of the objects.",
        _in_order_of_queries,
    ),
)


def check_set_loss(function: Callable[..., Losses], seed: int = 0) -> Verdict:
    """Check the reader's ``set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G, divisor)``."""
    return check(function, set_loss, _cases(seed), SET_LOSS_MISTAKES)
