"""Cascade R-CNN: three box heads in a row, each trained on the boxes of the one before and asking for more overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from ..arguments import arguments, hands_on
from ..losses import share_gradient
from ..torchvision_form import TorchvisionForm
from .faster_rcnn import BOX_HEAD_WIDTH, BOX_SIZE, RoIAlign, box_layers, faster_rcnn

#: (IoU from which a box counts as an object, weights of its deltas) of each stage.
STAGES = ((0.5, (10.0, 10.0, 5.0, 5.0)), (0.6, (20.0, 20.0, 10.0, 10.0)), (0.7, (30.0, 30.0, 15.0, 15.0)))
SAMPLES, POSITIVE_SHARE = 512, 0.25  # boxes per image that the first stage trains on
SMOOTH = 1 / 9  # where the box loss turns from square to linear


class CascadeStage(nn.Module):
    """One box head: class scores, and one box for all classes.

    Args:
        channels: C of the pyramid.
        classes: number of classes; class 0 of the scores is the background.
        iou: overlap from which a box belongs to an object.
        weights: weights of the deltas; they grow as the boxes get better and the deltas smaller.
        width, task_after_pooling: see :func:`~dyhead_lab.detectors.rcnn.faster_rcnn.box_layers`.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        iou: float,
        weights: tuple[float, float, float, float],
        width: int = BOX_HEAD_WIDTH,
        task_after_pooling: bool = False,
    ):
        super().__init__()
        self.layers, width = box_layers(channels, width, task_after_pooling)
        self.cls_score = nn.Linear(width, classes + 1)
        self.bbox_pred = nn.Linear(width, 4)
        self.iou = iou
        self.coder = BoxCoder(weights)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, classes + 1) and deltas (n, 4) of pooled regions (n, C, 7, 7), in float32."""
        x = self.layers(regions)
        return self.cls_score(x).float(), self.bbox_pred(x).float()

    def match(self, boxes: Tensor, target: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """For each box (n, 4) its label, 0 where no object overlaps it enough, and the object's box."""
        if len(target["boxes"]) == 0:
            return torch.zeros(len(boxes), dtype=torch.long, device=boxes.device), boxes
        overlap, best = box_iou(target["boxes"], boxes).max(0)
        labels = torch.where(overlap >= self.iou, target["labels"][best], 0)
        return labels, target["boxes"][best]

    def losses(self, logits: Tensor, deltas: Tensor, boxes: Tensor, labels: Tensor, matched: Tensor) -> list[Tensor]:
        """Cross-entropy over all boxes, and smooth L1 of the deltas of positive ones over their number of all."""
        positive = labels > 0
        wanted = self.coder.encode_single(matched[positive], boxes[positive])
        box_loss = F.smooth_l1_loss(deltas[positive], wanted, beta=SMOOTH, reduction="sum")
        return [F.cross_entropy(logits, labels), box_loss / max(len(labels), 1)]

    def refine(self, boxes: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
        """The boxes that the next stage reads, (n, 4), inside the image; no gradient passes."""
        return clip_boxes_to_image(self.coder.decode_single(deltas.detach(), boxes), size)


class CascadeRoIHeads(nn.Module):
    """The second part of Cascade R-CNN: pool, classify, refine, three times.

    Args:
        channels: C of the pyramid.
        classes: number of classes.
        score_threshold, nms_threshold, most: what is kept of the detections.
        object_scale: see :class:`~dyhead_lab.detectors.rcnn.faster_rcnn.RoIAlign`.
        width, task_after_pooling: see :class:`CascadeStage`.

    Source: Cai and Vasconcelos, "Cascade R-CNN", CVPR 2018; class-agnostic boxes, scores averaged over the stages and
    an equal share of each stage in the gradient of the features as in Detectron2.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        most: int = 100,
        object_scale: float = 1.0,
        width: int = BOX_HEAD_WIDTH,
        task_after_pooling: bool = False,
    ):
        super().__init__()
        self.pool = RoIAlign(BOX_SIZE, object_scale)
        self.stages: Any = nn.ModuleList(
            CascadeStage(channels, classes, iou, weights, width, task_after_pooling) for iou, weights in STAGES
        )
        self.sampler = BalancedPositiveNegativeSampler(SAMPLES, POSITIVE_SHARE)
        self.score_threshold, self.nms_threshold, self.most = score_threshold, nms_threshold, most

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        targets: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections (evaluation) and losses (training); labels count the background as 0.

        Args:
            features: pyramid P2-P6.
            proposals: boxes (n, 4) of each image, in pixels of the batch.
            image_sizes: (H, W) of each image without padding.
            targets: ``boxes`` and ``labels`` of each image, in training.
        """
        boxes = list(proposals)
        if self.training:
            assert targets is not None
            boxes = [self._sample(b, target) for b, target in zip(boxes, targets, strict=True)]
        losses: dict[str, Tensor] = {}
        probabilities = torch.zeros(())
        for k, stage in enumerate(self.stages, 1):
            logits, deltas = stage(share_gradient(self.pool(features, boxes, image_sizes), 1 / len(self.stages)))
            if self.training:
                matches = [stage.match(b, target) for b, target in zip(boxes, targets or [], strict=True)]
                labels, matched = (torch.cat(parts) for parts in zip(*matches, strict=True))
                classification, regression = stage.losses(logits, deltas, torch.cat(boxes), labels, matched)
                losses |= {f"stage{k}_classification": classification, f"stage{k}_box_reg": regression}
            probabilities = probabilities + logits.detach().softmax(-1) / len(self.stages)
            split = deltas.split([len(b) for b in boxes])
            boxes = [stage.refine(b, d, size) for b, d, size in zip(boxes, split, image_sizes, strict=True)]
        if self.training:
            return [], losses
        scores = probabilities.split([len(b) for b in boxes])
        return [self._detections(b, s) for b, s in zip(boxes, scores, strict=True)], {}

    def _sample(self, proposals: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """What the first stage trains on: proposals and objects, a quarter of them positive."""
        boxes = torch.cat([proposals, target["boxes"].to(proposals)])
        labels, _ = self.stages[0].match(boxes, target)
        [positive], [negative] = self.sampler([labels])
        return boxes[(positive | negative).bool()]

    def _detections(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """The best boxes (n, 4) by their scores (n, classes + 1), suppressed within each class."""
        place, label = (scores[:, 1:] > self.score_threshold).nonzero(as_tuple=True)
        label = label + 1
        score, found = scores[place, label], boxes[place]
        kept = batched_nms(found, score, label, self.nms_threshold)[: self.most]
        return {"boxes": found[kept], "scores": score[kept], "labels": label[kept]}


#: Arguments of Faster R-CNN about the head that the cascade takes the place of.
ONE_HEAD = tuple(name for name in arguments(faster_rcnn) if name.startswith("box_"))


class CascadeRCNN(TorchvisionForm, GeneralizedRCNN):
    """Proposals of Faster R-CNN, classified and refined by a cascade, in the form that CONTRIBUTING.md describes."""

    first_label = 1


@hands_on(faster_rcnn, without=ONE_HEAD, cascade=CascadeRoIHeads)
def cascade_rcnn(
    classes: int,
    backbone: str = "resnet50",
    dyhead_blocks: int = 6,
    object_scale: float = 1.0,
    box_head_width: int = BOX_HEAD_WIDTH,
    task_after_pooling: bool = False,
    cascade: Mapping[str, Any] | None = None,
    **options: Any,
) -> CascadeRCNN:
    """Build Cascade R-CNN. The Dynamic Head stands between the pyramid P2-P6 and everything that reads it.

    Args:
        object_scale, box_head_width, task_after_pooling: as in :func:`.two_stages`.
        cascade: further arguments of :class:`CascadeRoIHeads`, such as ``{"score_threshold": 0.0}``.
        options: further arguments of the pyramid, and those of torchvision's ``FasterRCNN`` on images and proposals.

    The others are as in :func:`~dyhead_lab.detectors.rcnn.faster_rcnn.faster_rcnn`.
    """
    shared = {"object_scale": object_scale, "task_after_pooling": task_after_pooling}
    # Faster R-CNN's own box head is built and left behind; the narrowest one costs nothing.
    first: Any = faster_rcnn(classes, backbone, dyhead_blocks, box_head_width=1, **shared, **options)
    shape: dict[str, Any] = {"width": box_head_width, **shared, **(cascade or {})}
    heads = CascadeRoIHeads(first.backbone.out_channels, classes, **shape)
    return CascadeRCNN(first.backbone, first.rpn, heads, first.transform, classes=classes)
