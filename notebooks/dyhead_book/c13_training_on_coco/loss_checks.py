"""The check of chapter 13 of what a loss is divided by where several processes train together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..practice.reader_checks import Case, Mistake, Verdict, check


def normalised_losses(sums_R: np.ndarray, positives_R: np.ndarray) -> np.ndarray:
    """Loss of each of R processes, so that the mean of their gradients is the gradient of the whole batch.

    Args:
        sums_R: loss of each process, summed over its positives.
        positives_R: how many positives each process has; may be 0, but not for all.
    """
    return sums_R / positives_R.mean()


def _loss_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        R = int(rng.integers(2, 6))
        positives_R = rng.integers(1, 20, R).astype(float)
        yield Case(f"positives {positives_R.astype(int).tolist()}", (positives_R * rng.uniform(0.5, 2, R), positives_R))


LOSS_MISTAKES = (
    Mistake(
        "every process divides by its own positives",
        "an object then weighs more on a process with few objects: divide by the same number everywhere.",
        lambda sums_R, positives_R: sums_R / positives_R,
    ),
    Mistake(
        "the sum of the positives is taken, not their mean",
        "the gradients are averaged over the processes afterwards, which divides by R once more.",
        lambda sums_R, positives_R: sums_R / positives_R.sum(),
    ),
    Mistake(
        "nothing is divided",
        "divide by the mean number of positives.",
        lambda sums_R, positives_R: sums_R.copy(),
    ),
    Mistake(
        "the losses are averaged as well",
        "every process keeps its own sum; averaging is done with the gradients.",
        lambda sums_R, positives_R: np.full_like(sums_R, sums_R.mean() / positives_R.mean()),
    ),
    Mistake(
        "the losses are divided by the number of processes",
        "divide by the mean number of positives.",
        lambda sums_R, positives_R: sums_R / len(sums_R),
    ),
)


def check_normalised_losses(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Verdict:
    """Check the reader's ``normalised_losses(sums_R, positives_R)``."""
    return check(function, normalised_losses, _loss_cases(), LOSS_MISTAKES)
