"""The deformable convolution that a ResNet's later stages may have in place of their 3x3 convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from ...attention.spatial import OffsetMaskConv
from ...attention.traced_conv import traced_deform_conv2d


class DeformableConv2d(nn.Conv2d):
    """A 3x3 convolution that predicts an offset and a weight for each of its taps from its own input.

    Source: Zhu et al., "Deformable ConvNets v2", CVPR 2019.
    """

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
