"""torchvision's ResNet as a backbone, under the parameter names of Detectron2 or of torchvision.

The two layouts differ in nothing else. Checkpoints decide which one a detector needs: those of detectors with a feature
pyramid follow Detectron2, which has a stem and numbered stages; those of DETR's family keep torchvision's names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.ops import FrozenBatchNorm2d

from ...trace import emit
from .classifiers import torchvision_model
from .deformable_conv import DeformableConv2d

#: Names of ResNets with basic blocks; the others have bottlenecks.
BASIC = ("resnet18", "resnet34")
RESNETS = (
    *BASIC,
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
NORMS = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d}


class ResNet(nn.Module):
    """What both layouts share: a stem and four stages, of which the later ones are returned.

    Subclasses decide under which names they keep the two.

    Attributes:
        finest: first stage that is returned.
        channels: C of each stage that is returned.

    Shapes: images (B, 3, H, W) -> {"c3": (B, 512, H/8, W/8), "c4": (B, 1024, H/16, W/16), "c5": (B, 2048, H/32, W/32)},
    sizes rounded up, for ResNet-50 with ``finest=3``.
    """

    def __init__(self, name: str, weights: str | None, norm: str, dilation: bool, finest: int):
        super().__init__()
        if name not in RESNETS:
            raise ValueError(f"name: expected one of {', '.join(RESNETS)}, got {name!r}")
        if norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
        if finest not in (2, 3, 4, 5):
            raise ValueError(f"finest: expected 2, 3, 4 or 5, got {finest!r}")
        dilated = [False, False, dilation]
        net = torchvision_model(name, weights, norm_layer=NORMS[norm], replace_stride_with_dilation=dilated)
        assert isinstance(net, resnet.ResNet)
        self.finest = finest
        self._keep(net)
        self.channels = tuple(_width(stage[-1]) for stage in self._stages()[finest - 2 :])  # type: ignore[index]

    def _keep(self, net: resnet.ResNet) -> None:
        """Register stem and stages of ``net`` under the names of this layout."""
        raise NotImplementedError

    def _stem(self) -> Sequence[nn.Module]:
        """Convolution, norm, ReLU and pooling in front of the stages."""
        raise NotImplementedError

    def _stages(self) -> Sequence[nn.Module]:
        """Stages 2 to 5."""
        raise NotImplementedError

    def _freeze(self, parts: int) -> None:
        """Do not train the first ``parts`` of stem, stage 2, stage 3, ..."""
        stages = [[stage] for stage in self._stages()]
        for modules in [self._stem(), *stages][:parts]:
            for module in modules:
                module.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        emit(self, network_input=images)
        x = images
        for layer in self._stem():
            x = layer(x)
        outputs = OrderedDict()
        for i, stage in enumerate(self._stages(), 2):
            x = stage(x)
            if i >= self.finest:
                outputs[f"c{i}"] = x
        return outputs


class ResNetBody(ResNet):
    """A ResNet to carry a feature pyramid; parameters are named as in Detectron2, ``stem.conv1``, ``stages.0.1.conv2``.

    Args:
        name: one of :data:`RESNETS`.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at random.
        norm: ``"frozen"`` or ``"batch"`` (trainable).
        freeze_at: how many parts are not trained: 1 the stem, 2 also the first stage, and so on.
        stride_in_1x1: stride in the first 1x1 convolution of a bottleneck, as the original ResNet and the weights that
            Detectron2 calls MSRA have it; torchvision strides in the 3x3 convolution.
        deformable_stages: stages (3 to 5) whose 3x3 convolutions become deformable.
        finest: first stage that is returned, 2 to 5.

    Raises:
        ValueError: an option has none of these values.
        UserError: the weights cannot be downloaded.
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
        if not set(deformable_stages) <= {3, 4, 5}:
            raise ValueError(f"deformable_stages: expected some of 3, 4, 5, got {tuple(deformable_stages)}")
        super().__init__(name, weights, norm, dilation=False, finest=finest)
        if stride_in_1x1:
            self._move_strides()
        for stage in deformable_stages:
            for block in self.stages[stage - 2]:  # type: ignore[attr-defined]
                block.conv2 = DeformableConv2d.like(block.conv2)
        self._freeze(freeze_at)

    def _keep(self, net: resnet.ResNet) -> None:
        self.stem = nn.Sequential(OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool))
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])

    def _stem(self) -> Sequence[nn.Module]:
        return (self.stem,)

    def _stages(self) -> Sequence[nn.Module]:
        return tuple(self.stages)

    def _move_strides(self) -> None:
        for block in self.modules():
            if isinstance(block, resnet.Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


class ResNetBackbone(ResNet):
    """A ResNet as DETR's family uses it: batch norm frozen, stem and first stage not trained.

    Parameters are named as in torchvision, ``body.conv1``, ``body.layer1.1.conv2``, as in the official checkpoints.

    Args:
        name: one of :data:`RESNETS`.
        finest: first stage that is returned: 3 for a pyramid, 5 for the last map alone.
        dilation: keep stride 16 in the last stage and dilate its convolutions instead (DC5); bottleneck blocks only.
        weights: as in :class:`ResNetBody`.

    Raises:
        ValueError: an option has none of these values.
        UserError: the weights cannot be downloaded.
    """

    def __init__(self, name: str = "resnet50", finest: int = 3, dilation: bool = False, weights: str | None = None):
        if dilation and name in BASIC:
            raise ValueError(f"dilation: expected False for {name}, which has no bottleneck blocks")
        super().__init__(name, weights, "frozen", dilation, finest)
        self._freeze(2)

    def _keep(self, net: resnet.ResNet) -> None:
        del net.fc, net.avgpool
        self.body = net

    def _stem(self) -> Sequence[nn.Module]:
        return self.body.conv1, self.body.bn1, self.body.relu, self.body.maxpool

    def _stages(self) -> Sequence[nn.Module]:
        return self.body.layer1, self.body.layer2, self.body.layer3, self.body.layer4


def _width(block: nn.Module) -> int:
    """C of what a residual block returns."""
    last = block.conv3 if isinstance(block, resnet.Bottleneck) else block.conv2
    return last.out_channels  # type: ignore[union-attr, return-value]
