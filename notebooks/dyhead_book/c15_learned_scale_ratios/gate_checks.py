"""Checks of the chapter on learned scale ratios: the ratio itself, the change of one picture, and which gate moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..practice.reader_checks import Case, Mistake, Verdict, check

Gates = Sequence[np.ndarray]

# The ratio of a level


def _scale_ratios(gates: Gates) -> np.ndarray:
    return np.stack([np.log2(level_Bn[:, 0] / level_Bn[:, -1]) for level_Bn in gates])


def _gates(rng: np.random.Generator, B: int, L: int) -> list[np.ndarray]:
    """Gates of a pyramid: two branches at its ends, three between."""
    return [rng.uniform(0.5, 1, (B, 2 if l in (0, L - 1) else 3)) for l in range(L)]


def _ratio_cases(seed: int = 0, count: int = 5) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    yield Case("one image, two branches on both levels", ([np.array([[1.0, 0.5]]), np.array([[0.5, 1.0]])],))
    for _ in range(count):
        B, L = int(rng.integers(2, 5)), int(rng.integers(3, 6))
        yield Case(f"{B} images, {L} levels", (_gates(rng, B, L),))


RATIO_MISTAKES = (
    Mistake(
        "the coarsest gate is divided by the finest",
        "above 1 the level listens to its finer side: the finest gate stands above the line.",
        lambda g: -_scale_ratios(g),
    ),
    Mistake(
        "the second branch is taken for the coarsest",
        "inside the pyramid there are three branches: the coarsest is the last.",
        lambda g: np.stack([np.log2(x[:, 0] / x[:, 1]) for x in g]),
    ),
    Mistake(
        "the logarithm is missing",
        "the answer is log2 of the ratio: 0 where both gates are equal.",
        lambda g: 2 ** _scale_ratios(g),
    ),
    Mistake(
        "the natural logarithm is taken",
        "log2: one step is a factor of two.",
        lambda g: _scale_ratios(g) * np.log(2),
    ),
    Mistake(
        "the gates are subtracted",
        "a ratio: divide, then take the logarithm.",
        lambda g: np.stack([x[:, 0] - x[:, -1] for x in g]),
    ),
    Mistake(
        "the axes are exchanged",
        "levels first, then images: (L, B).",
        lambda g: _scale_ratios(g).T,
    ),
    Mistake(
        "gates are averaged over the images first",
        "every image has a ratio of its own.",
        lambda g: _scale_ratios([np.broadcast_to(x.mean(0), x.shape) for x in g]),
    ),
)


def check_scale_ratios(function: Callable[[Gates], np.ndarray]) -> Verdict:
    """Check the reader's ``scale_ratios(gates)``, which gives (L, B)."""
    return check(function, _scale_ratios, _ratio_cases(), RATIO_MISTAKES)


# Each picture is its own control


def _paired_interval(before_n: np.ndarray, after_n: np.ndarray, errors: float = 2.0, ddof: int = 1) -> np.ndarray:
    d = after_n - before_n
    half = errors * d.std(ddof=ddof) / len(d) ** 0.5
    return np.array([d.mean() - half, d.mean(), d.mean() + half])


def _unpaired(before_n: np.ndarray, after_n: np.ndarray) -> np.ndarray:
    half = 2 * np.sqrt((before_n.var(ddof=1) + after_n.var(ddof=1)) / len(before_n))
    change = after_n.mean() - before_n.mean()
    return np.array([change - half, change, change + half])


def _pair_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    yield Case("three images", (np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0])))
    for _ in range(count):
        n = int(rng.integers(4, 12))
        before = rng.normal(size=n)
        yield Case(f"{n} images", (before, before + 0.3 + 0.1 * rng.normal(size=n)))


PAIR_MISTAKES = (
    Mistake(
        "the images before and after are treated as different ones",
        "each image is its own control: take the difference of each, and the deviation of these differences.",
        _unpaired,
    ),
    Mistake(
        "before and after are exchanged",
        "a change is after minus before.",
        lambda b, a: _paired_interval(a, b),
    ),
    Mistake(
        "the deviation is not divided by the root of n",
        "the mean of n images is sure to a root of n more than one image.",
        lambda b, a: _paired_interval(b, a, 2 * len(b) ** 0.5),
    ),
    Mistake(
        "it is divided by n, not by its root",
        "the standard error is the deviation over the root of n.",
        lambda b, a: _paired_interval(b, a, 2 / len(b) ** 0.5),
    ),
    Mistake(
        "the variance is divided by n instead of n - 1",
        "np.std divides by n unless it is told ddof=1.",
        lambda b, a: _paired_interval(b, a, ddof=0),
    ),
    Mistake(
        "one standard error is taken, not two",
        "two standard errors to each side hold the mean with about 95 %.",
        lambda b, a: _paired_interval(b, a, 1.0),
    ),
)


def check_paired_interval(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Verdict:
    """Check the reader's ``paired_interval(before_n, after_n)``, which gives (low, mean, high)."""
    return check(function, _paired_interval, _pair_cases(), PAIR_MISTAKES)


# Which gate moves the ratio


def _gate_parts(before_Bn: np.ndarray, after_Bn: np.ndarray) -> np.ndarray:
    change_Bn = np.log2(after_Bn) - np.log2(before_Bn)
    return np.array([change_Bn[:, 0].mean(), -change_Bn[:, -1].mean()])


def _gate_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        B, n = int(rng.integers(3, 8)), 2 + number % 2
        yield Case(f"{B} images, {n} branches", tuple(rng.uniform(0.5, 1, size=(B, n)) for _ in range(2)))


PART_MISTAKES = (
    Mistake(
        "the coarsest gate has the wrong sign",
        "it stands below the fraction line: when it grows, the ratio falls.",
        lambda b, a: _gate_parts(b, a) * (1, -1),
    ),
    Mistake(
        "before and after are swapped",
        "a change is after minus before.",
        lambda b, a: _gate_parts(a, b),
    ),
    Mistake(
        "the natural logarithm is taken",
        "the ratios of this chapter are log2: one step is a factor of two.",
        lambda b, a: _gate_parts(b, a) * np.log(2),
    ),
    Mistake(
        "the means are taken before the logarithm",
        "each image has its own change: logarithm first, mean last.",
        lambda b, a: _gate_parts(b.mean(0, keepdims=True), a.mean(0, keepdims=True)),
    ),
    Mistake(
        "the second branch is taken for the coarsest",
        "inside the pyramid there are three branches: the coarsest is the last.",
        lambda b, a: _gate_parts(b[:, :2], a[:, :2]),
    ),
    Mistake(
        "the levels are reversed",
        "branches go from fine to coarse: the finest is column 0.",
        lambda b, a: _gate_parts(b[:, ::-1], a[:, ::-1]),
    ),
    Mistake(
        "the gates are subtracted without a logarithm",
        "only logarithms turn the change of a fraction into a sum of two parts.",
        lambda b, a: np.array([(a - b)[:, 0].mean(), (b - a)[:, -1].mean()]),
    ),
)


def check_gate_parts(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Verdict:
    """Check the reader's ``gate_parts(before_Bn, after_Bn)``."""
    return check(function, _gate_parts, _gate_cases(), PART_MISTAKES)
