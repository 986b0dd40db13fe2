"""DETR: detection as set prediction, with a plain transformer on the coarsest feature map.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020; parameter names as in
facebookresearch/detr. DC5 is this detector on a backbone whose last stage is dilated instead of strided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .feed_forward import feed_forward
from .hungarian_matcher import HungarianMatcher
from .multihead_attention import attend
from .positions import resize_padding, sine_positions
from .prediction_heads import BoxHead
from .set_criterion import SetCriterion
from .set_detector import SetDetector

LOSS_WEIGHTS = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}


@dataclass(frozen=True)
class DETRConfig:
    """Everything that decides the shape of a DETR.

    Attributes:
        classes: number of classes, without "no object"; official COCO weights have 91 (category ids are labels).
        feature_channels: C of the feature map that comes in.
        channels, heads, feedforward, dropout: of the transformer.
        encoder_layers, decoder_layers: layers of each.
        queries: Q, predictions per image.
        decoder_self_attention: whether queries see each other.
    """

    classes: int = 91
    feature_channels: int = 2048
    channels: int = 256
    heads: int = 8
    feedforward: int = 2048
    dropout: float = 0.1
    encoder_layers: int = 6
    decoder_layers: int = 6
    queries: int = 100
    decoder_self_attention: bool = True

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(f"queries must be at least 1, got {self.queries}")
        if self.channels % 4 or self.channels % self.heads:
            raise ValueError(
                f"channels must be a multiple of 4 and of heads, got channels={self.channels}, heads={self.heads}"
            )


@dataclass(frozen=True)
class FlatMap:
    """A feature map as a sequence of N = H * W tokens."""

    tokens_BNC: Tensor
    positions_BNC: Tensor
    padding_BN: Tensor  # True where a token is padding


class EncoderLayer(nn.Module):
    """Attention over all tokens, then a feed-forward network; each with residual and LayerNorm."""

    recompute = True  # see detectors/protocol.py

    def __init__(self, config: DETRConfig):
        super().__init__()
        C = config.channels
        self.self_attn = nn.MultiheadAttention(C, config.heads, config.dropout, batch_first=True)
        self.linear1 = nn.Linear(C, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, C)
        self.norm1 = nn.LayerNorm(C)
        self.norm2 = nn.LayerNorm(C)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, memory_BNC: Tensor, tokens: FlatMap) -> Tensor:
        read = attend(
            self.self_attn,
            memory_BNC + tokens.positions_BNC,
            memory_BNC + tokens.positions_BNC,
            memory_BNC,
            tokens.padding_BN,
        )
        x = self.norm1(memory_BNC + self.dropout(read))
        return self.norm2(x + feed_forward(x, self.linear1, self.linear2, self.dropout))


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, layers: Iterable[EncoderLayer]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, tokens: FlatMap) -> Tensor:
        """The memory (B, N, C)."""
        memory = tokens.tokens_BNC
        for layer in self.layers:
            memory = layer(memory, tokens)
        return memory


class DecoderLayer(nn.Module):
    """Self-attention among queries, attention into the memory, feed-forward; residual and LayerNorm each."""

    recompute = True  # see detectors/protocol.py

    def __init__(self, config: DETRConfig):
        super().__init__()
        C = config.channels
        self.self_attention = config.decoder_self_attention
        if self.self_attention:
            self.self_attn = nn.MultiheadAttention(C, config.heads, config.dropout, batch_first=True)
            self.norm1 = nn.LayerNorm(C)
        self.multihead_attn = nn.MultiheadAttention(C, config.heads, config.dropout, batch_first=True)
        self.linear1 = nn.Linear(C, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, C)
        self.norm2 = nn.LayerNorm(C)
        self.norm3 = nn.LayerNorm(C)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, query_BQC: Tensor, position_BQC: Tensor, memory_BNC: Tensor, tokens: FlatMap) -> Tensor:
        """Query features (B, Q, C)."""
        x = query_BQC
        if self.self_attention:
            q = k = x + position_BQC
            x = self.norm1(x + self.dropout(attend(self.self_attn, q, k, x)))
        q, k = x + position_BQC, memory_BNC + tokens.positions_BNC
        read = attend(self.multihead_attn, q, k, memory_BNC, tokens.padding_BN)
        x = self.norm2(x + self.dropout(read))
        return self.norm3(x + feed_forward(x, self.linear1, self.linear2, self.dropout))


class Decoder(nn.Module):
    """A stack of decoder layers; one LayerNorm stands before the heads of every layer."""

    def __init__(self, layers: Iterable[DecoderLayer], channels: int):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(channels)

    def forward(self, position_BQC: Tensor, memory_BNC: Tensor, tokens: FlatMap) -> list[Tensor]:
        """Normalised query features of every layer, (B, Q, C)."""
        x = torch.zeros_like(position_BQC)
        states = []
        for layer in self.layers:
            x = layer(x, position_BQC, memory_BNC, tokens)
            states.append(self.norm(x))
        return states


class Transformer(nn.Module):
    """Encoder and decoder, started as the official code starts them."""

    def __init__(self, config: DETRConfig):
        super().__init__()
        self.encoder = Encoder(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = Decoder((DecoderLayer(config) for _ in range(config.decoder_layers)), config.channels)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)


class DETR(SetDetector):
    """DETR.

    Args:
        config: see :class:`DETRConfig`.
        backbone: maps images to a list with one feature map of ``config.feature_channels``; None for a detector
            that starts from that map (:meth:`forward_features`).
    """

    def __init__(self, config: DETRConfig, backbone: nn.Module | None = None):
        criterion = SetCriterion(config.classes, HungarianMatcher(class_cost=1.0, focal=False), LOSS_WEIGHTS)
        super().__init__(backbone, criterion)
        self.config = config
        C = config.channels
        self.input_proj = nn.Conv2d(config.feature_channels, C, 1)
        self.transformer = Transformer(config)
        self.query_embed = nn.Embedding(config.queries, C)
        self.class_embed = nn.Linear(C, config.classes + 1)
        self.bbox_embed = BoxHead(C, zero=False)

    def forward_features(
        self, features: Sequence[Tensor] | Mapping[str, Tensor], padding_mask: Tensor
    ) -> dict[str, Any]:
        """Detect from a feature map.

        Args:
            features: one map (B, ``config.feature_channels``, H, W).
            padding_mask: (B, H, W) at image resolution, True where there is padding.

        Returns:
            ``pred_logits`` (B, Q, classes + 1; the last means "no object"), ``pred_boxes`` (B, Q, 4; cxcywh,
            normalised), and ``aux_outputs``, the same of each earlier decoder layer.

        Raises:
            ValueError: if the features are not those that the model was made for.
        """
        tokens = self.flatten(features, padding_mask)
        memory = self.transformer.encoder(tokens)
        positions = self.query_embed.weight.expand(len(memory), -1, -1)
        *earlier, last = (
            {"pred_logits": self.class_embed(x).float(), "pred_boxes": self.bbox_embed(x).float().sigmoid()}
            for x in self.transformer.decoder(positions, memory, tokens)
        )
        return {**last, "aux_outputs": earlier}

    def flatten(self, features: Sequence[Tensor] | Mapping[str, Tensor], padding_mask: Tensor) -> FlatMap:
        """Project the map to C channels and write it as tokens with their positions."""
        maps = list(features.values()) if isinstance(features, Mapping) else list(features)
        channels = [feature.shape[1] for feature in maps]
        if channels != [self.config.feature_channels]:
            raise ValueError(
                f"features must be one map with {self.config.feature_channels} channels, got maps with {channels}"
            )
        projected = self.input_proj(maps[0])
        padding = resize_padding(padding_mask, projected.shape[-2:])
        positions = sine_positions(padding, self.config.channels, centred=False).to(self.query_embed.weight.dtype)
        return FlatMap(_rows(projected), _rows(positions), padding.flatten(1))


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)
