"""Which encoder tokens a trained detector uses: those its decoder refers to, and those its encoder refines.

Source of the measures: Roh et al., "Sparse DETR", ICLR 2022, sections 3.1 and 3.3. The paper finds that the decoder of
a converged Deformable DETR refers to about 45 % of the tokens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Protocol

import torch
from torch import Tensor

from ..detectors.detr.dam import correlation, decoder_attention_map
from ..detectors.detr.deformable_detr import DeformableDETR
from ..detectors.detr.deformable_transformer import FlatPyramid
from ..detectors.detr.sparse_detr import SparseDETR
from ..detectors.image_batch import pad_images
from ..trace import trace
from .coco_metric import evaluation_mode

BATCH = 16
CROSS_ATTENTION = "cross_attn"


class Images(Protocol):
    """What is measured on: (image (3, H, W), anything) for each index, such as a ``CocoDetection``."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, Any]: ...


@torch.no_grad()
def mean_corr(model: SparseDETR, images: Images, rho: float) -> float:
    """Corr, the share of the decoder's attention that falls on refined tokens: mean over the images.

    Args:
        model: a trained Sparse DETR.
        images: a data set; its targets are not used.
        rho: share of the tokens that is refined.
    """
    total = 0.0
    with evaluation_mode(model):
        for maps, padding_mask in _features(model, images):
            outputs = model.forward_features(maps, padding_mask, encoder_heads=False, rho=rho)
            dam_BN, kept = outputs["dam"], outputs["selection"].kept
            total += float(correlation(dam_BN, kept.mask(dam_BN.shape[1]))[0]) * len(dam_BN)
    return total / len(images)


@torch.no_grad()
def encoder_milliseconds(model: SparseDETR, images: Images, rho: float, runs: int = 10) -> float:
    """Median time of the encoder per image, on one batch, after one run that does not count."""
    with evaluation_mode(model):
        maps, padding_mask = next(_features(model, images))
        kept = model.forward_features(maps, padding_mask, rho=rho)["selection"].kept
        pyramid = model.flatten(maps, padding_mask)
        times = []
        for _ in range(runs + 1):
            _wait(pyramid.tokens_BNC)
            start = time.perf_counter()
            model.transformer.encoder(pyramid, kept)
            _wait(pyramid.tokens_BNC)
            times.append(time.perf_counter() - start)
    return 1e3 * median(times[1:]) / len(padding_mask)


@torch.no_grad()
def referred_tokens(model: DeformableDETR, images: Images, share: float = 0.9) -> dict[str, float]:
    """How many of the encoder's tokens the decoder looks at; means over the images. Padding does not count.

    Args:
        model: a trained Deformable DETR or Sparse DETR.
        images: a data set; its targets are not used.
        share: of the attention, for the second number.

    Returns:
        ``referred``: the share of the tokens that at least one sampling point of any layer reads; ``carry``: the share
        of the tokens that together receive ``share`` of the attention, counting those that receive most.
    """
    referred = carry = 0.0
    with evaluation_mode(model):
        for maps, padding_mask in _features(model, images):
            pyramid = model.flatten(maps, padding_mask)
            dam_BN = _attention_map(model, maps, padding_mask, pyramid).masked_fill(pyramid.padding_BN, 0.0)
            falling_BN = dam_BN.sort(1, descending=True).values
            before_BN = falling_BN.cumsum(1) - falling_BN
            needed_BN = before_BN < share * falling_BN.sum(1, keepdim=True)
            tokens_B = (~pyramid.padding_BN).sum(1)
            referred += float(((dam_BN > 0).sum(1) / tokens_B).sum())
            carry += float((needed_BN.sum(1) / tokens_B).sum())
    return {"referred": referred / len(images), "carry": carry / len(images)}


def _features(model: DeformableDETR, images: Images) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
    """Feature maps and padding mask of one batch after the other."""
    assert model.backbone is not None
    device = next(model.parameters()).device
    for start in range(0, len(images), BATCH):
        stop = min(start + BATCH, len(images))
        batch, padding_mask = pad_images([images[index][0].to(device) for index in range(start, stop)])
        yield model.backbone(batch), padding_mask


def _attention_map(model: DeformableDETR, maps: Sequence[Tensor], padding_mask: Tensor, pyramid: FlatPyramid) -> Tensor:
    """The decoder attention map (B, N) of all layers, from what they emit."""
    with trace(model, keep=lambda path, name: path.endswith(CROSS_ATTENTION)) as t:
        model.forward_features(maps, padding_mask, encoder_heads=False)
    return decoder_attention_map(
        torch.cat([locations for _, locations in t.find("sampling_locations")], 1),
        torch.cat([weights for _, weights in t.find("attention_weights")], 1),
        pyramid.spatial_shapes_L2,
        pyramid.level_start_index_L,
        tokens=pyramid.padding_BN.shape[1],
    )


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()
