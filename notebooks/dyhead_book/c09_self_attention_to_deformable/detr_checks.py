"""Check and mistakes of a decoder layer of DETR: the order of its three parts, and where positions are added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dyhead_lab.detectors.detr.detr import DecoderLayer, DETRConfig, FlatMap
from dyhead_lab.detectors.detr.multihead_attention import attend

from ..practice.module_checks import check_filled
from ..practice.reader_checks import Case, Mistake, Verdict

CONFIG = DETRConfig(channels=16, heads=4, feedforward=24, dropout=0.0)


def _cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    """A batch of two images; padding in the later cases."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    for number in range(count):
        Q, N, C = 3 + number % 3, 6, CONFIG.channels
        layer = DecoderLayer(CONFIG).double().eval()
        for parameter in layer.parameters():
            parameter.data = 0.4 * normal(*parameter.shape)
        padding = torch.zeros(2, N, dtype=torch.bool)
        if number >= count // 2:
            padding[1, N - 2 :] = True
        tokens = FlatMap(normal(2, N, C), normal(2, N, C), padding)
        words = ", two of them padding in the second image" if number >= count // 2 else ""
        yield Case(
            f"{Q} queries, {N} tokens{words}", (layer, normal(2, Q, C), normal(2, Q, C), normal(2, N, C), tokens)
        )


def _library(layer: DecoderLayer, *inputs: Any) -> Tensor:
    with torch.no_grad():
        return layer(*inputs)


def _layer(**changes: Any) -> Callable[..., Tensor]:
    """A decoder layer in which some step is another one."""
    change = {
        "self_value": lambda x, position: x,
        "cross_query": lambda x, position: x + position,
        "cross_key": lambda memory, position: memory + position,
        "cross_value": lambda memory, position: memory,
        "padding": lambda padding: padding,
        "add": lambda x, read: x + read,
        "activate": torch.relu,
        **changes,
    }

    @torch.no_grad()
    def imitate(layer: Any, query: Tensor, position: Tensor, memory: Tensor, tokens: FlatMap) -> Tensor:
        def own(x: Tensor) -> Tensor:
            qk = x + position
            return layer.norm1(change["add"](x, attend(layer.self_attn, qk, qk, change["self_value"](x, position))))

        def cross(x: Tensor) -> Tensor:
            key = change["cross_key"](memory, tokens.positions_BNC)
            value = change["cross_value"](memory, tokens.positions_BNC)
            padding = change["padding"](tokens.padding_BN)
            read = attend(layer.multihead_attn, change["cross_query"](x, position), key, value, padding)
            return layer.norm2(change["add"](x, read))

        x = own(cross(query)) if changes.get("cross_first") else cross(own(query))
        return layer.norm3(change["add"](x, layer.linear2(change["activate"](layer.linear1(x)))))

    return imitate


@torch.no_grad()
def _norm_first(layer: Any, query: Tensor, position: Tensor, memory: Tensor, tokens: FlatMap) -> Tensor:
    normed = layer.norm1(query)
    x = query + attend(layer.self_attn, normed + position, normed + position, normed)
    key = memory + tokens.positions_BNC
    x = x + attend(layer.multihead_attn, layer.norm2(x) + position, key, memory, tokens.padding_BN)
    return x + layer.linear2(layer.linear1(layer.norm3(x)).relu())


DECODER_LAYER_MISTAKES = (
    Mistake(
        "the self-attention's values carry positions",
        "positions tell where to look: they are added to queries and keys, not to what is read.",
        _layer(self_value=lambda x, position: x + position),
    ),
    Mistake(
        "the query positions are missing when the memory is read",
        "the query of the second attention is x + position, with the x after norm1.",
        _layer(cross_query=lambda x, position: x),
    ),
    Mistake(
        "the keys of the memory carry no positions",
        "a key is memory + tokens.positions_BNC.",
        _layer(cross_key=lambda memory, position: memory),
    ),
    Mistake(
        "the values of the memory carry positions",
        "positions are added to queries and keys, not to what is read.",
        _layer(cross_value=lambda memory, position: memory + position),
    ),
    Mistake(
        "padding of the memory is read",
        "hand tokens.padding_BN to the second attention.",
        _layer(padding=lambda padding: None),
    ),
    Mistake(
        "the residual connections are missing",
        "each part is added to what came in: norm(x + part(x)).",
        _layer(add=lambda x, read: read),
    ),
    Mistake(
        "the memory is read before the queries see each other",
        "self-attention first, then the memory, then the two linear layers.",
        _layer(cross_first=True),
    ),
    Mistake(
        "LayerNorm comes before each part instead of behind the sum",
        "DETR normalises the sum: x = norm(x + part(x)).",
        _norm_first,
    ),
    Mistake(
        "ReLU is missing between the two linear layers",
        "linear2(linear1(x).relu()).",
        _layer(activate=lambda hidden: hidden),
    ),
)


def check_decoder_layer(own: type[nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``DecoderLayer(config)``, filled with the weights of the library's."""

    return check_filled(lambda theirs: own(CONFIG), _library, _cases(seed), DECODER_LAYER_MISTAKES)
