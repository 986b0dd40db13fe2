"""Testing with flips: a detector looks at an image four times, and what it finds is merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from .grouping import padded_size

#: Axes of (3, H, W) that are reversed in each view: none, left-right, up-down, both.
VIEWS: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))
SAME_OBJECT = 0.7  # IoU with the surest box from which another one counts as the same finding
SUPPRESSED = 0.6  # IoU above which the less sure of two findings is dropped
MOST = 100  # boxes an image


class FlipTested(nn.Module):
    """A detector in evaluation mode that sees every image as it is, mirrored left-right, up-down, and both.

    Only for images in which up means nothing. Boxes of one class that lie on each other become one: the mean of
    the boxes, weighted by their scores. Its score is the sum of the scores over the number of views, so that what
    is found in one view only counts a quarter. Takes four times as long.

    Args:
        model: a detector of the form that CONTRIBUTING.md describes.

    Source: the merging follows Solovyev et al., "Weighted Boxes Fusion", 2021, with fixed clusters.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detect; see CONTRIBUTING.md, "A detector"."""
        views = [self.model([image.flip(axes) if axes else image for image in images]) for axes in VIEWS]
        merged = []
        for number, image in enumerate(images):
            found = [view[number] for view in views]
            boxes = [flip_boxes(f["boxes"], axes, image.shape[-2:]) for f, axes in zip(found, VIEWS, strict=True)]
            scores, labels = (torch.cat([f[name] for f in found]) for name in ("scores", "labels"))
            merged.append(merge(torch.cat(boxes), scores, labels, len(VIEWS)))
        return merged

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (H, W) of the batch that an image alone makes: a flipped one makes the same."""
        return padded_size(self.model)(height, width)


def flip_boxes(boxes: Tensor, axes: Sequence[int], size: Sequence[int]) -> Tensor:
    """Boxes (n, 4) xyxy found in an image flipped along ``axes`` of (3, H, W), in the image as it was, of ``size``."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(1)
    if 2 in axes:
        x1, x2 = width - x2, width - x1
    if 1 in axes:
        y1, y2 = height - y2, height - y1
    return torch.stack([x1, y1, x2, y2], 1)


def merge(boxes: Tensor, scores: Tensor, labels: Tensor, views: int) -> dict[str, Tensor]:
    """One detection for each object from those of all views: ``boxes`` (n, 4), ``scores`` (n,), ``labels`` (n,).

    What is not finite would spoil every mean. It takes no part, and follows the others as it is: an evaluation counts
    it.
    """
    sound = boxes.isfinite().all(1) & scores.isfinite()
    others = {"boxes": boxes[~sound], "scores": scores[~sound], "labels": labels[~sound]}
    boxes, scores, labels = boxes[sound], scores[sound], labels[sound]
    kept = batched_nms(boxes, scores, labels, SUPPRESSED)
    same_KN = (box_iou(boxes[kept], boxes) > SAME_OBJECT) & (labels[kept][:, None] == labels)
    weights_KN = same_KN * scores
    sums_K1 = weights_KN.sum(1, keepdim=True)
    mean_scores = (sums_K1[:, 0] / views).clamp(max=1)
    order = mean_scores.argsort(descending=True)[:MOST]
    means = weights_KN @ boxes / sums_K1.clamp(min=torch.finfo(scores.dtype).tiny)
    merged = {"boxes": means[order], "scores": mean_scores[order], "labels": labels[kept][order]}
    return {name: torch.cat([merged[name], others[name]]) for name in merged}
