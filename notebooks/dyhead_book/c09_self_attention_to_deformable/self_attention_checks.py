"""Checks, mistakes and solutions of the chapter that goes from self-attention to deformable attention.

All functions take NumPy arrays in float64. Positions count in cells: the centre of the first cell is (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dyhead_lab.ops.numba_reference import loops

from ..practice.cases import FAR
from ..practice.reader_checks import Case, Mistake, Verdict, check
from ..practice.softmax import softmax

Weigh = Callable[[np.ndarray, int], np.ndarray]


# Attention over all tokens


def attention(query_QMD: np.ndarray, key_NMD: np.ndarray, value_NMD: np.ndarray) -> np.ndarray:
    """Every head by itself: scores, softmax over the tokens, weighted sum of the values. Returns (Q, M, D)."""
    D = query_QMD.shape[-1]
    scores_MQN = np.einsum("qmd,nmd->mqn", query_QMD, key_NMD) / np.sqrt(D)
    weights_MQN = softmax(scores_MQN, axis=-1)
    return np.einsum("mqn,nmd->qmd", weights_MQN, value_NMD)


def attention_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    """From one head and few tokens to several of each."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        Q, N, M, D = (int(n) for n in rng.integers((2, 3, 2, 2), (6, 9, 4, 6)))
        M = 1 if number < 2 else M
        query, key, value = rng.normal(size=(Q, M, D)), 2 * rng.normal(size=(N, M, D)), rng.normal(size=(N, M, D))
        yield Case(f"{Q} queries, {N} tokens, {M} head(s) of {D} channels", (query, key, value))


def _weighed(weigh: Weigh) -> Callable[..., np.ndarray]:
    """Attention whose weights are ``weigh(scores_MQN, D)`` of the plain products."""

    def imitate(query_QMD: np.ndarray, key_NMD: np.ndarray, value_NMD: np.ndarray) -> np.ndarray:
        products_MQN = np.einsum("qmd,nmd->mqn", query_QMD, key_NMD)
        return np.einsum("mqn,nmd->qmd", weigh(products_MQN, query_QMD.shape[-1]), value_NMD)

    return imitate


ATTENTION_MISTAKES = (
    Mistake(
        "the softmax runs over the queries",
        "the weights of ONE query sum to 1 over the tokens it reads: the last axis of (M, Q, N).",
        _weighed(lambda s, D: softmax(s / np.sqrt(D), 1)),
    ),
    Mistake(
        "the softmax runs over the heads",
        "heads do not compete. Each has a map of its own that sums to 1 over the tokens.",
        _weighed(lambda s, D: softmax(s / np.sqrt(D), 0)),
    ),
    Mistake(
        "the scores are not divided by the square root of D",
        "a sum of D products has a spread of sqrt(D); divide before the softmax.",
        _weighed(lambda s, D: softmax(s)),
    ),
    Mistake(
        "the scores are divided by D instead of its square root",
        "the spread of a sum of D independent products grows like sqrt(D).",
        _weighed(lambda s, D: softmax(s / D)),
    ),
    Mistake(
        "the scores are divided by the square root of all C channels",
        "a head sees D = C / M channels only.",
        _weighed(lambda s, D: softmax(s / np.sqrt(D * len(s)))),
    ),
    Mistake(
        "the weights are not divided by their sum",
        "exp alone is no softmax: divide by the sum over the tokens.",
        _weighed(lambda s, D: np.exp(s / np.sqrt(D))),
    ),
    Mistake(
        "the scores themselves are the weights",
        "take the softmax of the scores first.",
        _weighed(lambda s, D: s / np.sqrt(D)),
    ),
    Mistake(
        "all heads share one attention map",
        "compute the scores of each head from its own D channels, without a sum over M.",
        _weighed(lambda s, D: np.broadcast_to(softmax(s.mean(0, keepdims=True) / np.sqrt(D)), s.shape)),
    ),
)


def check_attention(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``attention(query_QMD, key_NMD, value_NMD)``."""
    return check(function, attention, attention_cases(seed), ATTENTION_MISTAKES)


# Deformable attention on one map


def deform_attention(
    value_HWMD: np.ndarray, reference_Q2: np.ndarray, offsets_QMP2: np.ndarray, weights_QMP: np.ndarray
) -> np.ndarray:
    """out(q) = sum over points p of A_mqp x_m(p_q + dp_mqp), in every head m by itself. Returns (Q, M, D)."""
    Q, M, P = weights_QMP.shape
    D = value_HWMD.shape[-1]
    out_QMD = np.zeros((Q, M, D))
    for q in range(Q):
        for m in range(M):
            for p in range(P):
                p_x, p_y = reference_Q2[q] + offsets_QMP2[q, m, p]
                for d in range(D):
                    x = loops.bilinear(value_HWMD[:, :, m, d], p_y, p_x)
                    out_QMD[q, m, d] += weights_QMP[q, m, p] * x
    return out_QMD


def deform_attention_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """Maps that are not square, several heads, points inside and outside."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        Q, M, P, D = (int(n) for n in rng.integers((2, 2, 2, 1), (5, 4, 5, 3)))
        M = 1 if number < 2 else M
        H, W = int(rng.integers(4, 7)), int(rng.integers(7, 10))
        arguments = (
            rng.normal(size=(H, W, M, D)),
            rng.uniform(size=(Q, 2)) * (W - 1, H - 1),
            2 * rng.normal(size=(Q, M, P, 2)),
            softmax(rng.normal(size=(Q, M, P))),
        )
        yield Case(f"map {H} x {W}, {Q} queries, {M} head(s), {P} points", arguments)


def _changed(**changes: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Callable[..., np.ndarray]:
    """The right function on changed arguments; every change gets all arguments by name."""
    names = ("value", "reference", "offsets", "weights")

    def imitate(*arguments: np.ndarray) -> np.ndarray:
        a: dict[str, Any] = dict(zip(names, arguments, strict=True))
        return deform_attention(*{**a, **{name: change(a) for name, change in changes.items()}}.values())

    return imitate


DEFORM_ATTENTION_MISTAKES = (
    Mistake(
        "x and y are swapped in the offsets",
        "deformable attention writes a point as (x, y): the first number goes with the column.",
        _changed(offsets=lambda a: a["offsets"][..., ::-1]),
    ),
    Mistake(
        "x and y are swapped in the reference point",
        "deformable attention writes a point as (x, y): the first number goes with the column.",
        _changed(reference=lambda a: a["reference"][..., ::-1]),
    ),
    Mistake(
        "x and y are swapped in the position",
        "the position is (x, y), but the map is indexed [row, column], which is [y, x].",
        _changed(reference=lambda a: a["reference"][..., ::-1], offsets=lambda a: a["offsets"][..., ::-1]),
    ),
    Mistake(
        "the offsets are forgotten",
        "the position is p_q + dp_mqp.",
        _changed(offsets=lambda a: np.zeros_like(a["offsets"])),
    ),
    Mistake(
        "the reference point is forgotten",
        "the position is p_q + dp_mqp; the offset alone counts from the query's own place.",
        _changed(reference=lambda a: np.zeros_like(a["reference"])),
    ),
    Mistake(
        "the points are summed without their weights",
        "multiply every sample by its A_mqp.",
        _changed(weights=lambda a: np.ones_like(a["weights"])),
    ),
    Mistake(
        "the points are averaged",
        "multiply every sample by its A_mqp instead of 1 / P.",
        _changed(weights=lambda a: np.full_like(a["weights"], 1 / a["weights"].shape[-1])),
    ),
    Mistake(
        "all heads read where the first head reads",
        "offsets_QMP2[q, m, p]: every head has points of its own.",
        _changed(offsets=lambda a: np.repeat(a["offsets"][:, :1], a["offsets"].shape[1], 1)),
    ),
    Mistake(
        "positions are cut to whole cells",
        "read between the cells with bilinear interpolation.",
        _changed(
            offsets=lambda a: np.floor(a["reference"][:, None, None] + a["offsets"]) - a["reference"][:, None, None]
        ),
    ),
    Mistake(
        "a position outside reads the border instead of zero",
        "skip a cell that lies outside the map; do not clamp its index.",
        _changed(
            value=lambda a: np.pad(a["value"], ((FAR, FAR), (FAR, FAR), (0, 0), (0, 0)), mode="edge"),
            reference=lambda a: a["reference"] + FAR,
        ),
    ),
)


def check_deform_attention(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``deform_attention(value_HWMD, reference_Q2, offsets_QMP2, weights_QMP)``."""
    return check(function, deform_attention, deform_attention_cases(seed), DEFORM_ATTENTION_MISTAKES)


# What both cost


def attention_macs(N: int, C: int, M: int, P: int) -> tuple[int, int]:
    """Multiply-adds of one layer of attention among N tokens: dense, and deformable on one map.

    Dense: four projections, the scores, the weighted sum. Deformable: projections of value and output, the linear
    maps to 2MP offsets and MP weights, and five multiply-adds for each of the C channels of the P samples.
    """
    dense = 4 * N * C * C + 2 * N * N * C
    deformable = 2 * N * C * C + 3 * N * C * M * P + 5 * N * P * C
    return dense, deformable


def _macs_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        M, P = int(rng.integers(2, 9)), int(rng.integers(2, 6))
        C, N = M * int(rng.integers(4, 33)), int(rng.integers(50, 500))
        yield Case(f"N = {N}, C = {C}, M = {M}, P = {P}", (N, C, M, P))


MACS_MISTAKES = (
    Mistake(
        "the scores are counted, the weighted sum is not",
        "dense attention multiplies N x N numbers with the channels twice: for scores, and for the sum.",
        lambda N, C, M, P: (attention_macs(N, C, M, P)[0] - N * N * C, attention_macs(N, C, M, P)[1]),
    ),
    Mistake(
        "every head is counted with all C channels",
        "a head has D = C / M channels, so all M heads together cost N * N * C.",
        lambda N, C, M, P: (4 * N * C * C + 2 * N * N * C * M, attention_macs(N, C, M, P)[1]),
    ),
    Mistake(
        "the projections of dense attention are forgotten",
        "queries, keys, values and output have a C x C matrix each.",
        lambda N, C, M, P: (2 * N * N * C, attention_macs(N, C, M, P)[1]),
    ),
    Mistake(
        "the offsets are counted with one number per point",
        "an offset has two numbers: 2 * M * P outputs, and M * P more for the weights.",
        lambda N, C, M, P: (attention_macs(N, C, M, P)[0], attention_macs(N, C, M, P)[1] - N * C * M * P),
    ),
    Mistake(
        "the four corners of a sample are forgotten",
        "a sample needs four products for its corners and one for its weight, in every channel.",
        lambda N, C, M, P: (attention_macs(N, C, M, P)[0], attention_macs(N, C, M, P)[1] - 4 * N * P * C),
    ),
)


def check_macs(function: Callable[[int, int, int, int], tuple[int, int]], seed: int = 0) -> Verdict:
    """Check the reader's ``attention_macs(N, C, M, P)``: multiply-adds, dense and deformable."""
    return check(function, attention_macs, _macs_cases(seed), MACS_MISTAKES)
