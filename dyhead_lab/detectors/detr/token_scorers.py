"""What decides which encoder tokens are worth refining.

Source: Roh et al., "Sparse DETR", ICLR 2022, section 3.3 (decoder attention map) and section 3.2 (objectness score).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...trace import emit, is_traced
from .dam import correlation, kept_share
from .prediction_heads import BoxHead, class_head
from .token_selection import Selection, keep_best


class DAMPredictor(nn.Module):
    """Predict from the backbone's tokens how much the decoder will look at each: (B, N, C) -> (B, N).

    Half of the hidden channels are replaced by their mean over the image, so that tokens compete.
    Parameter names are those of ``enc_mask_predictor`` in kakaobrain/sparse-detr.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.layer1 = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU())
        self.layer2 = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.GELU(),
            nn.Linear(channels // 2, channels // 4),
            nn.GELU(),
            nn.Linear(channels // 4, 1),
        )
        for layer in (*self.layer1, *self.layer2):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, tokens_BNC: Tensor, ignored_BN: Tensor) -> Tensor:
        """Scores (B, N), as logits; tokens in ``ignored_BN`` do not enter the mean."""
        local, shared = self.layer1(tokens_BNC).chunk(2, -1)
        counted_BN1 = (~ignored_BN)[..., None]
        mean = (shared * counted_BN1).sum(1, keepdim=True) / counted_BN1.sum(1, keepdim=True)
        return self.layer2(torch.cat([local, mean.expand_as(local)], -1)).squeeze(-1).float()


class ObjectnessHead(nn.Module):
    """A detection head on the backbone's tokens; the best class score of a token ranks it.

    It is trained with the Hungarian loss of the other heads (terms ``..._backbone``).
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.class_embed = class_head(channels, classes)
        self.bbox_embed = BoxHead(channels)

    def forward(self, tokens_BNC: Tensor, grid_BN4: Tensor) -> dict[str, Tensor]:
        """``pred_logits`` (B, N, classes) and ``pred_boxes`` (B, N, 4) around the grid boxes (logits, (B, N, 4))."""
        return {
            "pred_logits": self.class_embed(tokens_BNC).float(),
            "pred_boxes": (grid_BN4 + self.bbox_embed(tokens_BNC).float()).sigmoid(),
        }


def dam_loss(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Binary cross-entropy that wants high scores for the tokens that the decoder looked at most, as many as are kept.

    Args:
        outputs: of a sparse detector: ``dam`` (B, N) and ``selection`` (:class:`~.token_selection.Selection`).

    Returns:
        ``loss_mask_prediction``: the mean over the tokens of each image, then over images.
    """
    dam_BN, selection = outputs["dam"], outputs["selection"]
    T = selection.kept.index_BT.shape[1]
    wanted_BN = keep_best(dam_BN, selection.padding_BN, selection.budget_B, T).mask(dam_BN.shape[1])
    scores_BN, counted_BN = selection.scores_BN, ~selection.ignored_BN
    loss_BN = F.binary_cross_entropy_with_logits(scores_BN, wanted_BN.to(scores_BN), reduction="none")
    return {"loss_mask_prediction": ((loss_BN * counted_BN).sum(1) / counted_BN.sum(1)).mean()}


def corr_report(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Corr over all tokens and per level, under the official names; it only reports."""
    dam_BN, selection = outputs["dam"], outputs["selection"]
    kept_BN = selection.kept.mask(dam_BN.shape[1])
    total, *levels = correlation(dam_BN, kept_BN, selection.level_sizes)
    named = {f"corr_mask_attn_map_dec_{level}": corr for level, corr in enumerate(levels)}
    return {"corr_mask_attn_map_dec_all": total, **named}


def emit_selection(model: nn.Module, dam_BN: Tensor, selection: Selection) -> None:
    """Show which tokens ``model`` refined, where its decoder looked, and how well the two agree."""
    if is_traced():
        kept = selection.kept
        emit(
            model,
            dam=dam_BN,
            kept_tokens=kept.labelled(),
            dam_kept=kept_share(dam_BN, kept.mask(dam_BN.shape[1])),
        )
