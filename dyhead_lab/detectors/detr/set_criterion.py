"""The losses of DETR's family: match predictions and objects, then compare classes and boxes.

Every set of predictions that a model makes (last decoder layer, earlier layers, encoder) has the same terms; they
carry the suffix that the official code gives them: none, ``_0``, ``_enc``, ``_enc_0``, ``_backbone``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from ..box_ops import cxcywh_to_xyxy, generalized_iou
from ..losses import mean_over_processes, ones_at, whole_batch
from .hungarian_matcher import (
    HungarianMatcher,
    Matches,
    PaddedTargets,
    Predictions,
    pad_targets,
    to_device,
)

Outputs = Mapping[str, Any]
#: Terms of what is not a set of predictions: outputs -> {name: scalar}.
ExtraLoss = Callable[[Outputs], dict[str, Tensor]]


class SetCriterion(nn.Module):
    """Set prediction loss: focal (or softmax) classification, L1 and GIoU of matched pairs.

    Args:
        classes: number of classes. With ``focal`` the logits have this many columns; without, one more: the last
            means "no object".
        matcher: decides the pairs, and whether classification is focal.
        weights: of the terms by their bare name; suffixes are ignored. Terms that are missing here only report.
        no_object_weight: weight of the "no object" class in the softmax loss (DETR: 0.1).
        class_agnostic_encoder: the encoder's head (``enc_outputs``) only tells objects from background, in class 0
            (two-stage Deformable DETR), instead of telling classes (Efficient DETR, Sparse DETR).
        extra_losses: terms of other outputs, such as Sparse DETR's token scores.

    Sources: DETR, section 3.1; Deformable DETR; names as in the official repositories.
    """

    def __init__(
        self,
        classes: int,
        matcher: HungarianMatcher,
        weights: Mapping[str, float],
        no_object_weight: float = 0.1,
        class_agnostic_encoder: bool = False,
        extra_losses: Sequence[ExtraLoss] = (),
    ):
        super().__init__()
        self.classes, self.matcher, self.weights = classes, matcher, dict(weights)
        self.no_object_weight = no_object_weight
        self.class_agnostic_encoder = class_agnostic_encoder
        self.extra_losses = tuple(extra_losses)

    def forward(self, outputs: Outputs, targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """All terms of a batch.

        Args:
            outputs: ``pred_logits`` (B, Q, classes) and ``pred_boxes`` (B, Q, 4; cxcywh, normalised); optionally
                ``aux_outputs`` and ``aux_outputs_enc`` (lists of such dicts), ``enc_outputs`` and
                ``backbone_outputs`` (such dicts). ``padding`` (B, Q), where there is one, marks filling.
            targets: per image ``labels`` (n,) int64 in 0..classes-1 and ``boxes`` (n, 4; cxcywh, normalised).

        Returns:
            every term, unweighted, under its official name. Terms that start with ``loss_`` can be differentiated;
            ``class_error`` (percent) and ``cardinality_error`` only report.
        """
        sets = dict(_prediction_sets(outputs))
        padded = pad_targets(targets)
        foreground = padded._replace(labels_BG=torch.zeros_like(padded.labels_BG))
        agnostic = {"_enc"} if self.class_agnostic_encoder else set()
        set_targets = [foreground if suffix in agnostic else padded for suffix in sets]
        matches = self.matcher(list(sets.values()), set_targets)
        boxes, class_weight = self._divisors(padded.counts, outputs["pred_logits"])
        counts_B = to_device(torch.tensor(padded.counts), outputs["pred_logits"].device)

        terms: dict[str, Tensor] = {}
        for (suffix, predictions), wanted, pairs in zip(sets.items(), set_targets, matches, strict=True):
            own = self._terms(predictions, wanted, pairs, boxes, class_weight)
            own["cardinality_error"] = _cardinality_error(predictions, counts_B)
            if suffix:
                del own["class_error"]
            terms.update({name + suffix: value for name, value in own.items()})
        for extra_loss in self.extra_losses:
            terms.update(extra_loss(outputs))
        return terms

    def weigh(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms that are trained on, times their weights; their sum is the total loss."""
        return {
            name: self.weights[bare] * value for name, value in terms.items() if (bare := _bare(name)) in self.weights
        }

    def _divisors(self, counts: Sequence[int], logits_BQ: Tensor) -> tuple[Tensor, Tensor]:
        """What sums over boxes and over classes are divided by: objects; with softmax, class weights of all queries.

        The targets alone decide both. So both are those of the whole batch, over its processes and parts.
        """
        batch, queries, device = whole_batch(counts), logits_BQ.shape[1], logits_BQ.device
        objects = mean_over_processes(torch.full((), float(sum(batch.counts)), device=device), least=1) / batch.parts
        if self.matcher.focal:
            return objects, objects
        matched = sum(min(count, queries) for count in batch.counts)
        weight = matched + self.no_object_weight * (queries * len(batch.counts) - matched)
        return objects, mean_over_processes(torch.full((), weight, device=device)) / batch.parts

    def _terms(
        self, predictions: Predictions, targets: PaddedTargets, pairs: Matches, boxes: Tensor, class_weight: Tensor
    ) -> dict[str, Tensor]:
        """The terms of one set of predictions, without suffix."""
        logits = predictions.logits_BQ[pairs.image, pairs.query]
        labels = targets.labels_BG[pairs.image, pairs.object]
        box = predictions.boxes_BQ[pairs.image, pairs.query]
        target_box = targets.boxes_BG[pairs.image, pairs.object]
        giou = generalized_iou(cxcywh_to_xyxy(box), cxcywh_to_xyxy(target_box))
        hits = (logits.argmax(-1) == labels).float()
        return {
            "loss_ce": self._class_loss(predictions, pairs, labels, class_weight),
            "loss_bbox": (box - target_box).abs().sum() / boxes,
            "loss_giou": (1 - giou).sum() / boxes,
            "class_error": 100 - 100 * hits.sum() / max(len(labels), 1),
        }

    def _class_loss(self, predictions: Predictions, pairs: Matches, labels: Tensor, divisor: Tensor) -> Tensor:
        logits, _, padding = predictions
        if not self.matcher.focal:
            wanted = torch.full(logits.shape[:2], self.classes, device=logits.device)
            wanted[pairs.image, pairs.query] = labels
            weight = logits.new_ones(self.classes + 1)
            weight[-1].fill_(self.no_object_weight)  # an assignment would make the host wait for the device
            return F.cross_entropy(logits.transpose(1, 2), wanted, weight, reduction="sum") / divisor
        onehot = ones_at(logits, pairs.image, pairs.query, labels)
        loss_BQ = sigmoid_focal_loss(logits, onehot, self.matcher.alpha, self.matcher.gamma).sum(-1)
        return (loss_BQ if padding is None else loss_BQ.masked_fill(padding, 0.0)).sum() / divisor


def _prediction_sets(outputs: Outputs) -> Iterator[tuple[str, Predictions]]:
    """Suffix and predictions of every set in ``outputs``, in the official order."""
    yield "", _predictions(outputs)
    for i, layer in enumerate(outputs.get("aux_outputs", ())):
        yield f"_{i}", _predictions(layer)
    for name in ("enc", "backbone"):
        if f"{name}_outputs" in outputs:
            yield f"_{name}", _predictions(outputs[f"{name}_outputs"])
    for i, layer in enumerate(outputs.get("aux_outputs_enc", ())):
        yield f"_enc_{i}", _predictions(layer)


def _predictions(outputs: Outputs) -> Predictions:
    return Predictions(outputs["pred_logits"], outputs["pred_boxes"], outputs.get("padding"))


def _cardinality_error(predictions: Predictions, counts_B: Tensor) -> Tensor:
    """Mean over images of |predictions whose best class is not the last one - objects|, as DETR reports it."""
    logits, _, padding = predictions
    counted_BQ = logits.argmax(-1) != logits.shape[-1] - 1
    if padding is not None:
        counted_BQ &= ~padding
    return (counted_BQ.sum(1) - counts_B).abs().float().mean()


def _bare(name: str) -> str:
    """``loss_ce_enc_0`` -> ``loss_ce``: a term's name without the suffix of its set."""
    return "_".join(name.split("_")[:2]) if name.startswith(("loss_ce", "loss_bbox", "loss_giou")) else name
