"""What a sparse encoder costs: check and mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..practice.reader_checks import Case, Mistake, Verdict, check


def encoder_macs(N: int, T: int, C: int, F: int, M: int, L: int, P: int) -> int:
    """Multiply-adds of one encoder layer that refines T of N tokens.

    Value projection of all tokens; for the kept ones offsets (2MLP) and weights (MLP), samples at five multiply-adds
    per channel, output projection, and a feed-forward network of width F.
    """
    values = N * C * C
    sampling = T * C * 3 * M * L * P + T * 5 * L * P * C
    return values + sampling + T * C * C + 2 * T * C * F


def _macs_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        M, L, P = (int(n) for n in rng.integers((2, 1, 2), (9, 5, 5)))
        C, F, N = M * int(rng.integers(2, 9)), int(rng.integers(30, 200)), int(rng.integers(100, 500))
        T = int(rng.integers(10, N))
        yield Case(f"N = {N}, T = {T}, C = {C}, F = {F}, M = {M}, L = {L}, P = {P}", (N, T, C, F, M, L, P))


MACS_MISTAKES = (
    Mistake(
        "the value projection covers the kept tokens only",
        "kept tokens read all tokens, so all of them need values.",
        lambda N, T, C, F, M, L, P: encoder_macs(N, T, C, F, M, L, P) - (N - T) * C * C,
    ),
    Mistake(
        "every part covers all tokens",
        "only the kept tokens are queries: offsets, weights, samples, output and feed-forward cost T, not N.",
        lambda N, T, C, F, M, L, P: encoder_macs(N, N, C, F, M, L, P),
    ),
    Mistake(
        "the feed-forward network has one layer only",
        "it goes from C to F and back.",
        lambda N, T, C, F, M, L, P: encoder_macs(N, T, C, F, M, L, P) - T * C * F,
    ),
    Mistake(
        "offsets have one number per point",
        "two numbers for the offset and one for the weight: 3 * M * L * P.",
        lambda N, T, C, F, M, L, P: encoder_macs(N, T, C, F, M, L, P) - T * C * M * L * P,
    ),
    Mistake(
        "the samples cost all channels in every head",
        "a head reads its own C / M channels, so all heads together read C.",
        lambda N, T, C, F, M, L, P: encoder_macs(N, T, C, F, M, L, P) + 5 * T * L * P * C * (M - 1),
    ),
    Mistake(
        "the output projection is forgotten",
        "the heads are mixed by one more C x C matrix.",
        lambda N, T, C, F, M, L, P: encoder_macs(N, T, C, F, M, L, P) - T * C * C,
    ),
)


def check_encoder_macs(function: Callable[..., int], seed: int = 0) -> Verdict:
    """Check the reader's ``encoder_macs(N, T, C, F, M, L, P)``."""
    return check(function, encoder_macs, _macs_cases(seed), MACS_MISTAKES)
