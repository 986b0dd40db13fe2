"""Checks and mistakes of attention over all tokens: the function, the module with heads, and sine positions.

All functions take tensors in float64. What the reader writes is held against PyTorch and against the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dyhead_lab.detectors.detr import positions

from ..practice.module_checks import check_filled
from ..practice.reader_checks import Case, Mistake, Verdict, check

Read = tuple[Tensor, Tensor]

# Attention over all tokens


def attention_formula(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Read:
    """What every query reads (B, M, Q, D), from PyTorch, and the weights that give it (B, M, Q, N)."""
    allowed = None if padding is None else ~padding
    read = F.scaled_dot_product_attention(query, key, value, allowed)
    one_hot = torch.eye(key.shape[2], dtype=key.dtype).expand(*key.shape[:2], -1, -1)
    return read, F.scaled_dot_product_attention(query, key, one_hot, allowed)


def _attention_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    """One head; then several, in batches; then padding."""
    rng = torch.Generator().manual_seed(seed)
    for number in range(count):
        Q, N, D = (int(torch.randint(low, high, (), generator=rng)) for low, high in ((2, 6), (4, 9), (2, 6)))
        B, M = (1, 1) if number < 2 else (2, 3)
        query, key, value = (torch.randn(B, M, n, D, generator=rng, dtype=torch.float64) for n in (Q, N, N))
        padding = None
        if number >= count // 2:
            padding = torch.zeros(B, 1, 1, N, dtype=torch.bool)
            padding[..., N - 1 :], padding[-1, ..., N - 2 :] = True, True
        words = ", the last of them padding" if padding is not None else ""
        yield Case(f"batch {B}, {M} head(s) of {D} channels, {Q} queries, {N} tokens{words}",
                   (query, 2 * key, value, padding))  # fmt: skip


Weigh = Callable[[Tensor, Tensor | None], Tensor]


def _weighed(weigh: Weigh) -> Callable[..., Read]:
    """Attention whose weights are ``weigh(products / sqrt(D), padding)``."""

    def imitate(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Read:
        weights = weigh(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), padding)
        return weights @ value, weights

    return imitate


def _masked(scores: Tensor, padding: Tensor | None) -> Tensor:
    return scores if padding is None else scores.masked_fill(padding, -torch.inf)


def _scaled(factor: Callable[[int, int], float]) -> Callable[..., Read]:
    """Right but for the scale of the scores: ``factor(D, M)`` times what it should be."""

    def imitate(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Read:
        return attention_formula(query * factor(query.shape[-1], query.shape[1]), key, value, padding)

    return imitate


def _softmax_over(dim: int) -> Weigh:
    return lambda scores, padding: _masked(scores, padding).softmax(dim).nan_to_num(0.0)


ATTENTION_MISTAKES = (
    Mistake(
        "the softmax runs over the queries",
        "the weights of ONE query sum to 1 over the tokens it reads: the last axis of (B, M, Q, N).",
        _weighed(_softmax_over(2)),
    ),
    Mistake(
        "the softmax runs over the heads",
        "heads do not compete. Each has a map of its own that sums to 1 over the tokens.",
        _weighed(_softmax_over(1)),
    ),
    Mistake(
        "the scores are not divided by the square root of D",
        "a sum of D products has a spread of sqrt(D); divide before the softmax.",
        _scaled(lambda D, M: math.sqrt(D)),
    ),
    Mistake(
        "the scores are divided by D instead of its square root",
        "the spread of a sum of D independent products grows like sqrt(D).",
        _scaled(lambda D, M: 1 / math.sqrt(D)),
    ),
    Mistake(
        "the scores are divided by the square root of all C channels",
        "a head sees D = C / M channels only.",
        _scaled(lambda D, M: 1 / math.sqrt(M)),
    ),
    Mistake(
        "the weights are not divided by their sum",
        "exp alone is no softmax: divide by the sum over the tokens.",
        _weighed(lambda scores, padding: _masked(scores, padding).exp()),
    ),
    Mistake(
        "the scores themselves are the weights",
        "take the softmax of the scores first.",
        _weighed(lambda scores, padding: scores if padding is None else scores.masked_fill(padding, 0.0)),
    ),
    Mistake(
        "all heads share one attention map",
        "compute the scores of each head from its own D channels, without a mean over M.",
        _weighed(lambda scores, padding: _masked(scores.mean(1, keepdim=True).expand_as(scores), padding).softmax(-1)),
    ),
    Mistake(
        "padding is read like any other token",
        "where padding is True the score must be minus infinity, so that the weight is 0.",
        _weighed(lambda scores, padding: scores.softmax(-1)),
    ),
    Mistake(
        "padding gets the score 0",
        "exp(0) is 1, not 0. Fill in minus infinity.",
        _weighed(lambda scores, padding: _softmax_over(-1)(*_zero_scores(scores, padding))),
    ),
    Mistake(
        "the weights of padding are removed after the softmax",
        "what is left does not sum to 1. Fill in minus infinity before the softmax.",
        _weighed(lambda scores, padding: _without(scores.softmax(-1), padding)),
    ),
    Mistake(
        "padding and tokens are exchanged",
        "padding is True where there is nothing to read.",
        _weighed(lambda scores, padding: _masked(scores, None if padding is None else ~padding).softmax(-1)),
    ),
)


def _zero_scores(scores: Tensor, padding: Tensor | None) -> tuple[Tensor, None]:
    return _without(scores, padding), None


def _without(x: Tensor, padding: Tensor | None) -> Tensor:
    return x if padding is None else x.masked_fill(padding, 0.0)


def check_attention(function: Callable[..., Read], seed: int = 0) -> Verdict:
    """Check the reader's ``attention(query, key, value, padding=None)``: what is read, and the weights."""
    return check(function, attention_formula, _attention_cases(seed), ATTENTION_MISTAKES)


# The module with heads


def _module_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """One head, then several, then padding; queries and keys differ throughout."""
    rng = torch.Generator().manual_seed(seed)
    torch_state = torch.random.get_rng_state()
    for number in range(count):
        B, M, D, Q, N = 2, (1 if number < 2 else 2 + number % 2), 4, 3 + number % 3, 5 + number % 4
        torch.manual_seed(seed + number)
        module = nn.MultiheadAttention(M * D, M, batch_first=True, dtype=torch.float64).eval()
        for bias in (module.in_proj_bias, module.out_proj.bias):
            nn.init.normal_(bias)
        query, key, value = (torch.randn(B, n, M * D, generator=rng, dtype=torch.float64) for n in (Q, N, N))
        padding = None
        if number >= count // 2:
            padding = torch.zeros(B, N, dtype=torch.bool)
            padding[-1, N - 2 :] = True
        words = ", with padding" if padding is not None else ""
        yield Case(f"{M} head(s) of {D} channels, {Q} queries, {N} tokens{words}", (module, query, key, value, padding))
    torch.random.set_rng_state(torch_state)


def _pytorch(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Any:
    with torch.no_grad():
        return module(query, key, value, key_padding_mask=padding, need_weights=False)[0]


def _thirds(*order: int) -> Callable[..., Any]:
    """The three matrices of ``in_proj_weight`` taken in another order."""

    def imitate(module: nn.MultiheadAttention, *inputs: Any) -> Any:
        other = deepcopy(module)
        for name in ("in_proj_weight", "in_proj_bias"):
            parts = getattr(module, name).detach().chunk(3)
            getattr(other, name).data = torch.cat([parts[n] for n in order])
        return _pytorch(other, *inputs)

    return imitate


def _spoilt(spoil: Callable[[nn.MultiheadAttention], Any]) -> Callable[..., Any]:
    def imitate(module: nn.MultiheadAttention, *inputs: Any) -> Any:
        other = deepcopy(module)
        spoil(other)
        return _pytorch(other, *inputs)

    return imitate


def _by_hand(cut: Callable[[Tensor, int], Tensor], join: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """PyTorch's sum with another way to cut (B, N, C) into heads (B, M, N, D), or to join them."""

    def imitate(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, padding: Any) -> Any:
        weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
        q, k, v = map(F.linear, (query, key, value), weights, biases)
        q, k, v = (cut(x, module.num_heads) for x in (q, k, v))
        read, _ = attention_formula(q, k, v, None if padding is None else padding[:, None, None])
        return module.out_proj(join(read)).detach()

    return imitate


def _cut(x: Tensor, M: int) -> Tensor:
    return x.unflatten(-1, (M, -1)).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


MULTIHEAD_MISTAKES = (
    Mistake(
        "(B, N, C) is cut into (B, M, N, D) by view alone",
        "view keeps the order of numbers. First (B, N, M, D), then exchange N and M with transpose(1, 2).",
        _by_hand(lambda x, M: x.reshape(len(x), M, -1, x.shape[2] // M), _join),
    ),
    Mistake(
        "the heads are joined by view alone",
        "(B, M, Q, D) goes back to (B, Q, M, D) with transpose(1, 2) before it is flattened.",
        _by_hand(_cut, lambda x: x.reshape(len(x), x.shape[2], -1)),
    ),
    Mistake(
        "channels go to the heads in turn",
        "head 0 has the first D channels, head 1 the next: (M, D), not (D, M).",
        _by_hand(
            lambda x, M: x.unflatten(-1, (-1, M)).permute(0, 3, 1, 2), lambda x: x.permute(0, 2, 3, 1).flatten(2)
        ),
    ),
    Mistake(
        "there is one head only",
        "cut the C channels into M heads before the attention.",
        _by_hand(lambda x, M: x[:, None], lambda x: x[:, 0]),
    ),
    Mistake("queries and keys exchange their matrices", "in_proj_weight holds query, key, value.", _thirds(1, 0, 2)),
    Mistake("keys and values exchange their matrices", "in_proj_weight holds query, key, value.", _thirds(0, 2, 1)),
    Mistake(
        "the order of the matrices is value, key, query",
        "in_proj_weight holds query, key, value.",
        _thirds(2, 1, 0),
    ),
    Mistake(
        "values are computed from the keys",
        "the third argument goes through the third matrix; in DETR it lacks the positions that keys have.",
        lambda module, query, key, value, padding: _pytorch(module, query, key, key, padding),
    ),
    Mistake(
        "the last linear layer is missing",
        "the heads are joined by out_proj.",
        _spoilt(lambda m: (nn.init.eye_(m.out_proj.weight), nn.init.zeros_(m.out_proj.bias))),
    ),
    Mistake(
        "in_proj_bias is forgotten", "each of the three maps has a bias.",
        _spoilt(lambda m: nn.init.zeros_(m.in_proj_bias)),
    ),
    Mistake(
        "padding is not handed on",
        "padding_BN goes into attention as (B, 1, 1, N).",
        lambda module, query, key, value, padding: _pytorch(module, query, key, value, None),
    ),
)  # fmt: skip


def check_multihead(own: type[nn.Module], seed: int = 0) -> Verdict:
    """Check the reader's ``MultiheadAttention(channels, heads)``, filled with the weights of PyTorch's module."""

    def build(theirs: nn.MultiheadAttention) -> nn.Module:
        return own(theirs.embed_dim, theirs.num_heads)

    return check_filled(build, _pytorch, _module_cases(seed), MULTIHEAD_MISTAKES)


# Sine positions

SAME_POSITION = 1e-5  # the library computes positions in float32


def _positions_cases(count: int = 8) -> Iterator[Case]:
    """Whole maps counted to the far edge, then with padding, then counted from the centres."""
    for number in range(count):
        H, W, C = 3 + number % 3, 7 - number % 2, (8, 16)[number % 2]
        padding = torch.zeros(2, H, W, dtype=torch.bool)
        centred = number >= 6
        if number >= 3:
            padding[1, H - 1 :], padding[1, :, W - 2 :] = True, True
        words = " with padding in the second image" if number >= 3 else ""
        yield Case(f"map {H} x {W}{words}, C = {C}, centred={centred}", (padding, C, centred))


def _positions(
    count: Callable[[Tensor, int, bool], Tensor] | None = None,
    write: Callable[[Tensor, int], Tensor] = positions.sines,
    x_first: bool = False,
) -> Callable[..., Tensor]:
    """The library's positions with another way to count cells, or to write an angle as sines."""

    def imitate(padding_BHW: Tensor, channels: int, centred: bool = False) -> Tensor:
        angles = [(count or _angles)(padding_BHW, axis, centred) for axis in (1, 2)]
        y, x = (write(angle, channels // 2) for angle in angles)
        return torch.cat([x, y] if x_first else [y, x], -1).permute(0, 3, 1, 2)

    return imitate


def _angles(padding_BHW: Tensor, axis: int, centred: bool, start: float = 0.0, turn: float = 2 * math.pi) -> Tensor:
    cells = (~padding_BHW).float().cumsum(axis)
    last = cells.narrow(axis, cells.shape[axis] - 1, 1)
    return (cells - (0.5 if centred else 0.0) - start) / (last + 1e-6) * turn


def _spread(power: Callable[[Tensor, int], Tensor], interleave: bool = True) -> Callable[[Tensor, int], Tensor]:
    """Sines whose wavelengths follow another exponent or which stand in another order."""

    def write(x: Tensor, features: int) -> Tensor:
        angles = x[..., None] / positions.TEMPERATURE ** power(torch.arange(features // 2), features)
        pair = torch.stack([angles.sin(), angles.cos()], -1 if interleave else -2)
        return pair.flatten(-2)

    return write


POSITION_MISTAKES = (
    Mistake(
        "x comes before y", "the first half of the channels tells y, the second x.", _positions(x_first=True)
    ),
    Mistake(
        "all sines come first, then all cosines",
        "sine and cosine of one wavelength stand side by side: stack on a last axis, then flatten it.",
        _positions(write=_spread(lambda i, features: 2 * i / features, interleave=False)),
    ),
    Mistake(
        "the exponent grows with i / features instead of 2 i / features",
        "a pair shares a wavelength: the exponents are 0, 2 / features, 4 / features, ...",
        _positions(write=_spread(lambda i, features: i / features)),
    ),
    Mistake(
        "cells are counted as they are, not as a share of the map",
        "divide by the count of the last cell and multiply by 2 pi.",
        _positions(lambda p, axis, centred: (~p).float().cumsum(axis) - (0.5 if centred else 0.0)),
    ),
    Mistake(
        "the factor 2 pi is forgotten",
        "the whole map is one turn of the slowest sine.",
        _positions(lambda p, axis, centred: _angles(p, axis, centred, turn=1.0)),
    ),
    Mistake(
        "cells of padding are counted too",
        "count with cumsum over cells that are not padding, so that the last one of the image is at 2 pi.",
        _positions(lambda p, axis, centred: _angles(torch.zeros_like(p), axis, centred)),
    ),
    Mistake(
        "counting starts at 0",
        "cumsum of ones starts at 1, the far edge of the first cell.",
        _positions(lambda p, axis, centred: _angles(p, axis, centred, start=1.0)),
    ),
    Mistake(
        "cells are counted from their far edges although centred is True",
        "with centred, take half a cell off.",
        _positions(lambda p, axis, centred: _angles(p, axis, False)),
    ),
)  # fmt: skip


def check_sine_positions(function: Callable[..., Tensor]) -> Verdict:
    """Check the reader's ``sine_positions(padding_BHW, channels, centred)``."""
    return check(function, positions.sine_positions, _positions_cases(), POSITION_MISTAKES, SAME_POSITION)
