"""Checks of the reader's own functions: right on random cases, or wrong in a way that has a name.

A check runs the reader's function on cases drawn from a seed and compares with the formula. Where they differ it
tries a list of common mistakes: if one of them gives exactly the reader's numbers, the verdict names it.

Functions take and return numbers, NumPy arrays or tensors, and lists of these: a pyramid is a list of maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


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
        function: takes the arguments of a case and returns a number, an array, a tensor, or a list of arrays or
            tensors. It gets copies.
        formula: the same, right.
        mistakes: tried in this order when the numbers differ.
        tolerance: largest norm of the difference over the norm of the right answer. The default fits float64:
            sums in another order differ by about 1e-15, a mistake by far more.

    An exception of ``function`` goes through to the reader, traceback and all; NotImplementedError is "not yet".
    """
    trials: list[_Trial] = []
    for case in cases:
        arguments = _copy(case.arguments)
        expected = _parts(formula(*case.arguments))
        try:
            answer = function(*arguments)
        except NotImplementedError:
            return Verdict(False, "The function is not written yet.")
        problem = _form_problem(answer, arguments, case)
        if problem:
            return Verdict(False, f"{case.description}: {problem}")
        trials.append(_Trial(case, _parts(answer), expected))
    wrong = next((trial for trial in trials if not _agree(trial.answer, trial.expected, tolerance)), None)
    if wrong is None:
        return Verdict(True, f"All {len(trials)} cases agree with the formula.")
    return Verdict(False, _diagnose(wrong, trials, mistakes, tolerance))


@dataclass(frozen=True)
class _Trial:
    case: Case
    answer: list[np.ndarray]
    expected: list[np.ndarray]


def _diagnose(wrong: _Trial, trials: list[_Trial], mistakes: Sequence[Mistake], tolerance: float) -> str:
    """Describe the first wrong case, and the mistake that explains the answers of all cases, if one does."""
    seen, symptom = _difference(wrong, tolerance)
    seen = f"{wrong.case.description}: {seen}"
    for mistake in mistakes:
        imitated = (_parts(mistake.imitate(*_copy(trial.case.arguments))) for trial in trials)
        if all(_agree(trial.answer, i, tolerance) for trial, i in zip(trials, imitated, strict=True)):
            return f"{seen}\nThis is what comes out when {mistake.name}.\nHint: {mistake.hint}"
    return f"{seen}\n{symptom}" if symptom else seen


def _difference(wrong: _Trial, tolerance: float) -> tuple[str, str]:
    """What differs, with numbers, and where to look; nowhere in particular if it is the shape."""
    if not _same_shapes(wrong.answer, wrong.expected):
        return f"the answer has shape {_shape(wrong.answer)}, expected {_shape(wrong.expected)}.", ""
    errors = [np.abs(a - e) for a, e in zip(wrong.answer, wrong.expected, strict=True)]
    part = int(np.argmax([error.max(initial=0) for error in errors]))
    worst = np.unravel_index(errors[part].argmax(), errors[part].shape)
    index = tuple(int(i) for i in worst)
    place = f" of entry {part}" if len(errors) > 1 else ""
    at = f" at {index}{place}" if index or place else ""
    expected, got = _in_words(wrong.expected[part][worst], wrong.answer[part][worst])
    numbers = f"expected {expected}{at}, got {got}."
    different = sum(int((error > tolerance).sum()) for error in errors)
    size = sum(error.size for error in errors)
    return numbers, f"{different} of {size} elements differ. {_symptom(different, size)}"


def _in_words(*numbers: Any) -> list[str]:
    """Counts as they are; others with four figures behind the point, or with as many as tell them apart."""
    if all(isinstance(number, int | np.integer) for number in numbers):
        return [str(number) for number in numbers]
    short = [f"{number:.4f}" for number in numbers]
    return short if len(set(short)) > 1 else [f"{number:.9g}" for number in numbers]


def _copy(argument: Any) -> Any:
    """Arrays and tensors anew, also inside lists and tuples; everything else as it is."""
    if isinstance(argument, np.ndarray):
        return argument.copy()
    if isinstance(argument, torch.Tensor):
        return argument.clone()
    if isinstance(argument, list | tuple):
        copies = [_copy(item) for item in argument]
        return tuple(copies) if isinstance(argument, tuple) else copies
    return argument


def _parts(answer: Any) -> list[np.ndarray]:
    """The arrays of an answer: one, or one for each entry of a list of arrays or tensors."""
    if isinstance(answer, list | tuple) and any(isinstance(item, np.ndarray | torch.Tensor) for item in answer):
        return [_array(item) for item in answer]
    return [_array(answer)]


def _array(x: Any) -> np.ndarray:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    return array.astype(float) if array.dtype == bool else array  # so that a difference can be taken


def _form_problem(answer: Any, arguments: tuple[Any, ...], case: Case) -> str | None:
    """What is wrong before any number is looked at, or None."""
    if answer is None:
        return "the function returns None. Is there a `return`?"
    parts = _parts(answer)
    if any(part.dtype.kind not in "iuf" for part in parts):
        return f"the function returns a {type(answer).__name__}, expected numbers."
    if not all(np.isfinite(part).all() for part in parts):
        return "the answer holds NaN or infinity. Does every element of the result start at zero?"
    for position, (given, original) in enumerate(zip(arguments, case.arguments, strict=True)):
        if not _unchanged(given, original):
            return f"the function changes its argument number {position + 1}. Write into a new array."
    return None


def _unchanged(given: Any, original: Any) -> bool:
    if isinstance(given, list | tuple):
        return len(given) == len(original) and all(map(_unchanged, given, original))
    if isinstance(given, np.ndarray | torch.Tensor):
        return np.array_equal(_array(given), _array(original))
    return True


def _same_shapes(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return [part.shape for part in a] == [part.shape for part in b]


def _shape(parts: list[np.ndarray]) -> str:
    shapes = [str(part.shape) for part in parts]
    return shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]"


def _agree(answer: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> bool:
    if not _same_shapes(answer, expected):
        return False
    error = sum(float(((a - e) ** 2).sum()) for a, e in zip(answer, expected, strict=True)) ** 0.5
    size = sum(float((e**2).sum()) for e in expected) ** 0.5
    return error <= tolerance * max(1.0, size)


def _symptom(different: int, size: int) -> str:
    if size == 1:
        return "Work this case out by hand and compare step by step."
    if different == size:
        return "All of them: look at what every element shares, such as a position, a weight or a sum."
    if different < size / 4:
        return "Only a few: look at special places, such as the border and positions outside the image."
    return "Many, not all: look at indices and at cases that are treated apart."
