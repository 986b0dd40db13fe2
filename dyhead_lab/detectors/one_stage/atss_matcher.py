"""Adaptive training sample selection: each object sets its own threshold for positive anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from ..anchors import centres, sides

#: An anchor's centre must lie this far inside the object, in pixels.
INSIDE = 0.01


class ATSSMatcher:
    """Match anchors to objects.

    For each object the candidates are, on every level, the ``topk`` anchors whose centres are nearest. Mean
    plus standard deviation of the candidates' IoU is the object's own threshold: a candidate that reaches it,
    with its centre inside the object, is positive. An anchor that several objects claim goes to the one it
    overlaps most.

    Args:
        topk: candidates per level and object.

    Source: Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive
    Training Sample Selection", CVPR 2020.
    """

    def __init__(self, topk: int = 9):
        if topk < 1:
            raise ValueError(f"topk: expected at least 1, got {topk}")
        self.topk = topk

    @torch.no_grad()
    def __call__(self, anchors_per_level: Sequence[Tensor], gt_boxes: Tensor) -> Tensor:
        """Match the anchors of one image.

        Args:
            anchors_per_level: xyxy boxes (n, 4) of each level, in pixels.
            gt_boxes: the objects, xyxy (m, 4) in pixels; m may be 0.

        Returns:
            index of the matched object for each anchor, levels one after the other, (N,); -1 is background.
        """
        anchors_N4 = torch.cat(list(anchors_per_level))
        if len(gt_boxes) == 0:
            return torch.full((len(anchors_N4),), -1, device=anchors_N4.device)
        candidates_nG = self._nearest(anchors_per_level, gt_boxes)
        iou_nG = box_iou(anchors_N4, gt_boxes).gather(0, candidates_nG)
        # A pyramid with a single anchor has no deviation; its one candidate then decides by the mean alone.
        deviation_G = iou_nG.std(0) if len(iou_nG) > 1 else 0
        inside_nG = sides(centres(anchors_N4)[candidates_nG], gt_boxes).amin(-1) > INSIDE
        positive_nG = (iou_nG >= iou_nG.mean(0) + deviation_G) & inside_nG
        claims_NG = iou_nG.new_full((len(anchors_N4), len(gt_boxes)), -1)
        claims_NG.scatter_(0, candidates_nG, torch.where(positive_nG, iou_nG, -1))
        claim_N, matched_N = claims_NG.max(1)
        return torch.where(claim_N >= 0, matched_N, -1)

    def _nearest(self, anchors_per_level: Sequence[Tensor], gt_boxes: Tensor) -> Tensor:
        """Indices of the candidates, (n, G): on each level the anchors nearest to each object's centre."""
        start, candidates = 0, []
        for anchors in anchors_per_level:
            distance = (centres(anchors)[:, None] - centres(gt_boxes)).pow(2).sum(-1).sqrt()
            nearest = distance.topk(min(self.topk, len(anchors)), dim=0, largest=False).indices
            candidates.append(start + nearest)
            start += len(anchors)
        return torch.cat(candidates)
