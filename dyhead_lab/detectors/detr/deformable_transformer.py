"""Encoder and decoder of Deformable DETR, and the flat form in which they see a pyramid.

Source: Zhu et al., "Deformable DETR", ICLR 2021; parameter names as in fundamentalvision/Deformable-DETR.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...attention.deformable import MultiScaleDeformableAttention
from ...trace import emit
from ..anchors import cell_centres
from .feed_forward import feed_forward
from .multihead_attention import attend
from .positions import sine_positions, valid_cells
from .prediction_heads import refine_boxes
from .token_selection import KeptTokens


@dataclass(frozen=True)
class FlatPyramid:
    """All levels of a pyramid as one sequence of N tokens, fine to coarse."""

    tokens_BNC: Tensor
    positions_BNC: Tensor  # sine position plus level embedding
    padding_BN: Tensor  # True where a token is padding
    sizes: tuple[tuple[int, int], ...]  # (H, W) of each level
    spatial_shapes_L2: Tensor  # the same as a tensor; on the CPU, so that the operator need not wait for a GPU
    level_start_index_L: Tensor  # where each level starts among the tokens; on the CPU too
    valid_cells_BL2: Tensor  # columns and rows (x, y) of each level that are not padding

    @classmethod
    def flatten(cls, features: Sequence[Tensor], paddings: Sequence[Tensor], level_embed_LC: Tensor) -> FlatPyramid:
        """Join levels (B, C, H, W) and their padding masks (B, H, W); add sine positions and level embeddings."""
        positions = [
            sine_positions(padding, level.shape[-1], centred=True).to(level.dtype) + level[:, None, None]
            for padding, level in zip(paddings, level_embed_LC, strict=True)
        ]
        sizes = tuple((feature.shape[2], feature.shape[3]) for feature in features)
        counts = torch.tensor([0, *(H * W for H, W in sizes[:-1])])
        return cls(
            _join(features),
            _join(positions),
            torch.cat([padding.flatten(1) for padding in paddings], 1),
            sizes,
            torch.tensor(sizes),
            counts.cumsum(0),
            torch.stack([valid_cells(padding) for padding in paddings], 1),
        )

    def cell_references(self) -> Tensor:
        """Centre (x, y) of every token in [0, 1] of the part that is not padding, (B, N, 2); beyond 1 in padding."""
        centres = [
            cell_centres(H, W, self.tokens_BNC.device) / self.valid_cells_BL2[:, None, level]
            for level, (H, W) in enumerate(self.sizes)
        ]
        return torch.cat(centres, 1)

    def on_levels(self, reference_BQ: Tensor) -> Tensor:
        """Points or boxes of the valid part -> the same in [0, 1] of every padded level, (B, Q, L, 2 or 4)."""
        ratios_BL2 = self.valid_cells_BL2 / self.spatial_shapes_L2.flip(-1).to(self.valid_cells_BL2, non_blocking=True)
        return reference_BQ[:, :, None] * ratios_BL2.repeat(1, 1, reference_BQ.shape[-1] // 2)[:, None]


def _join(maps: Iterable[Tensor]) -> Tensor:
    return torch.cat([feature.flatten(2).transpose(1, 2) for feature in maps], 1)


class DeformableEncoderLayer(nn.Module):
    """Deformable attention over the memory, then a feed-forward network; each with residual and LayerNorm."""

    recompute = True  # see detectors/protocol.py

    def __init__(self, channels: int, feedforward: int, dropout: float, levels: int, heads: int, points: int):
        super().__init__()
        self.self_attn = MultiScaleDeformableAttention(channels, levels, heads, points)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, feedforward)
        self.linear2 = nn.Linear(feedforward, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, query_BQC: Tensor, position_BQC: Tensor, reference_BQL2: Tensor, memory_BNC: Tensor, pyramid: FlatPyramid
    ) -> Tensor:
        read, _, _ = self.self_attn(
            query_BQC + position_BQC,
            reference_BQL2,
            memory_BNC,
            pyramid.spatial_shapes_L2,
            pyramid.level_start_index_L,
            pyramid.padding_BN,
        )
        x = self.norm1(query_BQC + self.dropout(read))
        return self.norm2(x + feed_forward(x, self.linear1, self.linear2, self.dropout))


class DeformableEncoder(nn.Module):
    """A stack of encoder layers that refines all tokens, or only those that are kept."""

    def __init__(self, layers: Iterable[DeformableEncoderLayer]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, pyramid: FlatPyramid, kept: KeptTokens | None = None) -> tuple[Tensor, list[Tensor]]:
        """Refine tokens layer by layer; queries are the (kept) tokens, values are always all of them.

        Returns:
            the memory (B, N, C), and the refined tokens after each layer, (B, N or T, C).
        """
        reference = pyramid.on_levels(pyramid.cell_references())
        memory, position = pyramid.tokens_BNC, pyramid.positions_BNC
        if kept is None:
            query = memory
        else:
            query, position, reference = kept.gather(memory), kept.gather(position), kept.gather(reference)
        states = []
        for layer in self.layers:
            query = layer(query, position, reference, memory, pyramid)
            memory = query if kept is None else kept.scatter(memory, query)
            states.append(query)
        return memory, states


class DeformableDecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention into the memory, feed-forward; residual and LayerNorm each.

    Args:
        self_attention: without it, queries do not see each other (an ablation).

    The others are as in :class:`DeformableEncoderLayer`.
    """

    recompute = True  # see detectors/protocol.py

    def __init__(
        self,
        channels: int,
        feedforward: int,
        dropout: float,
        levels: int,
        heads: int,
        points: int,
        self_attention: bool = True,
    ):
        super().__init__()
        self.cross_attn = MultiScaleDeformableAttention(channels, levels, heads, points)
        self.norm1 = nn.LayerNorm(channels)
        if self_attention:
            self.self_attn = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
            self.norm2 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, feedforward)
        self.linear2 = nn.Linear(feedforward, channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.self_attention = self_attention

    def forward(
        self, query_BQC: Tensor, position_BQC: Tensor, reference_BQL: Tensor, memory_BNC: Tensor, pyramid: FlatPyramid
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer: query features (B, Q, C), sampling locations and attention weights of the cross-attention."""
        x = query_BQC
        if self.self_attention:
            q = k = x + position_BQC
            x = self.norm2(x + self.dropout(attend(self.self_attn, q, k, x)))
        read, locations, weights = self.cross_attn(
            x + position_BQC,
            reference_BQL,
            memory_BNC,
            pyramid.spatial_shapes_L2,
            pyramid.level_start_index_L,
            pyramid.padding_BN,
        )
        x = self.norm1(x + self.dropout(read))
        return self.norm3(x + feed_forward(x, self.linear1, self.linear2, self.dropout)), locations, weights


@dataclass(frozen=True)
class Queries:
    """What the decoder starts from."""

    features_BQC: Tensor
    positions_BQC: Tensor
    references_BQ: Tensor  # (B, Q, 2) points or (B, Q, 4) boxes, in [0, 1] of the valid part


@dataclass(frozen=True)
class DecoderOutput:
    """What every decoder layer predicts and where it looked; lists have one entry per layer."""

    logits_BQ: list[Tensor]  # (B, Q, classes)
    boxes_BQ: list[Tensor]  # (B, Q, 4) cxcywh, normalised
    sampling_locations: list[Tensor]  # (B, Q, M, L, P, 2)
    attention_weights: list[Tensor]  # (B, Q, M, L, P)


class DeformableDecoder(nn.Module):
    """A stack of decoder layers. With ``refine`` each layer looks around the box that the layer before predicted."""

    def __init__(self, layers: Iterable[DeformableDecoderLayer], refine: bool):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.refine = refine

    def forward(
        self,
        queries: Queries,
        memory_BNC: Tensor,
        pyramid: FlatPyramid,
        class_heads: Iterable[nn.Module],
        box_heads: Iterable[nn.Module],
    ) -> DecoderOutput:
        """Decode; the first heads are those of the layers, further ones are left alone."""
        output = DecoderOutput([], [], [], [])
        x, reference = queries.features_BQC, queries.references_BQ
        for layer, class_head, box_head in zip(self.layers, class_heads, box_heads, strict=False):
            emit(layer, reference_boxes=reference)
            x, locations, weights = layer(x, queries.positions_BQC, pyramid.on_levels(reference), memory_BNC, pyramid)
            boxes = refine_boxes(box_head(x).float(), reference)
            if self.refine:
                reference = boxes.detach()
            output.logits_BQ.append(class_head(x).float())
            output.boxes_BQ.append(boxes)
            output.sampling_locations.append(locations)
            output.attention_weights.append(weights)
        return output
