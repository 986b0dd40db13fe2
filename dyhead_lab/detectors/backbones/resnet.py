"""torchvision's ResNet as DETR's family uses it: batch norm frozen, stem and first stage not trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from ...trace import emit
from .feature_pyramid import torchvision_model

STAGES = ("layer1", "layer2", "layer3", "layer4")


class ResNetBackbone(nn.Module):
    """Images (B, 3, H, W) -> the outputs of chosen stages, fine to coarse.

    Args:
        name: a ResNet of torchvision with bottleneck blocks, such as ``resnet50``.
        stages: which of ``layer1`` .. ``layer4`` to return.
        dilation: keep stride 16 in ``layer4`` and dilate its convolutions instead (DC5).
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at random.

    Attributes:
        channels: C of each returned stage.

    Raises:
        ValueError: ``stages`` are none of these.
        UserError: the weights cannot be downloaded.

    Parameter names under ``body`` are torchvision's, as in the official checkpoints. A feature pyramid stands on
    :class:`.ResNetBody` instead, which has a stem and numbered stages as Detectron2's.
    """

    def __init__(
        self,
        name: str = "resnet50",
        stages: Sequence[str] = STAGES[1:],
        dilation: bool = False,
        weights: str | None = None,
    ):
        super().__init__()
        unknown = [stage for stage in stages if stage not in STAGES]
        if unknown or not stages:
            raise ValueError(f"stages must be some of {', '.join(STAGES)}, got {list(stages)}")
        self.body: Any = torchvision_model(
            name,
            weights,
            norm_layer=FrozenBatchNorm2d,
            replace_stride_with_dilation=[False, False, dilation],
        )
        del self.body.fc
        self.stages = tuple(stage for stage in STAGES if stage in stages)
        self.channels = tuple(getattr(self.body, stage)[-1].bn3.weight.numel() for stage in self.stages)
        for part in (self.body.conv1, self.body.layer1):
            part.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        emit(self, network_input=images)
        body = self.body
        x = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        features = []
        for stage in STAGES[: STAGES.index(self.stages[-1]) + 1]:
            x = getattr(body, stage)(x)
            if stage in self.stages:
                features.append(x)
        return features
