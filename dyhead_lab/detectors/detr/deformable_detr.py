"""Deformable DETR: DETR on all levels of a pyramid, made affordable by deformable attention.

One class, four published detectors: single-scale and multi-scale, with iterative box refinement (``refine``), with
two stages (``two_stage``), and with Efficient DETR's query initialisation (``efficient_queries``).

Sources: Zhu et al., "Deformable DETR", ICLR 2021; Yao et al., "Efficient DETR", 2021, as in kakaobrain/sparse-detr.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...attention.deformable import MultiScaleDeformableAttention
from ...attention.pyramid import LevelNorm
from .deformable_transformer import (
    DecoderOutput,
    DeformableDecoder,
    DeformableDecoderLayer,
    DeformableEncoder,
    DeformableEncoderLayer,
    FlatPyramid,
    Queries,
)
from .hungarian_matcher import HungarianMatcher
from .positions import box_sines, resize_padding
from .prediction_heads import BoxHead, class_head
from .proposals import grid_boxes, take
from .set_criterion import SetCriterion
from .set_detector import SetDetector
from .token_selection import KeptTokens

SPARSE_DETR = "sparse-detr"
#: Of Deformable DETR and, with the last one, Sparse DETR.
LOSS_WEIGHTS = {"loss_ce": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0, "loss_mask_prediction": 1.0}
#: Start value of a box head's width and height, in logits.
SMALL_BOXES = -2.0


@dataclass(frozen=True)
class DeformableDETRConfig:
    """Everything that decides the shape and behaviour of a Deformable DETR.

    Attributes:
        classes: number of classes; official COCO weights have 91 (category ids are labels).
        feature_channels: C of each feature map that comes in, fine to coarse.
        channels, heads, feedforward, dropout: of the transformer.
        levels: L of the pyramid; levels beyond the given features come from strided convolutions on the last one.
        encoder_layers, decoder_layers, encoder_points, decoder_points: layers, and P of their attention.
        queries: Q, predictions per image.
        refine: every decoder layer starts from the boxes of the layer before.
        two_stage: the encoder proposes the boxes that the decoder starts from; needs ``refine``.
        efficient_queries: with ``two_stage``, queries start as the proposed tokens themselves, and the proposing
            head tells classes instead of objects from background.
        encoder_aux_loss: heads and losses after every encoder layer but the last.
        decoder_self_attention: whether queries see each other.
        compat: ``"sparse-detr"`` repeats the behaviour of that repository: no refinement without two stages.
    """

    classes: int = 91
    feature_channels: tuple[int, ...] = (512, 1024, 2048)
    channels: int = 256
    heads: int = 8
    feedforward: int = 1024
    dropout: float = 0.1
    levels: int = 4
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_points: int = 4
    decoder_points: int = 4
    queries: int = 300
    refine: bool = False
    two_stage: bool = False
    efficient_queries: bool = False
    encoder_aux_loss: bool = False
    decoder_self_attention: bool = True
    compat: str | None = None

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(f"queries must be at least 1, got {self.queries}")
        if self.two_stage and not self.refine:
            raise ValueError("two_stage needs refine=True: the decoder refines the boxes that the encoder proposes")
        if self.efficient_queries and not self.two_stage:
            raise ValueError("efficient_queries needs two_stage=True: queries start as proposed tokens")
        if self.levels < len(self.feature_channels):
            raise ValueError(
                f"levels must be at least the number of features, got levels={self.levels} for "
                f"{len(self.feature_channels)} feature_channels"
            )
        if self.channels % 32:
            raise ValueError(f"channels must be a multiple of 32 (GroupNorm has 32 groups), got {self.channels}")
        if self.compat not in (None, SPARSE_DETR):
            raise ValueError(f"compat must be None or {SPARSE_DETR!r}, got {self.compat!r}")


class DeformableTransformer(nn.Module):
    """The learned parts between projected features and heads. Parameter names are the official ones."""

    def __init__(self, config: DeformableDETRConfig):
        super().__init__()
        C = config.channels
        width = (C, config.feedforward, config.dropout, config.levels, config.heads)
        self.efficient_queries = config.efficient_queries
        self.encoder = DeformableEncoder(
            DeformableEncoderLayer(*width, config.encoder_points) for _ in range(config.encoder_layers)
        )
        self.decoder = DeformableDecoder(
            (
                DeformableDecoderLayer(*width, config.decoder_points, config.decoder_self_attention)
                for _ in range(config.decoder_layers)
            ),
            refine=config.refine and (config.two_stage or config.compat != SPARSE_DETR),
        )
        self.level_embed = nn.Parameter(torch.empty(config.levels, C))
        if config.two_stage:
            outputs = C if config.efficient_queries else 2 * C
            self.enc_output = nn.Linear(C, C)
            self.enc_output_norm = nn.LayerNorm(C)
            self.pos_trans = nn.Linear(2 * C, outputs)
            self.pos_trans_norm = nn.LayerNorm(outputs)
        else:
            self.reference_points = nn.Linear(C, 2)
            self.sampling_parameters = ("reference_points",)  # see detectors/protocol.py
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier everywhere but in the deformable attention, which has a start of its own."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.reset_parameters()
        nn.init.normal_(self.level_embed)
        if hasattr(self, "reference_points"):
            nn.init.zeros_(self.reference_points.bias)

    def project(self, tokens_BNC: Tensor, usable_BN: Tensor) -> Tensor:
        """Tokens as the proposing heads see them, (B, N, C); those that are not usable count as zero."""
        return self.enc_output_norm(self.enc_output(tokens_BNC.masked_fill(~usable_BN[..., None], 0.0)))

    def learned_queries(self, embedding_Q2C: Tensor, batch: int) -> Queries:
        """Queries that are the same for every image, and the points they look around."""
        positions, features = embedding_Q2C.expand(batch, -1, -1).chunk(2, -1)
        return Queries(features, positions, self.reference_points(positions).float().sigmoid())

    def proposed_queries(
        self, memory_BNC: Tensor, pyramid: FlatPyramid, class_head: nn.Module, box_head: nn.Module, queries: int
    ) -> tuple[Queries, dict[str, Tensor]]:
        """Queries made of the best tokens of the encoder, and what its heads predict for all tokens."""
        grid_BN4, usable_BN = grid_boxes(pyramid)
        tokens = self.project(memory_BNC, usable_BN)
        logits = class_head(tokens).float()
        boxes = grid_BN4 + box_head(tokens).float()
        score_BN = logits.amax(-1) if self.efficient_queries else logits[..., 0]
        best_BQ = score_BN.topk(min(queries, score_BN.shape[1]), 1).indices
        references = take(boxes, best_BQ).detach().sigmoid()
        sines = box_sines(references, memory_BNC.shape[-1]).to(self.pos_trans.weight.dtype)
        embedding = self.pos_trans_norm(self.pos_trans(sines))
        if self.efficient_queries:
            positions, features = embedding, take(memory_BNC, best_BQ)
        else:
            positions, features = embedding.chunk(2, -1)
        return Queries(features, positions, references), {"pred_logits": logits, "pred_boxes": boxes.sigmoid()}


class DeformableDETR(SetDetector):
    """Deformable DETR in all its published forms.

    Args:
        config: see :class:`DeformableDETRConfig`.
        backbone: maps images to feature maps of ``config.feature_channels``; None for a detector that starts from
            a pyramid (:meth:`forward_features`).
    """

    def __init__(self, config: DeformableDETRConfig, backbone: nn.Module | None = None):
        criterion = SetCriterion(
            config.classes,
            HungarianMatcher(),
            LOSS_WEIGHTS,
            class_agnostic_encoder=config.two_stage and not config.efficient_queries,
        )
        super().__init__(backbone, criterion)
        self.config = config
        self.input_proj = nn.ModuleList(_projections(config))
        self.transformer = DeformableTransformer(config)
        if not config.two_stage:
            self.query_embed = nn.Embedding(config.queries, 2 * config.channels)
        self.class_embed, self.bbox_embed = _heads(config)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None, **options: Any
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """As :meth:`SetDetector.forward`; detecting needs no auxiliary heads."""
        return super().forward(images, targets, encoder_heads=self.training, **options)

    def forward_features(
        self, features: Sequence[Tensor] | Mapping[str, Tensor], padding_mask: Tensor, encoder_heads: bool = True
    ) -> dict[str, Any]:
        """Detect from a pyramid.

        Args:
            features: maps (B, C_i, H_i, W_i), fine to coarse, with ``config.feature_channels`` channels.
            padding_mask: (B, H, W) at image resolution, True where there is padding.
            encoder_heads: run the auxiliary heads of the encoder, where the model has them; only losses need them.

        Returns:
            ``pred_logits`` (B, Q, classes) and ``pred_boxes`` (B, Q, 4; cxcywh, normalised by the valid part of the
            image); ``aux_outputs``, the same of each earlier decoder layer; where the model has them ``enc_outputs``
            (of all N tokens) and ``aux_outputs_enc`` (of each encoder layer but the last).

        Raises:
            ValueError: if the features are not those that the model was made for.
        """
        pyramid = self.flatten(features, padding_mask)
        memory, states = self.transformer.encoder(pyramid)
        return self.predict(pyramid, memory, states if encoder_heads else [])[0]

    def flatten(self, features: Sequence[Tensor] | Mapping[str, Tensor], padding_mask: Tensor) -> FlatPyramid:
        """Project features to C channels, add the coarser levels, and join all levels."""
        maps = list(features.values()) if isinstance(features, Mapping) else list(features)
        channels = tuple(feature.shape[1] for feature in maps)
        if channels != self.config.feature_channels:
            raise ValueError(f"features must have channels {self.config.feature_channels}, got {channels}")
        projected: list[Tensor] = []
        for level, projection in enumerate(self.input_proj):
            # The first extra level looks at the last feature itself, the next ones at the level before.
            source = maps[min(level, len(maps) - 1)] if level <= len(maps) else projected[-1]
            projected.append(projection(source))
        paddings = [resize_padding(padding_mask, level.shape[-2:]) for level in projected]
        return FlatPyramid.flatten(projected, paddings, self.transformer.level_embed)

    def predict(
        self, pyramid: FlatPyramid, memory_BNC: Tensor, states: Sequence[Tensor], kept: KeptTokens | None = None
    ) -> tuple[dict[str, Any], DecoderOutput]:
        """Everything after the encoder: queries, decoder, and the heads on encoder tokens.

        Args:
            states: the refined tokens after each encoder layer, for its auxiliary heads; none: they are not run.
            kept: which tokens they are; None: all.
        """
        layers = self.config.decoder_layers
        outputs: dict[str, Any] = {}
        if self.config.two_stage:
            queries, outputs["enc_outputs"] = self.transformer.proposed_queries(
                memory_BNC, pyramid, self.class_embed[layers], self.bbox_embed[layers], self.config.queries
            )
        else:
            queries = self.transformer.learned_queries(self.query_embed.weight, len(memory_BNC))
        decoded = self.transformer.decoder(queries, memory_BNC, pyramid, self.class_embed, self.bbox_embed)
        *earlier, last = (
            {"pred_logits": logits, "pred_boxes": boxes}
            for logits, boxes in zip(decoded.logits_BQ, decoded.boxes_BQ, strict=True)
        )
        outputs.update(last, aux_outputs=earlier)
        if self.config.encoder_aux_loss and states:
            outputs["aux_outputs_enc"] = self._encoder_predictions(pyramid, states, kept)
        return outputs, decoded

    def _encoder_predictions(
        self, pyramid: FlatPyramid, states: Sequence[Tensor], kept: KeptTokens | None
    ) -> list[dict[str, Tensor]]:
        """What the auxiliary heads predict for the refined tokens of every encoder layer but the last."""
        grid, _ = grid_boxes(pyramid)
        if kept is not None:
            grid = kept.gather(grid)
        first = self.config.decoder_layers + self.config.two_stage
        filling = {} if kept is None else {"padding": kept.padding_BT}
        return [
            {
                "pred_logits": class_head(state).float(),
                "pred_boxes": (grid + box_head(state).float()).sigmoid(),
                **filling,
            }
            for state, class_head, box_head in zip(
                states[:-1], self.class_embed[first:], self.bbox_embed[first:], strict=True
            )
        ]


def _projections(config: DeformableDETRConfig) -> Iterator[nn.Module]:
    """1x1 convolutions onto C channels, then 3x3 convolutions of stride 2 for the levels beyond the features."""
    C, features = config.channels, config.feature_channels
    extra = config.levels - len(features)
    convolutions = [nn.Conv2d(channels, C, 1) for channels in features]
    convolutions += [nn.Conv2d(features[-1] if i == 0 else C, C, 3, stride=2, padding=1) for i in range(extra)]
    for convolution in convolutions:
        nn.init.xavier_uniform_(convolution.weight)
        nn.init.zeros_(convolution.get_parameter("bias"))
        yield nn.Sequential(convolution, LevelNorm(32, C))


def _heads(config: DeformableDETRConfig) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Heads of the decoder layers, then of the proposals, then of the encoder layers but the last.

    Without refinement one pair of heads serves all. Boxes start small where nothing else gives them a size: in the
    first decoder layer of a model without proposals.
    """
    C, start = config.channels, 0.0 if config.two_stage else SMALL_BOXES
    total = config.decoder_layers + config.two_stage
    if config.encoder_aux_loss:
        total += config.encoder_layers - 1
    classes, box = class_head(C, config.classes), BoxHead(C, start)
    if not (config.refine or config.encoder_aux_loss):
        return nn.ModuleList([classes] * total), nn.ModuleList([box] * total)
    class_heads = nn.ModuleList(deepcopy(classes) for _ in range(total))
    box_heads = nn.ModuleList(deepcopy(box) for _ in range(total))
    for later in box_heads[1:]:
        nn.init.zeros_(later.get_parameter("layers.2.bias"))
    return class_heads, box_heads
