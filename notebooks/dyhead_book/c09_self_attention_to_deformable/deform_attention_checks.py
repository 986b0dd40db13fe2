"""Checks and mistakes of deformable attention on one map, and of what both kinds of attention cost.

Arrays are NumPy's, in float64. Positions count in cells: the centre of the first cell is (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.evaluation.efficiency import macs
from dyhead_lab.ops import formula

from ..practice.cases import FAR
from ..practice.reader_checks import Case, Mistake, Verdict, check
from ..practice.softmax import softmax

# Deformable attention on one map


def deform_attention_formula(
    value_HWMD: np.ndarray, reference_Q2: np.ndarray, offsets_QMP2: np.ndarray, weights_QMP: np.ndarray
) -> np.ndarray:
    """out(q) = sum over points p of A_mqp x_m(p_q + dp_mqp), in every head by itself: the operator on one level."""
    H, W, M, D = value_HWMD.shape
    locations = (reference_Q2[:, None, None] + offsets_QMP2 + 0.5) / (W, H)  # cell centres lie at (i + 0.5) / size
    out = formula.ms_deform_attn(
        torch.from_numpy(value_HWMD.reshape(1, H * W, M, D).copy()),
        torch.tensor([[H, W]]),
        torch.tensor([0]),
        torch.from_numpy(locations.copy())[None, :, :, None],
        torch.from_numpy(weights_QMP.copy())[None, :, :, None],
    )
    return out[0].unflatten(-1, (M, D)).numpy()


def _cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
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
        return deform_attention_formula(*{**a, **{name: change(a) for name, change in changes.items()}}.values())

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
        "only the last point is kept",
        "`=` stands where `+=` belongs: every point adds to out[q, m, d].",
        _changed(weights=lambda a: a["weights"] * (np.arange(a["weights"].shape[-1]) == a["weights"].shape[-1] - 1)),
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
    return check(function, deform_attention_formula, _cases(seed), DEFORM_ATTENTION_MISTAKES)


# What both cost


@lru_cache
def counted_macs(N: int, C: int, M: int, P: int) -> tuple[int, int]:
    """Multiply-adds of one layer of attention among N tokens, dense and deformable on one map, counted as it runs."""
    x, reference = torch.zeros(1, N, C), torch.zeros(1, N, 1, 2)
    dense = nn.MultiheadAttention(C, M, batch_first=True).train()  # its fast path in evaluation is not counted
    deformable = MultiScaleDeformableAttention(C, 1, M, P)
    level = torch.tensor([[1, N]]), torch.tensor([0])
    with torch.no_grad():
        return (
            macs(dense, lambda: dense(x, x, x))[""],
            macs(deformable, lambda: deformable(x, reference, x, *level))[""],
        )


def _macs_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        M, P = int(rng.integers(2, 9)), int(rng.integers(2, 6))
        C, N = M * int(rng.integers(4, 33)), int(rng.integers(50, 500))
        yield Case(f"N = {N}, C = {C}, M = {M}, P = {P}", (N, C, M, P))


MACS_MISTAKES = (
    Mistake(
        "the scores are counted, the weighted sum is not",
        "dense attention multiplies N x N numbers with the channels twice: for scores, and for the sum.",
        lambda N, C, M, P: (counted_macs(N, C, M, P)[0] - N * N * C, counted_macs(N, C, M, P)[1]),
    ),
    Mistake(
        "every head is counted with all C channels",
        "a head has D = C / M channels, so all M heads together cost N * N * C.",
        lambda N, C, M, P: (4 * N * C * C + 2 * N * N * C * M, counted_macs(N, C, M, P)[1]),
    ),
    Mistake(
        "the projections of dense attention are forgotten",
        "queries, keys, values and output have a C x C matrix each.",
        lambda N, C, M, P: (2 * N * N * C, counted_macs(N, C, M, P)[1]),
    ),
    Mistake(
        "the offsets are counted with one number per point",
        "an offset has two numbers: 2 * M * P outputs, and M * P more for the weights.",
        lambda N, C, M, P: (counted_macs(N, C, M, P)[0], counted_macs(N, C, M, P)[1] - N * C * M * P),
    ),
    Mistake(
        "the four corners of a sample are forgotten",
        "a sample needs four products for its corners and one for its weight, in every channel.",
        lambda N, C, M, P: (counted_macs(N, C, M, P)[0], counted_macs(N, C, M, P)[1] - 4 * N * P * C),
    ),
)


def check_macs(function: Callable[[int, int, int, int], tuple[int, int]], seed: int = 0) -> Verdict:
    """Check the reader's ``attention_macs(N, C, M, P)``: multiply-adds, dense and deformable."""
    return check(function, counted_macs, _macs_cases(seed), MACS_MISTAKES)
