"""Planted bugs: a function that looks right and is not, for the reader to find out by experiment.

A table of mistakes serves twice. Its functions are the bugs that are planted, and the check that knows the table
names them. ``tests/book/planted.py`` proves for every table that the right function passes and that each bug is
caught with its own message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .reader_checks import Mistake

GOLDEN = 0.382  # steps of this share of a table visit it in an order that nobody guesses


def drill(bugs: Sequence[Mistake], number: int) -> Callable[..., Any]:
    """The function with one of ``bugs`` in it. It does not say which one.

    Args:
        bugs: a table of mistakes; each imitates the function with this bug.
        number: 0 or more; the same number gives the same bug. The first ``len(bugs)`` numbers give all of them.

    Raises:
        ValueError: ``bugs`` is empty or ``number`` is negative.
    """
    if not bugs:
        raise ValueError("bugs: got none, expected at least 1")
    if number < 0:
        raise ValueError(f"number: got {number}, expected 0 or more")
    planted = bugs[number * _step(len(bugs)) % len(bugs)].imitate

    def suspect(*arguments: Any) -> Any:
        return planted(*arguments)

    return suspect


def _step(count: int) -> int:
    """The first step from ``GOLDEN * count`` on that has no factor in common with ``count``, so that it visits all."""
    step = max(1, round(GOLDEN * count))
    while math.gcd(step, count) > 1:
        step += 1
    return step
