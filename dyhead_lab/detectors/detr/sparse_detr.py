"""Sparse DETR: the encoder refines only the share rho of its tokens, those that the decoder is expected to look at.

Source: Roh et al., "Sparse DETR", ICLR 2022; kakaobrain/sparse-detr. Four things differ from that repository because
there they are wrong; ``compat="sparse-detr"`` repeats them for its checkpoints:

- its decoder attention map is shifted by half a cell against the points that were read;
- how many tokens of an image enter the auxiliary losses and Corr depends on the other images of the batch;
- padding enters the mean inside the scorer, and its loss;
- without two stages the decoder does not refine boxes (so in its Deformable DETR; Sparse DETR has two stages).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .dam import decoder_attention_map
from .deformable_detr import SPARSE_DETR, DeformableDETR, DeformableDETRConfig
from .deformable_transformer import DecoderOutput, FlatPyramid
from .proposals import grid_boxes
from .token_scorers import DAMPredictor, ObjectnessHead, corr_report, dam_loss, emit_selection
from .token_selection import Selection, check_rho, keep_best, rank, token_budget

SELECTIONS = ("dam", "objectness", "random")


@dataclass(frozen=True)
class SparseDETRConfig(DeformableDETRConfig):
    """A :class:`DeformableDETRConfig` with the published defaults of Sparse DETR.

    Attributes:
        rho: share of the tokens that is refined, in (0, 1]; may be changed at any time (``model.rho``).
        selection: what ranks the tokens: ``"dam"`` the predicted decoder attention map, ``"objectness"`` a
            detection head on the backbone, ``"random"`` chance (torch's generator).
    """

    refine: bool = True
    two_stage: bool = True
    efficient_queries: bool = True
    encoder_aux_loss: bool = True
    rho: float = 0.3
    selection: str = "dam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.two_stage:
            raise ValueError("Sparse DETR needs two_stage=True: its scorer shares the projection of the proposals")
        check_rho(self.rho)
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection must be one of {', '.join(SELECTIONS)}, got {self.selection!r}")


class SparseDETR(DeformableDETR):
    """Sparse DETR.

    Args:
        config: see :class:`SparseDETRConfig`.
        backbone: as for :class:`~.deformable_detr.DeformableDETR`.

    Attributes:
        rho: share of the tokens that is refined when a call does not say otherwise.
    """

    config: SparseDETRConfig

    def __init__(self, config: SparseDETRConfig, backbone: nn.Module | None = None):
        super().__init__(config, backbone)
        self.rho = config.rho
        self.criterion.extra_losses = (corr_report,)
        if config.selection == "dam":
            self.transformer.enc_mask_predictor = DAMPredictor(config.channels)
            self.criterion.extra_losses = (corr_report, dam_loss)
        elif config.selection == "objectness":
            self.transformer.enc_objectness = ObjectnessHead(config.channels, config.classes)

    def forward_features(
        self,
        features: Sequence[Tensor] | Mapping[str, Tensor],
        padding_mask: Tensor,
        encoder_heads: bool = True,
        rho: float | None = None,
        token_scores: Tensor | None = None,
    ) -> dict[str, Any]:
        """Detect from a pyramid, refining a share of its tokens.

        Args:
            features, padding_mask, encoder_heads: as in :meth:`DeformableDETR.forward_features`.
            rho: share of the tokens that is refined, in (0, 1]; None means ``self.rho``.
            token_scores: rank the tokens by these, (B, N), instead of by the model's own scores: for instance by
                the ``dam`` that another model gave for the same images.

        Returns:
            the outputs of Deformable DETR, and ``dam`` (B, N): what the decoder attended to; ``token_scores``
            (B, N): the model's own scores; ``kept_tokens`` (B, T): the refined ones, best first, -1 where an image
            keeps fewer than T; ``selection``: all of it for the criterion.
        """
        pyramid = self.flatten(features, padding_mask)
        scores, predictions = self.score(pyramid)
        budget = token_budget(pyramid.padding_BN, self.rho if rho is None else rho)
        kept = keep_best(rank(scores, token_scores), pyramid.padding_BN, budget)
        memory, states = self.transformer.encoder(pyramid, kept)
        if self.config.compat == SPARSE_DETR:  # every image counts as many tokens as the largest one keeps
            kept = replace(kept, padding_BT=torch.zeros_like(kept.padding_BT))
        outputs, decoded = self.predict(pyramid, memory, states if encoder_heads else [], kept)
        outputs.update(predictions)
        selection = Selection(kept, budget, scores, pyramid.padding_BN, self._ignored(pyramid), pyramid.sizes)
        outputs.update(selection.outputs(self._decoder_attention_map(decoded, pyramid)))
        emit_selection(self, outputs["dam"], selection)
        return outputs

    def score(self, pyramid: FlatPyramid) -> tuple[Tensor, dict[str, Any]]:
        """Score every token before the encoder sees it, (B, N); and the predictions made on the way, for the losses."""
        if self.config.selection == "random":
            return torch.rand(pyramid.padding_BN.shape, device=pyramid.padding_BN.device), {}
        grid, usable_BN = grid_boxes(pyramid)
        tokens = self.transformer.project(pyramid.tokens_BNC + pyramid.positions_BNC, usable_BN)
        if self.config.selection == "objectness":
            predictions = self.transformer.get_submodule("enc_objectness")(tokens, grid)
            return predictions["pred_logits"].amax(-1), {"backbone_outputs": predictions}
        scores = self.transformer.get_submodule("enc_mask_predictor")(tokens, self._ignored(pyramid))
        if self.config.compat == SPARSE_DETR:  # its loss then pulls at the lowest score through the padding
            scores = scores.masked_fill(pyramid.padding_BN, scores.min())
        return scores, {}

    def _ignored(self, pyramid: FlatPyramid) -> Tensor:
        """Tokens that enter neither the mean of the scorer nor its loss, (B, N)."""
        if self.config.compat == SPARSE_DETR:
            return torch.zeros_like(pyramid.padding_BN)
        return pyramid.padding_BN

    def _decoder_attention_map(self, decoded: DecoderOutput, pyramid: FlatPyramid) -> Tensor:
        return decoder_attention_map(
            torch.cat(decoded.sampling_locations, 1),
            torch.cat(decoded.attention_weights, 1),
            pyramid.spatial_shapes_L2,
            pyramid.level_start_index_L,
            tokens=pyramid.padding_BN.shape[1],
            half_pixel=self.config.compat != SPARSE_DETR,
        )
