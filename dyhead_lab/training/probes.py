"""What attention has learned so far, as a few numbers that a log can hold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..attention.scale import scale_ratio
from ..detectors.detr.dam import correlation
from ..evaluation.coco_metric import evaluation_mode
from ..trace import Trace, trace

PROBED = ("scale_weights", "dam", "kept_tokens")


class Probe:
    """:func:`probe` with the same images each time, that never ends a run: a failure is told once.

    Args:
        images: (3, H, W) each, on the device of the model.
    """

    def __init__(self, images: Sequence[Tensor]):
        self._images = images
        self._has_warned = False

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The numbers of :func:`probe`; none where it fails."""
        try:
            return probe(model, self._images)
        except Exception as error:  # a detector may emit anything under these names
            if not self._has_warned:
                reason = f"{type(error).__name__}: {error}"
                warnings.warn(f"no numbers of attention in the log, the training goes on: {reason}", stacklevel=2)
            self._has_warned = True
            return {}


@torch.no_grad()
def probe(model: nn.Module, images: Sequence[Tensor]) -> dict[str, float]:
    """Look at a detector while it detects. Always ask with the same images: then only the model changes.

    Args:
        model: any detector; its training modes are as before afterwards.
        images: (3, H, W) each, on the device of the model.

    Returns:
        ``scale_ratio/I/L`` for a Dynamic Head: the mean scale ratio of block I at level L, counted from 1, finest
        level first (see :func:`~dyhead_lab.attention.scale.scale_ratio`). ``dam_overlap`` for Sparse DETR: the
        share of the decoder's attention that falls on the tokens it kept. Nothing for a detector without either.
    """
    with evaluation_mode(model), trace(model, keep=lambda path, name: name in PROBED) as seen:
        model(list(images))
    return {**scale_ratios(seen), **dam_overlap(seen)}


def scale_ratios(seen: Trace) -> dict[str, float]:
    """Mean scale ratio per block and level, from one pass. The released form calls a block's gate once a level."""
    calls: dict[str, list[Tensor]] = {}
    for path, weights in seen.find("scale_weights"):
        calls.setdefault(path, []).append(weights.float())
    ratios = {}
    for block, gates in enumerate(calls.values(), start=1):
        is_paper_form = len(gates) == 1  # one call with the weights of all levels, (B, L)
        levels = gates[0].shape[1] if is_paper_form else len(gates)
        for level in range(levels):
            ratio_B = scale_ratio(gates[0], level) if is_paper_form else scale_ratio(gates[level])
            ratios[f"scale_ratio/{block}/{level + 1}"] = round(float(ratio_B.mean()), 4)
    return ratios


def dam_overlap(seen: Trace) -> dict[str, float]:
    """Mean share of the decoder attention map on kept tokens (equation 6 of Sparse DETR), from one pass."""
    maps = [dam_BN for _, dam_BN in seen.find("dam")]
    kept = [tokens_BT for _, tokens_BT in seen.find("kept_tokens")]
    shares = [float(correlation(dam_BN, _mask(kept_BT, dam_BN))[0]) for dam_BN, kept_BT in zip(maps, kept, strict=True)]
    return {"dam_overlap": round(sum(shares) / len(shares), 4)} if shares else {}


def _mask(kept_BT: Tensor, dam_BN: Tensor) -> Tensor:
    """(B, N), True for kept tokens; -1 in ``kept_BT`` stands for none."""
    mask = torch.zeros(dam_BN.shape[0], dam_BN.shape[1] + 1, dtype=torch.bool, device=dam_BN.device)
    return mask.scatter_(1, kept_BT % mask.shape[1], True)[:, :-1]  # -1 lands in the last column, which is cut off
