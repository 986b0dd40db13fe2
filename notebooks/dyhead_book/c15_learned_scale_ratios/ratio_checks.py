"""Checks and planted bugs of the chapter on learned scale ratios: what goes with what, and by chance or not.

Functions take and return NumPy arrays in float64 and plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..practice.reader_checks import Case, Mistake, Verdict, check

Relation = Callable[[np.ndarray, np.ndarray], float]


def ranks(x_n: np.ndarray) -> np.ndarray:
    """Rank of each number, 1 for the smallest; equal numbers share the mean of their ranks."""
    below = (x_n[None] < x_n[:, None]).sum(1)
    equal = (x_n[None] == x_n[:, None]).sum(1)
    return below + (equal + 1) / 2


# How two things go together


def rank_correlation(x_n, y_n):  # type: ignore[no-untyped-def]
    """Spearman's correlation: that of the ranks, from -1 to 1."""
    x, y = ranks(x_n) - ranks(x_n).mean(), ranks(y_n) - ranks(y_n).mean()
    return (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())


def _relation_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """Skewed numbers, half of the cases with ties."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        n = int(rng.integers(6, 15))
        x = np.exp(rng.normal(size=n))
        y = np.exp(rng.normal(size=n)) + x * rng.choice([-0.3, 1.0])
        if number % 2:
            x, y = np.round(2 * x), np.round(y)
            x[0], y[0] = x.max() + 1, y.max() + 1  # never all equal
        yield Case(f"{n} pairs{', some equal' if number % 2 else ''}", (x, y))


def _by_order(x_n: np.ndarray) -> np.ndarray:
    """Ranks in which equal numbers differ."""
    return x_n.argsort(kind="stable").argsort(kind="stable") + 1.0


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))


RANK_MISTAKES = (
    Mistake(
        "the values are correlated, not their ranks",
        "rank both first: one extreme image must not decide.",
        _pearson,
    ),
    Mistake(
        "argsort is taken for the ranks",
        "argsort says which number comes first, second, ...; a rank says where a number comes. See `ranks`.",
        lambda x, y: _pearson(x.argsort(kind="stable"), y.argsort(kind="stable")),
    ),
    Mistake(
        "equal numbers get different ranks",
        "equal numbers share the mean of their ranks. `ranks` does that.",
        lambda x, y: _pearson(_by_order(x), _by_order(y)),
    ),
    Mistake(
        "the ranks are not centred",
        "take the mean off before multiplying.",
        lambda x, y: (ranks(x) * ranks(y)).sum() / np.sqrt((ranks(x) ** 2).sum() * (ranks(y) ** 2).sum()),
    ),
    Mistake(
        "only one of the two is ranked",
        "rank x and y.",
        lambda x, y: _pearson(ranks(x), y),
    ),
    Mistake(
        "the sign is lost",
        "a negative correlation says something too.",
        lambda x, y: abs(rank_correlation(x, y)),
    ),
)


def check_rank_correlation(function: Relation) -> Verdict:
    """Check the reader's ``rank_correlation(x_n, y_n)``."""
    return check(function, rank_correlation, _relation_cases(), RANK_MISTAKES)


# By chance?


def permutation_p(observed, shuffled_n):  # type: ignore[no-untyped-def]
    """Share of shuffles at least as far from zero as what was observed, which counts as one of them."""
    as_far = (np.abs(shuffled_n) >= abs(observed)).sum()
    return (1 + as_far) / (1 + len(shuffled_n))


def _p_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """Few shuffles on a coarse grid: some lie exactly as far out as what was observed, one case has none that does."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        values = rng.integers(-6, 7, size=int(rng.integers(20, 60))) / 10
        observed = float(rng.choice([-0.4, -0.2, 0.2, 0.4])) if number else -0.9
        yield Case(f"observed {observed}, {len(values)} shuffles", (observed, values))


P_MISTAKES = (
    Mistake(
        "what was observed is not counted as a shuffle itself",
        "a p of exactly zero is never right: (1 + count) / (1 + n).",
        lambda observed, s: (np.abs(s) >= abs(observed)).mean(),
    ),
    Mistake(
        "only one side is looked at",
        "we would have noticed a strong negative relation too: compare absolute values.",
        lambda observed, s: (1 + (s >= observed).sum()) / (1 + len(s)),
    ),
    Mistake(
        "the sign of what was observed is kept, that of the shuffles is not",
        "compare absolute values on both sides.",
        lambda observed, s: (1 + (np.abs(s) >= observed).sum()) / (1 + len(s)),
    ),
    Mistake(
        "shuffles exactly as far out are not counted",
        "at least as far: >=.",
        lambda observed, s: (1 + (np.abs(s) > abs(observed)).sum()) / (1 + len(s)),
    ),
    Mistake(
        "shuffles closer to zero are counted",
        "a small p says that few shuffles reach as far out.",
        lambda observed, s: (1 + (np.abs(s) <= abs(observed)).sum()) / (1 + len(s)),
    ),
    Mistake(
        "the one is added above, not below",
        "what was observed is one of 1 + n.",
        lambda observed, s: (1 + (np.abs(s) >= abs(observed)).sum()) / len(s),
    ),
)


def check_permutation_p(function: Callable[[float, np.ndarray], float]) -> Verdict:
    """Check the reader's ``permutation_p(observed, shuffled_n)``."""
    return check(function, permutation_p, _p_cases(), P_MISTAKES)


# Many questions at once


def holm(p_n):  # type: ignore[no-untyped-def]
    """Holm's correction: p-values that stay valid although n questions were asked, in the order of ``p_n``."""
    n, order = len(p_n), np.argsort(p_n)
    adjusted = np.empty(n)
    adjusted[order] = np.maximum.accumulate(p_n[order] * (n - np.arange(n)))
    return adjusted.clip(max=1)


def _holm_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        p = np.concatenate([rng.uniform(0, 0.05, size=3), 0.05 + rng.uniform(0, 0.01, size=2), rng.uniform(size=3)])
        yield Case("8 p-values", (rng.permutation(p),))


HOLM_MISTAKES = (
    Mistake(
        "all p-values are multiplied by n",
        "that is Bonferroni. Holm: the smallest by n, the next by n - 1, and so on.",
        lambda p: (p * len(p)).clip(max=1),
    ),
    Mistake(
        "a larger p-value may end below a smaller one",
        "take the running maximum, from the smallest p-value on.",
        lambda p: (p * (len(p) - p.argsort().argsort())).clip(max=1),
    ),
    Mistake(
        "the smallest p-value is multiplied by one",
        "the smallest has n rivals, the largest only itself.",
        lambda p: np.maximum.accumulate(np.sort(p) * np.arange(1, len(p) + 1))[p.argsort().argsort()].clip(max=1),
    ),
    Mistake(
        "the answer is in the order of size",
        "give every p-value back to its own question.",
        lambda p: np.sort(holm(p)),
    ),
    Mistake(
        "p-values grow beyond one",
        "a probability ends at 1.",
        lambda p: np.maximum.accumulate(np.sort(p) * (len(p) - np.arange(len(p))))[p.argsort().argsort()],
    ),
)


def check_holm(function: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check the reader's ``holm(p_n)``."""
    return check(function, holm, _holm_cases(), HOLM_MISTAKES)
