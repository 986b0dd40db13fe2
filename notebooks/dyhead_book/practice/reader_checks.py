"""Checks of the reader's own functions: right on random cases, or wrong in a way that has a name.

A check runs the reader's function on cases drawn from a seed and compares with the formula. Where they differ it
tries a list of common mistakes: if one of them gives exactly the reader's numbers, the verdict names it.

Functions take and return numbers, NumPy arrays or tensors, and lists of these: a pyramid is a list of maps. A right
answer in another style is right: in float32, or with other numerics that agree with the formula as far as float32 goes.
"""

from __future__ import annotations

import inspect
import textwrap
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .comparison import agree, agree_as_float32, array_of, difference, in_words, parts_of

#: Characters of a line of printed text for which JupyterLab has room in a window of 1280 pixels.
WIDEST = 100


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
        text = ("Right. " if self.ok else "Not yet. ") + self.message
        return wrapped(text)


def wrapped(text: str) -> str:
    """A message whose long lines are broken between words; JupyterLab would break them in the middle of one."""
    lines = textwrap.TextWrapper(WIDEST, replace_whitespace=False, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines.fill(line) for line in text.splitlines())


def check(
    function: Callable[..., Any],
    formula: Callable[..., Any],
    cases: Iterable[Case],
    mistakes: Sequence[Mistake],
    tolerance: float = 1e-10,
) -> Verdict:
    """Compare the reader's ``function`` with ``formula`` on ``cases``. It never raises what the function raises.

    Args:
        function: takes the arguments of a case and returns a number, an array, a tensor, or a list of arrays or
            tensors. It gets copies.
        formula: the same, right.
        mistakes: tried in this order when the numbers differ.
        tolerance: largest norm of the difference over the norm of the right answer. The default fits float64:
            sums in another order differ by about 1e-15, a mistake by far more. What agrees only as far as float32
            goes, and is none of the mistakes, is right with a remark.
    """
    trials: list[_Trial] = []
    for case in cases:
        arguments = _copy(case.arguments)
        right = formula(*case.arguments)
        try:
            answer = function(*arguments)
        except NotImplementedError as gap:
            return Verdict(False, still_to_do(gap))
        except Exception as error:  # whatever the reader's code raises
            return Verdict(False, f"{case.description}: {raised(error)}{_inputs(function, case)}")
        problem = _form_problem(answer, arguments, case) or (trials and _overwritten(trials[-1]))
        if problem:
            return Verdict(False, f"{case.description}: {problem}")
        shares = _shares(answer, arguments) - _shares(right, case.arguments)
        trials.append(_Trial(case, answer, _as_it_is(answer), _as_it_is(right), shares))
    wrong = [trial for trial in trials if not agree(trial.answer, trial.expected, tolerance)]
    if not wrong:
        return Verdict(True, f"All {len(trials)} cases agree with the formula.{_remark(trials)}")
    named = _named(trials, mistakes, tolerance)
    if named is None and all(agree_as_float32(trial.answer, trial.expected) for trial in wrong):
        return Verdict(True, f"All {len(trials)} cases agree with the formula.{_rounding(wrong)}{_remark(trials)}")
    first = next((trial for trial in wrong if not agree_as_float32(trial.answer, trial.expected)), wrong[0])
    seen, symptom = difference(first.answer, first.expected, tolerance)
    seen = f"{first.case.description}: {seen}{_inputs(function, first.case)}"
    named = named or _named(trials, mistakes, None)
    if named:
        return Verdict(False, f"{seen}\nThis is what comes out when {named.name}.\nHint: {named.hint}")
    return Verdict(False, f"{seen}\n{symptom}" if symptom else seen)


def raises(verdict: Verdict) -> bool:
    """Whether the reader's code did not come to its end."""
    return not verdict and "Your code raises" in verdict.message


def because(verdict: Verdict, name: str, hint: str) -> Verdict:
    """A verdict with the mistake behind it: one that no numbers can tell, because with it the reader's code raises."""
    return Verdict(False, f"{verdict.message}\nThis is what comes out when {name}.\nHint: {hint}")


@dataclass(frozen=True)
class _Trial:
    """One call: what came out as it was then, the objects themselves, which later calls may change, and the arguments
    that they share memory with although the formula's do not."""

    case: Case
    returned: Any
    answer: list[np.ndarray]
    expected: list[np.ndarray]
    shares: set[int]


def still_to_do(gap: NotImplementedError) -> str:
    """What is said of a function that is not written yet."""
    return f"Still to do: {gap}" if str(gap) else "The function is not written yet."


def raised(error: Exception) -> str:
    """What is said of an exception: the reader's own line, not the one deep in a library that gave up.

    Cells of a notebook are the code whose file is on no disk.
    """
    frames = traceback.extract_tb(error.__traceback__)
    line = ([f for f in frames if not Path(f.filename).is_file()] or list(frames))[-1]
    text = (str(error).strip().splitlines() or [""])[0][:300]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"Your code raises {said} (line {line.lineno}: {line.line})"


def _named(trials: list[_Trial], mistakes: Sequence[Mistake], tolerance: float | None) -> Mistake | None:
    """The mistake that explains the answers of all cases, if one does; without a tolerance as far as float32 goes."""

    def explains(mistake: Mistake) -> bool:
        imitated = (parts_of(mistake.imitate(*_copy(trial.case.arguments))) for trial in trials)
        pairs = zip((trial.answer for trial in trials), imitated, strict=True)
        return all(agree_as_float32(a, i) if tolerance is None else agree(a, i, tolerance) for a, i in pairs)

    return next((mistake for mistake in mistakes if explains(mistake)), None)


def _inputs(function: Callable[..., Any], case: Case) -> str:
    """The arguments of a case that is small enough to be worked out by hand, on a line of their own."""
    try:
        names = [*inspect.signature(function).parameters]
    except (TypeError, ValueError):
        names = []
    if len(names) != len(case.arguments):
        names = [f"argument {number + 1}" for number in range(len(case.arguments))]
    text = in_words(names, case.arguments)
    return f"\nThe case: {text}." if text else ""


def _rounding(trials: list[_Trial]) -> str:
    coarse = {str(part.dtype) for trial in trials for part in trial.answer} & {"float16", "float32"}
    if coarse:
        return f" Your answer is {coarse.pop()}, the formula's float64: they agree as far as float32 goes."
    return (
        " They agree as far as float32 goes, not to the last figure: something inside is float32 or rounds otherwise."
    )


def _remark(trials: list[_Trial]) -> str:
    """What is worth a word although the numbers are right."""
    shared = {position for trial in trials for position in trial.shares}
    if not shared:
        return ""
    return f" The answer shares its memory with argument number {min(shared) + 1}: who writes to one changes both."


def _shares(answer: Any, arguments: tuple[Any, ...]) -> set[int]:
    """Which arguments an answer shares its memory with."""
    parts = _arrays(answer)
    return {
        i for i, given in enumerate(arguments) if any(np.may_share_memory(a, b) for a in parts for b in _arrays(given))
    }


def _as_it_is(answer: Any) -> list[np.ndarray]:
    return [part.copy() for part in parts_of(answer)]


def _arrays(thing: Any) -> list[np.ndarray]:
    """The memory of arrays and tensors, also inside lists and tuples."""
    if isinstance(thing, list | tuple):
        return [array for item in thing for array in _arrays(item)]
    return [array_of(thing)] if isinstance(thing, np.ndarray | torch.Tensor) else []


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


def _form_problem(answer: Any, arguments: tuple[Any, ...], case: Case) -> str | None:
    """What is wrong before any number is looked at, or None."""
    if answer is None:
        return "the function returns None. Is there a `return`?"
    try:
        numbers = all(part.dtype.kind in "iuf" for part in parts_of(answer))
    except (TypeError, ValueError):  # rows of different lengths
        numbers = False
    if not numbers:
        return f"the function returns a {type(answer).__name__}, expected numbers."
    for position, (given, original) in enumerate(zip(arguments, case.arguments, strict=True)):
        if not _unchanged(given, original):
            returned = " and returns it" if position in _shares(answer, arguments) else ""
            return f"the function changes its argument number {position + 1}{returned}. Write into a new array."
    return None


def _overwritten(trial: _Trial) -> str | None:
    """Whether a later call has changed the answer of an earlier one: both are the same array."""
    if all(np.array_equal(a, b, equal_nan=True) for a, b in zip(parts_of(trial.returned), trial.answer, strict=True)):
        return None
    return "the function returns the same array in every call, so this call overwrote the last answer. Make a new one."


def _unchanged(given: Any, original: Any) -> bool:
    if isinstance(given, list | tuple):
        return len(given) == len(original) and all(map(_unchanged, given, original))
    if isinstance(given, np.ndarray | torch.Tensor):
        return np.array_equal(array_of(given), array_of(original), equal_nan=True)
    return True
