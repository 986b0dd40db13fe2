"""Multi-scale deformable attention: every query reads a few learned points instead of every token.

For query q with feature z_q and reference point p_q (Deformable DETR, equation 3)::

    out(q) = sum over heads m of  W_m [ sum over levels l and points k of  A_mlqk * W'_m x_l( phi_l(p_q) + dp_mlqk ) ]

The offsets ``dp`` and the weights ``A`` (which sum to 1 over levels and points) are linear in z_q, so the cost does not
grow with the size of the image. Single-scale deformable attention is the case of one level.

Source: Zhu et al., "Deformable DETR", ICLR 2021; layout and initialisation as in fundamentalvision/Deformable-DETR.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..ops import autocast, ms_deform_attn
from ..trace import emit


class MultiScaleDeformableAttention(nn.Module):
    """Deformable attention with M heads over L levels, P points per head and level.

    Args:
        channels: C, width of queries and values; a multiple of ``heads``.
        levels: L, number of feature maps.
        heads: M.
        points: P, sampling points per head and level.
        backend: passed on to :func:`dyhead_lab.ops.ms_deform_attn`; None lets the device decide.

    Raises:
        ValueError: if ``channels`` is not a multiple of ``heads``.
    """

    sampling_parameters = ("sampling_offsets",)  # see detectors/protocol.py

    def __init__(
        self,
        channels: int = 256,
        levels: int = 4,
        heads: int = 8,
        points: int = 4,
        backend: str | None = None,
    ):
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be a multiple of heads, got channels={channels}, heads={heads}")
        self.channels, self.levels, self.heads, self.points = channels, levels, heads, points
        self.backend = backend
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the paper does (appendix A.4): head m looks along its own direction, point k lies k cells away."""
        angle_M = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction_M2 = torch.stack([angle_M.cos(), angle_M.sin()], -1)
        direction_M2 = direction_M2 / direction_M2.abs().max(-1, keepdim=True).values
        steps_P = torch.arange(1, self.points + 1)
        offsets_MLP2 = direction_M2[:, None, None] * steps_P[:, None].expand(self.levels, -1, 1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets_MLP2.flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query_BQC: Tensor,
        reference_BQL: Tensor,
        value_BNC: Tensor,
        spatial_shapes_L2: Tensor,
        level_start_index_L: Tensor,
        padding_BN: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read the values at the points that each query chooses.

        Args:
            query_BQC: features that choose offsets and weights, (B, Q, C), positions already added.
            reference_BQL: (B, Q, L, 2) points (x, y), or (B, Q, L, 4) boxes (cx, cy, w, h); in [0, 1] of each
                padded level. Around a point, offsets count in cells; around a box, in half box sizes over P.
            value_BNC: the tokens of all levels, fine to coarse, (B, N, C).
            spatial_shapes_L2: (H, W) of each level, (L, 2), int64. This and the next may stay on the CPU.
            level_start_index_L: index of each level's first token, (L,), int64.
            padding_BN: True where a token is padding; such tokens read as zero. (B, N)

        Returns:
            output (B, Q, C), sampling locations (B, Q, M, L, P, 2) as (x, y) in [0, 1], and attention weights
            (B, Q, M, L, P).

        Raises:
            ValueError: if the last axis of ``reference_BQL`` is neither 2 nor 4 or its levels are not L.
        """
        B, Q, _ = query_BQC.shape
        M, L, P = self.heads, self.levels, self.points
        if reference_BQL.shape[:-1] != (B, Q, L) or reference_BQL.shape[-1] not in (2, 4):
            raise ValueError(
                f"reference_BQL must be ({B}, {Q}, {L}, 2) points or ({B}, {Q}, {L}, 4) boxes, "
                f"got {tuple(reference_BQL.shape)}"
            )
        value = self.value_proj(value_BNC)
        if padding_BN is not None and (padding_BN.device.type != "cpu" or padding_BN.any()):  # a GPU is not waited for
            value = value.masked_fill(padding_BN[..., None], 0.0)

        offsets = self._offsets(query_BQC).view(B, Q, M, L * P * 2)
        # Points of a head lie in one row, so that the sum runs through memory in order.
        centre = reference_BQL[..., None, :2].expand(B, Q, L, P, 2).reshape(B, Q, 1, L * P * 2)
        if reference_BQL.shape[-1] == 2:
            unit = 1 / spatial_shapes_L2.flip(-1).to(offsets, non_blocking=True)
            unit = unit[:, None].expand(L, P, 2).reshape(L * P * 2)
        else:
            unit = reference_BQL[..., None, 2:].expand(B, Q, L, P, 2).reshape(B, Q, 1, L * P * 2) * (0.5 / P)
        locations = torch.addcmul(centre, offsets, unit).view(B, Q, M, L, P, 2)
        logits = self.attention_weights(query_BQC).view(B, Q, M, L * P)
        weights = logits.softmax(-1, dtype=locations.dtype).view(B, Q, M, L, P)  # as exact as the places
        emit(self, sampling_locations=locations, attention_weights=weights)

        value_BNMD = value.view(B, value.shape[1], M, self.channels // M)
        sampled = ms_deform_attn(
            value_BNMD, spatial_shapes_L2, level_start_index_L, locations, weights, backend=self.backend
        )
        emit(self, attention_values=value_BNMD, attention_shapes=spatial_shapes_L2, attention_output=sampled)
        return self.output_proj(sampled), locations, weights

    def _offsets(self, query_BQC: Tensor) -> Tensor:
        """Never under autocast: in bfloat16 an offset of 4 cells would be off by up to 1/64 cell."""
        if autocast.target(query_BQC) is None:
            return self.sampling_offsets(query_BQC)
        with autocast.off(query_BQC.device):
            return self.sampling_offsets(query_BQC.to(self.sampling_offsets.weight.dtype))
