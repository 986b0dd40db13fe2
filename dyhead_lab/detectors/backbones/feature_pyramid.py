"""A backbone, the feature pyramid on it, and the Dynamic Head on that."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from ...attention import DyHead
from ..arguments import hands_on
from .named import named_body

#: Finest level of a pyramid -> what makes the levels above P5: P6 and P7 by convolutions, or P6 by subsampling.
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


@hands_on(dyhead=DyHead, without=("blocks", "num_levels"))
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
        backbone: see :func:`.named_body`.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at random.
        finest: 3 for P3-P7, 2 for P2-P6.
        channels: C of every level.
        dyhead_blocks: blocks of the Dynamic Head; 0 leaves it out.
        dyhead: further arguments of :class:`~dyhead_lab.attention.DyHead`, such as ``{"offset_fit": "flat"}``.
        body: further arguments of the backbone, such as ``{"freeze_at": 2}``.

    Raises:
        ValueError: no pyramid has that finest level, or as :func:`.named_body`.
        UserError: the weights cannot be downloaded.
    """
    if finest not in TOPS:
        raise ValueError(f"finest: expected one of {', '.join(map(str, TOPS))}, got {finest}")
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
