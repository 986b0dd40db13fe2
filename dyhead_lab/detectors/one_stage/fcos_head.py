"""torchvision's FCOS head, normalised over all training processes, open to a trace."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos

from ...attention.pyramid import LevelNorm
from ..losses import mean_over_processes
from .channel_strengths import show_strengths


class FCOSHead(fcos.FCOSHead):
    """torchvision's head, whose losses are divided by the objects' places in all processes, not in one.

    Without this, an object in a process with few of them would weigh more than one in a process with many.

    Its norms also take a level of a single place, as :class:`.LevelNorm` does.

    Emits ``channel_strengths`` (3, C).
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, num_convs: int = 4):
        super().__init__(in_channels, num_anchors, num_classes, num_convs)
        for norm in self.modules():
            if type(norm) is nn.GroupNorm:  # torchvision lets nobody choose it; a LevelNorm has the same parameters
                norm.__class__ = LevelNorm

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Predictions of the maps (B, C, H, W) of a pyramid, as torchvision's."""
        classes, boxes = self.classification_head, self.regression_head
        show_strengths(
            self, (classes.conv, classes.cls_logits), (boxes.conv, boxes.bbox_reg), (boxes.conv, boxes.bbox_ctrness)
        )
        return super().forward(x)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """The three losses; torchvision calls this.

        Args:
            targets: per image ``boxes`` (n, 4) and ``labels`` (n,).
            head_outputs: what :meth:`forward` returned.
            anchors: (N, 4) per image.
            matched_idxs: index of the object of each place, (N,) per image; negative where there is none.
        """
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        here = (torch.stack(matched_idxs) >= 0).sum().float()
        share = here.clamp(min=1) / mean_over_processes(here, least=1)
        return {name: loss * share for name, loss in losses.items()}
