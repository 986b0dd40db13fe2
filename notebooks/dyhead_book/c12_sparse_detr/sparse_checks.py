"""Checks, mistakes and solutions of the chapter on Sparse DETR: the decoder attention map and the tokens it keeps.

All functions take NumPy arrays of one image, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from dyhead_lab.detectors.detr.dam import decoder_attention_map as library_map
from dyhead_lab.ops.numba_reference import loops

from ..practice.cases import draw_sizes
from ..practice.reader_checks import Case, Mistake, Verdict, check
from ..practice.softmax import softmax

# Where the decoder looked


def decoder_attention_map(
    locations_QMLP2: np.ndarray, weights_QMLP: np.ndarray, shapes_L2: np.ndarray, starts_L: np.ndarray
) -> np.ndarray:
    """Give the weight of every sampling point to the four tokens that it reads, by their shares; (N,)."""
    Q, M, L, P = weights_QMLP.shape
    dam_N = np.zeros(shapes_L2.prod(1).sum())
    for q in range(Q):
        for m in range(M):
            for l in range(L):
                H, W = shapes_L2[l]
                for p in range(P):
                    x, y = locations_QMLP2[q, m, l, p] * (W, H) - 0.5
                    for row, column, G, _, _ in loops.around.py_func(y, x):
                        if 0 <= row < H and 0 <= column < W:
                            dam_N[starts_L[l] + row * W + column] += weights_QMLP[q, m, l, p] * G
    return dam_N


def _map(locations: np.ndarray, weights: np.ndarray, shapes: np.ndarray, starts: np.ndarray, **options: Any) -> Any:
    """The library's map of one image."""
    r, A, sizes, first = (torch.from_numpy(array.copy()) for array in (locations[None], weights[None], shapes, starts))
    return library_map(r, A, sizes, first, tokens=int(shapes.prod(1).sum()), **options)[0].numpy()


def _map_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        Q, M, P = (int(n) for n in rng.integers(2, 4, 3))
        shapes = draw_sizes(rng, 1 if number < 2 else int(rng.integers(2, 4)))
        L, counts = len(shapes), shapes.prod(1)
        starts = np.concatenate([[0], counts.cumsum()[:-1]])
        weights = softmax(rng.normal(size=(Q, M, L, P)), (2, 3))
        arguments = rng.uniform(-0.1, 1.1, size=(Q, M, L, P, 2)), weights, shapes, starts
        yield Case(f"{Q} queries, {M} heads, {P} points, levels {shapes.tolist()}", arguments)


def _snapped(locations: np.ndarray, shapes: np.ndarray, half: float) -> np.ndarray:
    """Locations moved to the centre of a cell: the nearest one (half = 0), or the one above and to the left (0.5)."""
    size = shapes[:, None, ::-1]
    return (np.floor(locations * size - half) + 0.5) / size


MAP_MISTAKES = (
    Mistake(
        "the half cell is forgotten",
        "the operator reads at r * W - 0.5, so that is where the weight has to go. The released code has this bug.",
        lambda r, A, s, n: _map(r, A, s, n, half_pixel=False),
    ),
    Mistake(
        "x and y are swapped",
        "a location is (x, y): x goes with W and with the column.",
        lambda r, A, s, n: _map(r[..., ::-1], A, s, n),
    ),
    Mistake(
        "the nearest token gets all of the weight",
        "the point reads four tokens: each gets its share G of the weight.",
        lambda r, A, s, n: _map(_snapped(r, s, 0), A, s, n),
    ),
    Mistake(
        "the token above and to the left gets all of the weight",
        "the point reads four tokens: each gets its share G of the weight.",
        lambda r, A, s, n: _map(_snapped(r, s, 0.5), A, s, n),
    ),
    Mistake(
        "points are counted, not their weights",
        "multiply the share of each token by the attention weight of the point.",
        lambda r, A, s, n: _map(r, np.ones_like(A), s, n),
    ),
    Mistake(
        "a point outside gives its weight to the border",
        "a token outside does not exist: that share is lost.",
        lambda r, A, s, n: _map(r.clip(0.5 / s[:, None, ::-1], 1 - 0.5 / s[:, None, ::-1]), A, s, n),
    ),
    Mistake(
        "the map is a mean over the queries",
        "it is a sum: a token is important if many queries look at it.",
        lambda r, A, s, n: _map(r, A, s, n) / len(A),
    ),
    Mistake(
        "the map is a mean over the heads",
        "it is a sum over queries, heads and layers.",
        lambda r, A, s, n: _map(r, A, s, n) / A.shape[1],
    ),
)


def check_map(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``decoder_attention_map(locations_QMLP2, weights_QMLP, shapes_L2, starts_L)``."""
    return check(function, _map, _map_cases(seed), MAP_MISTAKES)


# Which tokens are kept


def keep(scores_N: np.ndarray, padding_N: np.ndarray, rho: float) -> np.ndarray:
    """The floor(rho * valid) + 1 tokens with the highest scores, best first; padding is never kept."""
    valid = int((~padding_N).sum())
    T = min(math.floor(rho * valid) + 1, valid)
    return np.where(padding_N, -np.inf, scores_N).argsort()[::-1][:T]


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    return scores.argsort()[::-1][:count]


def _keep_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        N = int(rng.integers(20, 40))
        padding = np.arange(N) % 5 >= (5 if number < 2 else 3)
        rho = float(rng.uniform(0.1, 0.5))
        yield Case(f"{N} tokens, {padding.sum()} of them padding, rho {rho:.2f}", (rng.normal(size=N), padding, rho))


def _budget(padding_N: np.ndarray, rho: float) -> int:
    return math.floor(rho * int((~padding_N).sum())) + 1


KEEP_MISTAKES = (
    Mistake(
        "the tokens with the lowest scores are kept",
        "argsort goes from low to high: turn it round.",
        lambda s, padding, rho: np.where(padding, np.inf, s).argsort()[: _budget(padding, rho)],
    ),
    Mistake(
        "padding can be kept",
        "give padding a score of minus infinity.",
        lambda s, padding, rho: _best(s, _budget(padding, rho)),
    ),
    Mistake(
        "padding counts in the budget",
        "rho is a share of the valid tokens: (~padding_N).sum(), not N.",
        lambda s, padding, rho: _best(np.where(padding, -np.inf, s), math.floor(rho * len(s)) + 1),
    ),
    Mistake(
        "one token is missing",
        "floor(rho * valid) + 1: even the smallest rho keeps one.",
        lambda s, padding, rho: keep(s, padding, rho)[:-1],
    ),
    Mistake(
        "the tokens stand in the order of the image",
        "best first: the order of the scores.",
        lambda s, padding, rho: np.sort(keep(s, padding, rho)),
    ),
)


def check_keep(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``keep(scores_N, padding_N, rho)``: indices of the kept tokens, best first."""
    return check(function, keep, _keep_cases(seed), KEEP_MISTAKES)


# Refining only those


def refine_kept(tokens_NC: np.ndarray, kept_T: np.ndarray, layer: Callable[..., np.ndarray]) -> np.ndarray:
    """Run an encoder layer for the kept tokens only: they are the queries, all tokens are the values; (N, C)."""
    refined_NC = tokens_NC.copy()
    refined_NC[kept_T] = layer(tokens_NC[kept_T], tokens_NC)
    return refined_NC


def example_layer(query_TC: np.ndarray, value_NC: np.ndarray) -> np.ndarray:
    """A stand-in for an encoder layer whose result depends on every query and every value."""
    return query_TC + softmax(query_TC @ value_NC.T) @ value_NC


def _refine_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        N, C = int(rng.integers(6, 12)), int(rng.integers(2, 5))
        kept = rng.permutation(N)[: N // 3 + 1]
        yield Case(f"{N} tokens, kept {kept.tolist()}", (rng.normal(size=(N, C)), kept, example_layer))


def _filled(tokens: np.ndarray, kept: np.ndarray, start: np.ndarray, rows: np.ndarray) -> np.ndarray:
    out = start.copy()
    out[kept] = rows
    return out


REFINE_KEPT_MISTAKES = (
    Mistake(
        "the kept tokens read only each other",
        "the values are all tokens. That is why the value projection costs the same for every rho.",
        lambda x, kept, layer: _filled(x, kept, x, layer(x[kept], x[kept])),
    ),
    Mistake(
        "the other tokens become zero",
        "a token that is not kept goes on unchanged: the decoder still reads it.",
        lambda x, kept, layer: _filled(x, kept, np.zeros_like(x), layer(x[kept], x)),
    ),
    Mistake(
        "the refined tokens are written to the front",
        "row t of the result belongs to token kept_T[t].",
        lambda x, kept, layer: _filled(x, np.arange(len(kept)), x, layer(x[kept], x)),
    ),
    Mistake(
        "every token is refined",
        "only the kept tokens are queries.",
        lambda x, kept, layer: layer(x, x),
    ),
    Mistake(
        "the refined tokens are added to the old ones",
        "the layer has its residual inside: replace the row.",
        lambda x, kept, layer: _filled(x, kept, x, x[kept] + layer(x[kept], x)),
    ),
)


def check_refine_kept(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``refine_kept(tokens_NC, kept_T, layer)``."""
    return check(function, refine_kept, _refine_cases(seed), REFINE_KEPT_MISTAKES)
