"""Check and mistakes of the encoder that refines only the kept tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dyhead_lab.detectors.detr.deformable_transformer import DeformableEncoder, DeformableEncoderLayer, FlatPyramid
from dyhead_lab.detectors.detr.token_selection import KeptTokens

from ..practice.reader_checks import Case, Mistake, Verdict, check

SIZES = ((4, 6), (2, 3))  # (H, W) of the levels
N, C = 30, 8


def _pyramid(generator: torch.Generator) -> FlatPyramid:
    valid = torch.tensor([[W, H] for H, W in SIZES]).float().expand(2, -1, -1)
    tokens, positions = torch.randn(2, 2, N, C, generator=generator)
    padding = torch.zeros(2, N, dtype=torch.bool)
    return FlatPyramid(tokens, positions, padding, SIZES, torch.tensor(SIZES), torch.tensor([0, 24]), valid)


def _encoder_cases(seed: int = 0) -> Iterator[Case]:
    """One layer; two layers; two layers and an image that keeps fewer tokens than the other."""
    generator = torch.Generator().manual_seed(seed)
    for layers, filling in ((1, 0), (2, 0), (2, 3)):
        encoder = DeformableEncoder(DeformableEncoderLayer(C, 12, 0.0, 2, 2, 2) for _ in range(layers)).eval()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        index = torch.stack([torch.randperm(N, generator=generator)[:6] for _ in range(2)])
        padding = torch.arange(6) >= 6 - torch.tensor([0, filling])[:, None]
        text = f"{layers} layer(s), 6 of {N} tokens{f', second image {6 - filling}' if filling else ''}"
        yield Case(text, (encoder, _pyramid(generator), KeptTokens(index, padding)))


def _encode(
    encoder: DeformableEncoder,
    pyramid: FlatPyramid,
    kept: KeptTokens,
    *,
    values: Callable[[Tensor, KeptTokens], Tensor] = lambda memory, kept: memory,
    put_back: Callable[..., Tensor] = lambda memory, kept, query: kept.scatter(memory, query),
    query_of: Callable[..., Tensor] = lambda query, memory, kept: query,
) -> Tensor:
    """The library's layers, put together in another way."""
    reference = kept.gather(pyramid.on_levels(pyramid.cell_references()))
    memory, position = pyramid.tokens_BNC, kept.gather(pyramid.positions_BNC)
    query = kept.gather(memory)
    for layer in encoder.layers:
        query = layer(query, position, reference, values(memory, kept), pyramid)
        memory = put_back(memory, kept, query)
    return memory


def _all_refined(encoder: DeformableEncoder, pyramid: FlatPyramid, kept: KeptTokens) -> Tensor:
    return encoder(pyramid)[0]


def _memory_not_updated(encoder: DeformableEncoder, pyramid: FlatPyramid, kept: KeptTokens) -> Tensor:
    return _encode(encoder, pyramid, kept, values=lambda memory, kept: pyramid.tokens_BNC)


def _at_the_front(memory: Tensor, kept: KeptTokens, query: Tensor) -> Tensor:
    index = torch.arange(kept.index_BT.shape[1]).expand_as(kept.index_BT)
    return KeptTokens(index, kept.padding_BT).scatter(memory, query)


def _filling_too(memory: Tensor, kept: KeptTokens, query: Tensor) -> Tensor:
    return KeptTokens(kept.index_BT, torch.zeros_like(kept.padding_BT)).scatter(memory, query)


def _run(**changes: Any) -> Callable[..., Tensor]:
    return lambda encoder, pyramid, kept: _encode(encoder, pyramid, kept, **changes)


ENCODER_MISTAKES = (
    Mistake(
        "the kept tokens read only each other",
        "the values are all tokens. That is why the value projection costs the same for every rho.",
        _run(values=lambda memory, kept: memory * kept.mask(N)[..., None]),
    ),
    Mistake(
        "the other tokens become zero",
        "a token that is not kept goes on unchanged: the decoder still reads it.",
        _run(put_back=lambda memory, kept, query: kept.scatter(torch.zeros_like(memory), query)),
    ),
    Mistake(
        "the refined tokens are written to the front",
        "row t of the refined tokens belongs to token index_BT[b, t]: scatter.",
        _run(put_back=_at_the_front),
    ),
    Mistake("every token is refined", "only the kept tokens are queries.", _all_refined),
    Mistake(
        "the refined tokens are added to the old ones",
        "the layer has its residual inside: put its result in the place of the old token.",
        _run(put_back=lambda memory, kept, query: kept.scatter(memory, kept.gather(memory) + query)),
    ),
    Mistake(
        "all layers read the tokens of the backbone",
        "the second layer reads what the first one refined: put tokens back after every layer.",
        _memory_not_updated,
    ),
    Mistake(
        "the filling of a batch is refined too",
        "where an image keeps fewer tokens than the largest one, its last rows are only filling.",
        _run(put_back=_filling_too),
    ),
)


def check_encoder(own: Callable[..., nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's class ``DeformableEncoder`` on layers of the library: the memory that it returns."""

    def run(encoder: DeformableEncoder, *arguments: Any) -> Tensor:
        return own(encoder.layers)(*arguments)[0]

    # float32, as the library's references are; sums in another order differ by about 1e-6
    return check(run, lambda encoder, *a: encoder(*a)[0], _encoder_cases(seed), ENCODER_MISTAKES, tolerance=1e-5)
