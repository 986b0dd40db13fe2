"""Which encoder tokens are refined: how many, which ones, and how they are taken out and put back.

Source: Roh et al., "Sparse DETR", ICLR 2022, section 3.2. All functions work on whole batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeptTokens:
    """The tokens that are refined, best first; images that keep fewer than T are filled up.

    Attributes:
        index_BT: indices into the N tokens, distinct within an image, (B, T).
        padding_BT: True where an entry is only filling, (B, T).
    """

    index_BT: Tensor
    padding_BT: Tensor

    def gather(self, x_BN: Tensor) -> Tensor:
        """Take the kept tokens out: (B, N, ...) -> (B, T, ...)."""
        return x_BN.gather(1, self._index_like(x_BN))

    def scatter(self, x_BNC: Tensor, refined_BTC: Tensor) -> Tensor:
        """Put refined tokens back in their places: (B, N, C); filling changes nothing."""
        unchanged = self.gather(x_BNC)
        rows = torch.where(self.padding_BT[..., None], unchanged, refined_BTC.to(x_BNC.dtype))
        return x_BNC.scatter(1, self._index_like(x_BNC), rows)

    def labelled(self) -> Tensor:
        """``index_BT`` with -1 in place of filling, as traces and outputs show it."""
        return self.index_BT.masked_fill(self.padding_BT, -1)

    def mask(self, tokens: int) -> Tensor:
        """True for every token that is kept, (B, N)."""
        hit_BN = torch.zeros(len(self.index_BT), tokens, dtype=torch.bool, device=self.index_BT.device)
        return hit_BN.scatter(1, self.index_BT, ~self.padding_BT)

    def _index_like(self, x_BN: Tensor) -> Tensor:
        index = self.index_BT.view(*self.index_BT.shape, *[1] * (x_BN.dim() - 2))
        return index.expand(-1, -1, *x_BN.shape[2:])


def check_rho(rho: float) -> None:
    """Refuse a share of tokens outside (0, 1]."""
    if not 0 < rho <= 1:
        raise ValueError(f"rho, the share of encoder tokens that are refined, must lie in (0, 1], got {rho}")


def token_budget(padding_BN: Tensor, rho: float) -> Tensor:
    """How many tokens each image keeps: floor(rho * valid tokens) + 1, at most all valid ones; (B,) int64.

    Raises:
        ValueError: unless 0 < rho <= 1.
    """
    check_rho(rho)
    valid_B = (~padding_BN).sum(1)
    return torch.minimum((valid_B * rho).long() + 1, valid_B)


def keep_best(scores_BN: Tensor, padding_BN: Tensor, budget_B: Tensor, T: int | None = None) -> KeptTokens:
    """Keep the ``budget_B`` tokens of each image with the highest scores; padding is never kept.

    Args:
        scores_BN: any real scores, (B, N).
        padding_BN: True where a token is padding, (B, N).
        budget_B: tokens to keep of each image, at most its valid ones, (B,).
        T: the largest of these, where it is known; else the host waits for the device to tell it.
    """
    T = int(budget_B.max()) if T is None else T
    index_BT = scores_BN.detach().masked_fill(padding_BN, -torch.inf).topk(T, 1).indices
    return KeptTokens(index_BT, torch.arange(T, device=index_BT.device) >= budget_B[:, None])


@dataclass(frozen=True)
class Selection:
    """The tokens that a sparse encoder refines, and what the losses and Corr need to know of the choice.

    Attributes:
        kept: the refined tokens.
        budget_B: how many each image keeps, (B,).
        scores_BN: the model's own scores, (B, N).
        padding_BN: True where a token is padding, (B, N).
        ignored_BN: True where a token does not enter the loss of the scores, (B, N).
        level_sizes: (H, W) of each level of the N tokens.
    """

    kept: KeptTokens
    budget_B: Tensor
    scores_BN: Tensor
    padding_BN: Tensor
    ignored_BN: Tensor
    level_sizes: tuple[tuple[int, int], ...]

    def outputs(self, dam_BN: Tensor) -> dict[str, Any]:
        """What a sparse detector adds to its outputs, once its decoder has told the DAM."""
        return {
            "dam": dam_BN,
            "token_scores": self.scores_BN,
            "kept_tokens": self.kept.labelled(),
            "selection": self,
        }


def rank(own_BN: Tensor, given_BN: Tensor | None) -> Tensor:
    """The scores that rank the tokens: those given from outside, if any.

    Raises:
        ValueError: if their shape is not that of the model's own.
    """
    if given_BN is None:
        return own_BN
    if given_BN.shape != own_BN.shape:
        raise ValueError(f"token_scores must be {tuple(own_BN.shape)}, got {tuple(given_BN.shape)}")
    return given_BN
