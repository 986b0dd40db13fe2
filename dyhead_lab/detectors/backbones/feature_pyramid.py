"""Backbones under a feature pyramid: ResNet, ResNeXt, Swin and a narrow ResNet below FPN levels p2 to p7."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from ...attention import DyHead
from ...attention.spatial import OffsetMaskConv
from ...attention.traced_conv import traced_deform_conv2d
from ...errors import UserError
from ...trace import emit
from .narrow_resnet import NarrowResNet

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnext101_64x4d")
SWINS = ("swin_t",)
NARROW = ("narrow",)
NORMS = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d}
#: Finest level of a pyramid -> what makes the levels above P5: P6 and P7 by convolutions, or P6 by
#: subsampling.
TOPS = {3: lambda channels: LastLevelP6P7(channels, channels), 2: lambda channels: LastLevelMaxPool()}


class PyramidBackbone(nn.Module):
    """Body -> FPN -> an optional neck, such as a :class:`~dyhead_lab.attention.DyHead`.

    Args:
        body: images (B, 3, H, W) -> {"c3": ..., "c4": ..., "c5": ...}, with ``channels`` of each output and
            ``finest``. A body that starts at c3 carries P3-P7, one that starts at c2 carries P2-P6, as in
            R-CNN.
        out_channels: C of every level.
        neck: takes the pyramid as a dict and returns one like it.
        top: makes the levels above P5; by default as :data:`TOPS` says.

    Shapes: images (B, 3, H, W) -> {"p3": (B, C, H/8, W/8), ..., "p7": (B, C, H/128, W/128)}, sizes rounded
        up.
    """

    def __init__(
        self,
        body: nn.Module,
        out_channels: int = 256,
        neck: nn.Module | None = None,
        top: ExtraFPNBlock | None = None,
    ):
        super().__init__()
        self.body = body
        top = TOPS[body.finest](out_channels) if top is None else top  # type: ignore[index]
        self.fpn = FeaturePyramidNetwork(list(body.channels), out_channels, top)  # type: ignore[arg-type]
        self.neck = nn.Identity() if neck is None else neck
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = self.fpn(self.body(images)).values()
        return self.neck({f"p{level}": x for level, x in enumerate(levels, self.body.finest)})  # type: ignore


class ResNetBody(nn.Module):
    """torchvision's ResNet or ResNeXt without its classifier.

    Args:
        name: one of :data:`RESNETS`.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at
            random.
        norm: ``"frozen"`` or ``"batch"`` (trainable).
        freeze_at: how many parts are not trained: 1 the stem, 2 also the first stage, and so on.
        stride_in_1x1: stride in the first 1x1 convolution of a bottleneck, as the original ResNet and the
            weights that Detectron2 calls MSRA have it; torchvision strides in the 3x3 convolution.
        deformable_stages: stages (3 to 5) whose 3x3 convolutions become deformable.
        finest: first stage that is returned, 2 or 3.

    Shapes: images (B, 3, H, W) -> {"c3": (B, 512, H/8, W/8), ..., "c5": (B, 2048, H/32, W/32)}, sizes rounded
        up.
    """

    def __init__(
        self,
        name: str = "resnet50",
        weights: str | None = None,
        norm: str = "frozen",
        freeze_at: int = 0,
        stride_in_1x1: bool = False,
        deformable_stages: Sequence[int] = (),
        finest: int = 3,
    ):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
        if not set(deformable_stages) <= {3, 4, 5}:
            raise ValueError(f"deformable_stages: expected some of 3, 4, 5, got {tuple(deformable_stages)}")
        net = torchvision_model(name, weights, norm_layer=NORMS[norm])
        assert isinstance(net, ResNet)
        self.stem = nn.Sequential(OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool))
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])
        self.channels = tuple(_width(stage[-1]) for stage in self.stages[finest - 2 :])  # type: ignore[index]
        self.finest = finest
        if stride_in_1x1:
            self._move_strides()
        for stage in deformable_stages:
            for block in self.stages[stage - 2]:  # type: ignore[attr-defined]
                block.conv2 = DeformableConv2d.like(block.conv2)
        for part in [self.stem, *self.stages][:freeze_at]:
            part.requires_grad_(False)

    def _move_strides(self) -> None:
        for block in self.modules():
            if isinstance(block, Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        emit(self, network_input=images)
        x = self.stem(images)
        outputs = OrderedDict()
        for i, stage in enumerate(self.stages, 2):
            x = stage(x)
            if i >= self.finest:
                outputs[f"c{i}"] = x
        return outputs


class DeformableConv2d(nn.Conv2d):
    """A 3x3 convolution whose taps move and fade as its input says (Deformable ConvNets v2)."""

    offset_mask: OffsetMaskConv

    @classmethod
    def like(cls, conv: nn.Conv2d) -> DeformableConv2d:
        """A deformable copy of ``conv``, with its weights, that starts on the regular grid."""
        made = cls(
            conv.in_channels, conv.out_channels, 3, conv.stride[0], 1, groups=conv.groups, bias=conv.bias is not None
        )
        made.load_state_dict(conv.state_dict())
        made.offset_mask = OffsetMaskConv(conv.in_channels, conv.stride[0])
        return made

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        offset, mask = self.offset_mask(x)
        stride = int(self.stride[0])
        return traced_deform_conv2d(self, x, offset, self.weight, self.bias, stride=stride, padding=1, mask=mask)


class SwinBody(nn.Module):
    """torchvision's Swin Transformer with a LayerNorm on each output, as detectors use it.

    Args:
        name: one of :data:`SWINS`.
        weights: as in :class:`ResNetBody`.
        finest: first stage that is returned, 2 or 3.

    Shapes: images (B, 3, H, W), H and W multiples of 4 -> {"c3": (B, 192, H/8, W/8), ..., "c5": (B, 768,
    H/32, W/32)}, sizes rounded up.
    """

    def __init__(self, name: str = "swin_t", weights: str | None = None, finest: int = 3):
        super().__init__()
        # Patch embedding and merging alternate with the stages.
        self.features = torchvision_model(name, weights).features
        stages = [*self.features][1::2]  # type: ignore[misc]
        self.finest = finest
        self.channels = tuple(stage[-1].norm2.normalized_shape[0] for stage in stages[finest - 2 :])
        self.norms = nn.ModuleDict({f"c{finest + i}": nn.LayerNorm(c) for i, c in enumerate(self.channels)})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        emit(self, network_input=images)
        x = images
        outputs = OrderedDict()
        for i, part in enumerate(self.features):  # type: ignore[arg-type]
            x = part(x)
            name = f"c{2 + i // 2}"
            if i % 2 and name in self.norms:
                outputs[name] = self.norms[name](x).permute(0, 3, 1, 2)
        return outputs


def pyramid(
    backbone: str = "resnet50",
    weights: str | None = None,
    finest: int = 3,
    channels: int = 256,
    dyhead_blocks: int = 0,
    dyhead: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
) -> PyramidBackbone:
    """A backbone by name, its pyramid, and a Dynamic Head on it.

    Args:
        backbone: one of :data:`RESNETS`, :data:`SWINS` or ``"narrow"``, the small one for the Shapes set.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at random.
        finest: 3 for P3-P7, 2 for P2-P6.
        channels: C of every level.
        dyhead_blocks: blocks of the Dynamic Head; 0 leaves it out.
        dyhead: further arguments of :class:`~dyhead_lab.attention.DyHead`, such as ``{"offset_fit": "flat"}``.
        body: further arguments of the backbone, such as ``{"freeze_at": 2}``.

    Raises:
        ValueError, UserError: as :func:`named_body`.
    """
    neck = DyHead(channels, dyhead_blocks, num_levels=5, **(dyhead or {})) if dyhead_blocks else None
    return PyramidBackbone(named_body(backbone, weights, finest, **(body or {})), channels, neck)


def with_pyramid(options: Mapping[str, Any], **fixed: Any) -> tuple[PyramidBackbone, dict[str, Any]]:
    """Build the pyramid that a detector asks for among its options.

    Args:
        options: of a detector; those that :func:`pyramid` takes are used here.
        fixed: arguments of :func:`pyramid` that the detector sets itself.

    Returns:
        the pyramid, and the options that are left for the detector.
    """
    known = signature(pyramid).parameters
    rest = {name: value for name, value in options.items() if name not in known}
    return pyramid(**fixed, **{name: options[name] for name in options if name in known}), rest


def named_body(name: str, weights: str | None = None, finest: int = 3, **options: Any) -> nn.Module:
    """The backbone of that name; ``options`` are those of :class:`ResNetBody`, :class:`SwinBody` or
    :class:`~dyhead_lab.detectors.backbones.narrow_resnet.NarrowResNet`.

    Raises:
        ValueError: there is no backbone of that name, no such weights for it, or no pyramid with that finest level.
        UserError: the weights cannot be downloaded.
    """
    if finest not in TOPS:
        raise ValueError(f"finest: expected one of {', '.join(map(str, TOPS))}, got {finest}")
    if name in RESNETS:
        return ResNetBody(name, weights, finest=finest, **options)
    if name in SWINS:
        return SwinBody(name, weights, finest, **options)
    if name in NARROW:
        if weights is not None:
            raise ValueError(f'weights: "narrow" has none of torchvision; body={{"pretrained": True}}, got {weights!r}')
        return NarrowResNet(finest=finest, **options)
    raise ValueError(f"name: expected one of {', '.join(RESNETS + SWINS + NARROW)}, got {name!r}")


def torchvision_model(name: str, weights: str | None, **options: Any) -> nn.Module:
    """torchvision's classifier of that name.

    Raises:
        UserError: the weights cannot be downloaded.
    """
    try:
        return torchvision.models.get_model(name, weights=weights, **options)
    except (URLError, OSError) as error:
        raise UserError(
            f"cannot download the weights {weights} of {name} ({error}). Connect to the network, put the file into "
            f"{torch.hub.get_dir()}/checkpoints, or train from scratch with weights=None"
        ) from error


def _width(block: nn.Module) -> int:
    last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
    return last.out_channels  # type: ignore[union-attr, return-value]
