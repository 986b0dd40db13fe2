"""Checks of the reader's own functions: right on random cases, or wrong in a way that has a name.

A check runs the reader's function on cases drawn from a seed and compares with the formula. Where they differ it
tries a list of common mistakes: if one of them gives exactly the reader's numbers, the verdict names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """Arguments to try, and how to describe them to the reader."""

    description: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Mistake:
    """A common mistake.

    Attributes:
        name: what went wrong, as the end of "This is what comes out when ...".
        hint: where to look.
        imitate: takes the arguments of the checked function and returns what it gives with this mistake.
    """

    name: str
    hint: str
    imitate: Callable[..., Any]


@dataclass(frozen=True)
class Verdict:
    """What a check found. True if the function is right; prints as a message to the reader."""

    ok: bool
    message: str

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return ("Right. " if self.ok else "Not yet. ") + self.message


def check(
    function: Callable[..., Any],
    formula: Callable[..., Any],
    cases: Iterable[Case],
    mistakes: Sequence[Mistake],
    tolerance: float = 1e-10,
) -> Verdict:
    """Compare the reader's ``function`` with ``formula`` on ``cases``.

    Args:
        function: takes the arguments of a case and returns a number or an array. It gets copies.
        formula: the same, right.
        mistakes: tried in this order when the numbers differ.
        tolerance: largest norm of the difference over the norm of the right answer. The default fits float64:
            sums in another order differ by about 1e-15, a mistake by far more.

    An exception of ``function`` goes through to the reader, traceback and all; NotImplementedError is "not yet".
    """
    trials: list[_Trial] = []
    for case in cases:
        arguments = tuple(_copy(argument) for argument in case.arguments)
        expected = np.asarray(formula(*case.arguments))
        try:
            answer = function(*arguments)
        except NotImplementedError:
            return Verdict(False, "The function is not written yet.")
        problem = _form_problem(answer, expected.shape, arguments, case)
        if problem:
            return Verdict(False, f"{case.description}: {problem}")
        trials.append(_Trial(case, np.asarray(answer), expected))
    wrong = next((trial for trial in trials if not _agree(trial.answer, trial.expected, tolerance)), None)
    if wrong is None:
        return Verdict(True, f"All {len(trials)} cases agree with the formula.")
    return Verdict(False, _diagnose(wrong, trials, mistakes, tolerance))


@dataclass(frozen=True)
class _Trial:
    case: Case
    answer: np.ndarray
    expected: np.ndarray


def _diagnose(wrong: _Trial, trials: list[_Trial], mistakes: Sequence[Mistake], tolerance: float) -> str:
    """Describe the first wrong case, and the mistake that explains the answers of all cases, if one does."""
    error = np.abs(wrong.answer - wrong.expected)
    worst = np.unravel_index(error.argmax(), error.shape)
    at = f" at {tuple(int(i) for i in worst)}" if worst else ""
    numbers = f"expected {wrong.expected[worst]:.4f}{at}, got {wrong.answer[worst]:.4f}"
    seen = f"{wrong.case.description}: {numbers}."
    for mistake in mistakes:
        imitated = (np.asarray(mistake.imitate(*trial.case.arguments)) for trial in trials)
        if all(_agree(trial.answer, i, tolerance) for trial, i in zip(trials, imitated, strict=True)):
            return f"{seen}\nThis is what comes out when {mistake.name}.\nHint: {mistake.hint}"
    different = int((error > tolerance).sum())
    return f"{seen}\n{different} of {error.size} elements differ. {_symptom(different, error.size)}"


def _copy(argument: Any) -> Any:
    return argument.copy() if isinstance(argument, np.ndarray) else argument


def _form_problem(answer: Any, shape: tuple[int, ...], arguments: tuple[Any, ...], case: Case) -> str | None:
    """What is wrong before any number is looked at, or None."""
    if answer is None:
        return "the function returns None. Is there a `return`?"
    if np.shape(answer) != shape:
        return f"the answer has shape {np.shape(answer)}, expected {shape}."
    if not np.isfinite(np.asarray(answer)).all():
        return "the answer holds NaN or infinity. Does every element of the result start at zero?"
    for position, (given, original) in enumerate(zip(arguments, case.arguments, strict=True)):
        if isinstance(given, np.ndarray) and not np.array_equal(given, original):
            return f"the function changes its argument number {position + 1}. Write into a new array."
    return None


def _agree(answer: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    return bool(np.linalg.norm(answer - expected) <= tolerance * max(1.0, float(np.linalg.norm(expected))))


def _symptom(different: int, size: int) -> str:
    if size == 1:
        return "Work this case out by hand and compare step by step."
    if different == size:
        return "All of them: look at what every element shares, such as a position, a weight or a sum."
    if different < size / 4:
        return "Only a few: look at special places, such as the border and positions outside the image."
    return "Many, not all: look at indices, such as the offset group, the tap or the channel."
