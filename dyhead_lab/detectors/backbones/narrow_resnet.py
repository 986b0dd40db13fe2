"""A narrow ResNet: small enough to train from scratch on a laptop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from ...paths import WEIGHTS
from ...trace import emit
from ...weight_files import read_weight_file

#: Weights that ``pretrained=True`` starts from: ``body`` and pyramid (``fpn``) of a quickstart detector that has
#: learned Shapes. They stay as they are when the shipped quickstart is trained anew, so that what experiments
#: recorded before can be compared with what they record after.
PRETRAINED = WEIGHTS / "backbones" / "narrow_resnet.pt"


class NarrowResNet(nn.Module):
    """Four stages of torchvision's ``BasicBlock`` at strides 4, 8, 16, 32, after a stem of two small convolutions.

    Args:
        widths: channels of the four stages.
        blocks: residual blocks of the four stages.
        pretrained: start from weights that have learned Shapes, as published detectors start from weights that have
            learned ImageNet.
        finest: first stage that is returned, 2 to 5.
        dilation: the last stage keeps stride 16 and dilates its second convolutions instead, so that weights of the
            strided stage still fit (DETR's DC5).

    Attributes:
        channels: C of each stage that is returned.

    Raises:
        ValueError: ``pretrained`` with other ``widths`` or ``blocks`` than the shipped backbone's.
        UserError: the shipped weights are missing or damaged.

    Shapes: images (B, 3, H, W) -> {"c2": (B, widths[0], H/4, W/4), ..., "c5": (B, widths[3], H/32, W/32)}.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] = (1, 1, 1, 1),
        pretrained: bool = False,
        finest: int = 2,
        dilation: bool = False,
    ):
        super().__init__()
        if finest not in (2, 3, 4, 5):
            raise ValueError(f"finest: expected 2, 3, 4 or 5, got {finest!r}")
        self.finest = finest
        self.channels = tuple(widths)[finest - 2 :]
        stem = widths[0] // 2
        self.stem = nn.Sequential(_conv(3, stem), _conv(stem, widths[0]))
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList(
            _stage(a, b, n, stride=1 if i == 0 else 2)
            for i, (a, b, n) in enumerate(zip(inputs, widths, blocks, strict=True))
        )
        if dilation:
            _dilate(self.stages[-1])
        if pretrained:
            try:
                self.load_state_dict(pretrained_part("body"))
            except RuntimeError as error:
                raise ValueError(f"pretrained: {PRETRAINED} has another architecture: {error}") from error

    def forward(self, images: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        emit(self, network_input=images)
        x = self.stem(images)
        features = OrderedDict()
        for level, stage in enumerate(self.stages, start=2):
            x = stage(x)
            if level >= self.finest:
                features[f"c{level}"] = x
        return features


def pretrained_part(name: str) -> dict[str, torch.Tensor]:
    """The shipped weights of the ``body`` or of the ``fpn`` on it.

    Raises:
        UserError: they are missing or damaged.
    """
    weights = read_weight_file(PRETRAINED, "the shipped weights of a narrow ResNet")["state_dict"]
    return {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def _dilate(stage: nn.Module) -> None:
    """Sample twice as densely: what stood at every other place of the strided stage stays as it was."""
    for conv in (module for module in stage.modules() if isinstance(module, nn.Conv2d)):
        strided = conv.stride != (1, 1)
        conv.stride = (1, 1)
        if conv.kernel_size == (3, 3) and not strided:
            conv.dilation = conv.padding = (2, 2)
