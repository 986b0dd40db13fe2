"""DETR with Sparse DETR's idea: dense attention, but only the share rho of the tokens is refined.

The decoder attention map is here the sum of the decoder's cross-attention maps. Token i is worth refining if many
queries look at it, whatever kind of attention they look with.

Source: Roh et al., "Sparse DETR", ICLR 2022, section 3 (the method is told for any encoder).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .dam import dense_attention_map
from .detr import DETR, DETRConfig
from .token_scorers import DAMPredictor, corr_report, dam_loss, emit_selection
from .token_selection import Selection, check_rho, keep_best, rank, token_budget


@dataclass(frozen=True)
class SparsifiedDETRConfig(DETRConfig):
    """A :class:`DETRConfig` and the share of the tokens that is refined, ``rho`` in (0, 1]."""

    rho: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rho(self.rho)


class SparsifiedDETR(DETR):
    """DETR whose encoder refines the tokens that the decoder is expected to look at.

    Args:
        config: see :class:`SparsifiedDETRConfig`.
        backbone: as for :class:`~.detr.DETR`.

    Attributes:
        rho: share of the tokens that is refined when a call does not say otherwise.
    """

    def __init__(self, config: SparsifiedDETRConfig, backbone: nn.Module | None = None):
        super().__init__(config, backbone)
        self.rho = config.rho
        self.scorer = DAMPredictor(config.channels)
        self.criterion.extra_losses = (corr_report, dam_loss)

    def forward_features(
        self,
        features: Sequence[Tensor] | Mapping[str, Tensor],
        padding_mask: Tensor,
        rho: float | None = None,
        token_scores: Tensor | None = None,
    ) -> dict[str, Any]:
        """Detect from a feature map, refining a share of its tokens.

        Args:
            features, padding_mask: as in :meth:`DETR.forward_features`.
            rho, token_scores: as in :meth:`~.sparse_detr.SparseDETR.forward_features`.

        Returns:
            the outputs of DETR, and ``dam``, ``token_scores``, ``kept_tokens`` and ``selection`` as in Sparse DETR.
        """
        tokens = self.flatten(features, padding_mask)
        padding = tokens.padding_BN
        scores = self.scorer(tokens.tokens_BNC + tokens.positions_BNC, padding)
        budget = token_budget(padding, self.rho if rho is None else rho)
        kept = keep_best(rank(scores, token_scores), padding, budget)
        memory = self.transformer.encoder(tokens, kept)
        outputs, attention_maps = self.predict(tokens, memory, maps=True)
        selection = Selection(kept, budget, scores, padding, padding, (tokens.size,))
        outputs.update(selection.outputs(dense_attention_map(attention_maps)))
        emit_selection(self, outputs["dam"], selection)
        return outputs
