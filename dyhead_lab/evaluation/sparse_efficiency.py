"""What Sparse DETR costs for each share rho of refined tokens, beside the published figures.

The encoder's cost is affine in rho: queries, sampling and feed-forward networks are those of the kept tokens, but the
value projection of every layer covers all tokens.

Published: Roh et al., "Sparse DETR", ICLR 2022, as in kakaobrain/sparse-detr's README. What they call GFLOPs are 10^9
multiply-adds. Ours at 800 x 1066 meet theirs for every rho within 0.4 %; their dense figure is met at 850 x 1040, the
other size that their code counts with. Deformable attention counts five multiply-adds per sampled channel, as in
:mod:`~.efficiency`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from ..detectors.backbones.resnet import ResNetBackbone
from ..detectors.detr.deformable_transformer import FlatPyramid
from ..detectors.detr.sparse_detr import SparseDETR, SparseDETRConfig
from ..detectors.detr.token_selection import KeptTokens
from .efficiency import macs

#: rho -> published GFLOPs with ResNet-50; None: dense Deformable DETR with top-k queries and box refinement.
PUBLISHED: dict[float | None, float] = {0.1: 105.4, 0.2: 112.9, 0.3: 120.5, 0.4: 128.0, 0.5: 135.6, None: 177.3}
#: An image whose shorter side has 800 pixels at COCO's most frequent shape, 4:3.
SIZE = (800, 1066)

_CALLED_ONCE = ("backbone", "transformer.encoder", "transformer.decoder")


@dataclass(frozen=True)
class SparseCost:
    """Multiply-adds of Sparse DETR at one ``rho`` (None: every token refined, no scorer), by part."""

    rho: float | None
    backbone: int
    projections: int
    encoder: int
    decoder: int  # with its heads
    selection: int  # scoring tokens and proposing queries

    @property
    def whole(self) -> int:
        return self.backbone + self.projections + self.encoder + self.decoder + self.selection


def sparse_detr_macs(
    rho: float | None, size: tuple[int, int] = SIZE, config: SparseDETRConfig | None = None
) -> SparseCost:
    """Count the multiply-adds of detecting on one image, without computing anything.

    Args:
        rho: share of refined tokens, or None for the dense encoder.
        size: (H, W) of the image.
        config: None means the published configuration.
    """
    with torch.device("meta"), torch.no_grad():
        model = SparseDETR(config or SparseDETRConfig(), ResNetBackbone()).eval()
        detect = _WithAnyTokens(model, rho)
        counted = macs(detect, lambda: detect(torch.zeros(1, 3, *size)))
    backbone, encoder, decoder = (counted[f"model.{part}"] for part in _CALLED_ONCE)
    projections = sum(counted[f"model.input_proj.{level}"] for level in range(model.config.levels))
    selection = counted[""] - backbone - projections - encoder - decoder
    return SparseCost(rho, backbone, projections, encoder, decoder, selection)


class _WithAnyTokens(nn.Module):
    """Detect with as many tokens as rho keeps, whichever: the meta device knows no scores to choose by."""

    def __init__(self, model: SparseDETR, rho: float | None):
        super().__init__()
        self.model, self.rho = model, rho

    def forward(self, images: Tensor) -> None:
        model = self.model
        assert model.backbone is not None
        pyramid = model.flatten(model.backbone(images), torch.zeros_like(images[:, 0], dtype=torch.bool))
        if self.rho is not None:
            model.score(pyramid)
        memory, _ = model.transformer.encoder(pyramid, _any_tokens(pyramid, self.rho))
        model.predict(pyramid, memory, [])


def encoder_seconds(
    rhos: Sequence[float | None], size: tuple[int, int] = SIZE, runs: int = 3, device: torch.device | str = "cpu"
) -> dict[float | None, float]:
    """Median time of the encoder for each rho on random features, after one run that does not count."""
    torch.manual_seed(0)
    model = SparseDETR(SparseDETRConfig()).eval().to(device)
    maps = zip(model.config.feature_channels, (8, 16, 32), strict=True)
    features = [torch.randn(1, C, -(-size[0] // s), -(-size[1] // s), device=device) for C, s in maps]
    seconds = {}
    with torch.no_grad():
        pyramid = model.flatten(features, torch.zeros(1, *size, dtype=torch.bool, device=device))
        for rho in rhos:
            kept = _any_tokens(pyramid, rho)
            times = [_encoder_seconds(model, pyramid, kept) for _ in range(runs + 1)]
            seconds[rho] = median(times[1:])
    return seconds


def table(
    rhos: Sequence[float], size: tuple[int, int] = SIZE, runs: int = 3, device: torch.device | str = "cpu"
) -> str:
    """Costs by part for each rho, the dense encoder last, beside the published figures and measured encoder times."""
    wanted = [*rhos, None]
    seconds = encoder_seconds(wanted, size, runs, device)
    parts = ("backbone", "projections", "encoder", "decoder", "selection", "whole")
    lines = [
        f"one image of {size[0]} x {size[1]} pixels; GMAC: 10^9 multiply-adds, what papers call GFLOPs; "
        "five per sampled channel of deformable attention",
        f"{'rho':<8}"
        + "".join(f"{part:>13}" for part in parts)
        + f"{'published':>11}{'encoder ms':>12}{'of dense':>10}",
    ]
    for rho in wanted:
        cost = sparse_detr_macs(rho, size)
        published = f"{PUBLISHED[rho]:.1f}" if rho in PUBLISHED else "-"
        lines.append(
            f"{'dense' if rho is None else f'{rho:g}':<8}"
            + "".join(f"{getattr(cost, part) / 1e9:>13.2f}" for part in parts)
            + f"{published:>11}{1e3 * seconds[rho]:>12.1f}{seconds[rho] / seconds[None]:>10.0%}"
        )
    return "\n".join(lines)


def _any_tokens(pyramid: FlatPyramid, rho: float | None) -> KeptTokens | None:
    """As many tokens as rho keeps of one image without padding, spread evenly: which ones does not matter for cost."""
    if rho is None:
        return None
    N = pyramid.padding_BN.shape[1]
    T = min(int(N * rho) + 1, N)
    index = torch.arange(T, device=pyramid.padding_BN.device) * N // T
    return KeptTokens(index[None], torch.zeros_like(index[None], dtype=torch.bool))


def _encoder_seconds(model: SparseDETR, pyramid: FlatPyramid, kept: KeptTokens | None) -> float:
    on_gpu = pyramid.padding_BN.is_cuda
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    model.transformer.encoder(pyramid, kept)
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start
