"""Hungarian matching: which prediction answers for which object.

All images and all sets of predictions (decoder layers, encoder heads) are priced in one tensor, which goes to the
host in one copy; SciPy then solves one small assignment per image and set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..box_ops import cxcywh_to_xyxy, generalized_iou

#: What a pair costs whose prediction is not a number: less than any other, so that it is matched and its loss shows it.
NAN_COST = -1e9


class PaddedTargets(NamedTuple):
    """The objects of a batch in rectangular tensors; G is the largest number of objects in an image."""

    labels_BG: Tensor
    boxes_BG: Tensor  # (B, G, 4) cxcywh, normalised
    counts: list[int]  # objects of each image; what lies beyond is filling


class Predictions(NamedTuple):
    """One set of predictions, for instance of one decoder layer."""

    logits_BQ: Tensor  # (B, Q, classes)
    boxes_BQ: Tensor  # (B, Q, 4) cxcywh, normalised
    padding_BQ: Tensor | None = None  # True where a prediction is only filling


class Matches(NamedTuple):
    """Matched pairs of one set of predictions: image, query and object of each, (pairs,) each."""

    image: Tensor
    query: Tensor
    object: Tensor


def pad_targets(targets: Sequence[dict[str, Tensor]]) -> PaddedTargets:
    """Stack ``labels`` (n,) and ``boxes`` (n, 4; cxcywh, normalised) of each image; n may be 0."""
    labels = pad_sequence([target["labels"] for target in targets], batch_first=True)
    boxes = pad_sequence([target["boxes"] for target in targets], batch_first=True)
    return PaddedTargets(labels, boxes, [len(target["labels"]) for target in targets])


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``; a GPU fetches it from pinned memory, and the host does not wait for it."""
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class HungarianMatcher:
    """Match predictions and objects one to one at the least total cost.

    Args:
        class_cost, box_cost, giou_cost: weights of the three costs (Deformable DETR 2/5/2, DETR 1/5/2).
        focal: price a class by the focal loss of a sigmoid (Deformable DETR) instead of by minus its softmax
            probability (DETR, whose last logit means "no object").
        alpha, gamma: of the focal loss.

    Sources: DETR, equation 1; fundamentalvision/Deformable-DETR ``models/matcher.py`` for the focal cost.
    """

    class_cost: float = 2.0
    box_cost: float = 5.0
    giou_cost: float = 2.0
    focal: bool = True
    alpha: float = 0.25
    gamma: float = 2.0

    def cost(self, predictions: Predictions, targets: PaddedTargets) -> Tensor:
        """Cost of every pair, (B, Q, G); infinite where the prediction is filling."""
        logits, boxes, padding = predictions
        B, Q, _ = logits.shape
        labels_BQG = targets.labels_BG[:, None].expand(B, Q, -1)
        class_cost = self._class_cost(logits).gather(2, labels_BQG)
        boxes_BQ1, objects_B1G = boxes[:, :, None], targets.boxes_BG[:, None]
        l1 = (boxes_BQ1 - objects_B1G).abs().sum(-1)
        giou = generalized_iou(cxcywh_to_xyxy(boxes_BQ1), cxcywh_to_xyxy(objects_B1G))
        cost = self.class_cost * class_cost + self.box_cost * l1 - self.giou_cost * giou
        return cost if padding is None else cost.masked_fill(padding[..., None], torch.inf)

    def _class_cost(self, logits: Tensor) -> Tensor:
        if not self.focal:
            return -logits.softmax(-1)
        p = logits.sigmoid()
        positive = self.alpha * (1 - p) ** self.gamma * -(p + 1e-8).log()
        negative = (1 - self.alpha) * p**self.gamma * -(1 - p + 1e-8).log()
        return positive - negative

    @torch.no_grad()
    def __call__(self, sets: Sequence[Predictions], targets: Sequence[PaddedTargets]) -> list[Matches]:
        """Match every set of predictions with its own targets.

        Args:
            sets: predictions, (B, Q_i, ...) each; their numbers of queries may differ.
            targets: of each set; boxes and counts are the same in all, labels may differ.

        Returns:
            the matches of each set; an image gives min(queries, objects) of them. Predictions that are not a number are
            matched first, so that the losses of the pairs are not a number either.
        """
        device = sets[0].logits_BQ.device
        costs = [self.cost(predictions, objects) for predictions, objects in zip(sets, targets, strict=True)]
        costs_host = torch.cat(costs, 1).cpu().split([cost.shape[1] for cost in costs], 1)
        pairs = [_solve(cost_BQG, targets[0].counts) for cost_BQG in costs_host]
        columns = to_device(torch.cat(pairs, 1), device).split([pair.shape[1] for pair in pairs], 1)
        return [Matches(*column) for column in columns]


def _solve(cost_BQG: Tensor, counts: Sequence[int]) -> Tensor:
    """Least-cost pairs of every image of one set; rows image, query, object: (3, pairs)."""
    found = []
    cost_BQG = cost_BQG.masked_fill(cost_BQG.isnan(), NAN_COST)  # SciPy refuses NaN
    for image, (cost_QG, count) in enumerate(zip(cost_BQG, counts, strict=True)):
        cost = cost_QG[:, :count]
        queries = torch.nonzero(cost.isfinite().all(1)).flatten()  # all but the filling
        row, object = (torch.from_numpy(index) for index in linear_sum_assignment(cost[queries].numpy()))
        found.append(torch.stack([torch.full_like(row, image), queries[row], object]))
    return torch.cat(found, 1)
