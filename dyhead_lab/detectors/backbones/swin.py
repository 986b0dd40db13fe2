"""torchvision's Swin Transformer as a backbone."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from ...trace import emit
from .classifiers import torchvision_model

SWINS = ("swin_t",)
PATCH = 4  # pixels of a side of a token


class SwinBody(nn.Module):
    """torchvision's Swin Transformer with a LayerNorm on each output, as detectors use it.

    Args:
        name: one of :data:`SWINS`.
        weights: torchvision's name for weights to start from, such as ``IMAGENET1K_V1``; None starts at random.
        finest: first stage that is returned, 2 to 5.

    Attributes:
        channels: C of each stage that is returned.

    Shapes: images (B, 3, H, W), H and W multiples of 4 -> {"c3": (B, 192, H/8, W/8), ..., "c5": (B, 768, H/32, W/32)},
    sizes rounded up. A side of fewer than 4 pixels is padded with zeros.
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
        H, W = images.shape[-2:]
        x = F.pad(images, (0, max(PATCH - W, 0), 0, max(PATCH - H, 0)))
        outputs = OrderedDict()
        for i, part in enumerate(self.features):  # type: ignore[arg-type]
            x = part(x)
            name = f"c{2 + i // 2}"
            if i % 2 and name in self.norms:
                outputs[name] = self.norms[name](x).permute(0, 3, 1, 2)
        return outputs
