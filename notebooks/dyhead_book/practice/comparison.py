"""What a reader's function returned, held against what the formula gives: equal, nearly equal, or what differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

#: Norm of the difference over the norm of the right answer, up to which float32 inside a function may lead: it has
#: seven figures, of which sums over a few thousand numbers lose one. A mistake differs by far more.
FLOAT32 = 1e-5


def parts_of(answer: Any) -> list[np.ndarray]:
    """The arrays of an answer: one, or one for each entry of a list of arrays or tensors.

    Raises:
        ValueError: a list of numbers whose rows differ in length.
    """
    if isinstance(answer, list | tuple) and any(isinstance(item, np.ndarray | torch.Tensor) for item in answer):
        return [array_of(item) for item in answer]
    return [array_of(answer)]


def array_of(x: Any) -> np.ndarray:
    """A number, array or tensor as an array that differences can be taken of; it shares memory with ``x`` if it can."""
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    array = np.asarray(x)
    return array.astype(float) if array.dtype == bool else array


def same_shapes(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return [part.shape for part in a] == [part.shape for part in b]


def agree(answer: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> bool:
    """Whether two answers are equal up to ``tolerance`` times the norm; what is not finite must be equal."""
    if not same_shapes(answer, expected):
        return False
    error = size = 0.0
    for a, e in zip(answer, expected, strict=True):
        finite = np.isfinite(e)
        if not (np.isfinite(a) == finite).all() or not np.array_equal(a[~finite], e[~finite], equal_nan=True):
            return False
        error += float(((a[finite] - e[finite]) ** 2).sum())
        size += float((e[finite] ** 2).sum())
    return error**0.5 <= tolerance * max(1.0, size**0.5)


def agree_as_float32(answer: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    """Whether they agree as far as float32 goes. Counts are not numbers with rounding: they are equal or wrong."""
    return all(part.dtype.kind == "f" for part in expected) and agree(answer, expected, FLOAT32)


def difference(answer: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> tuple[str, str]:
    """What differs, with numbers, and where to look; nowhere in particular if it is the shape."""
    if not same_shapes(answer, expected):
        return f"the answer has shape {_shape(answer)}, expected {_shape(expected)}.", ""
    errors = [_errors(a, e) for a, e in zip(answer, expected, strict=True)]
    part = int(np.argmax([error.max(initial=0) for error in errors]))
    worst = np.unravel_index(errors[part].argmax(), errors[part].shape)
    index = tuple(int(i) for i in worst)
    place = f" of entry {part}" if len(errors) > 1 else ""
    at = f" at {index}{place}" if index or place else ""
    wanted, got = _in_words(expected[part][worst], answer[part][worst])
    different = sum(int((error > tolerance).sum()) for error in errors)
    size = sum(error.size for error in errors)
    where = _symptom(different, size)
    if not np.isfinite(answer[part][worst]):
        where = "The answer holds NaN or infinity. Does every element start at zero? Is something divided by zero?"
    elif same := _one_array_twice(answer, expected):
        where = f"Entries {same[0]} and {same[1]} of the answer are one and the same array: make one for each."
    return f"expected {wanted}{at}, got {got}.", f"{different} of {size} elements differ. {where}"


def _errors(a: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Absolute differences; infinite where one of both is not finite and the other is something else."""
    with np.errstate(invalid="ignore"):  # inf - inf
        error = np.abs(a - e)
    equal = (a == e) | (np.isnan(a) & np.isnan(e))
    return np.where(equal, 0, np.where(np.isfinite(error), error, np.inf))


def _one_array_twice(answer: list[np.ndarray], expected: list[np.ndarray]) -> tuple[int, int] | None:
    """Two entries of an answer that share their memory, although they should differ."""
    for j in range(len(answer)):
        for i in range(j):
            shared = answer[i].shape == answer[j].shape and np.array_equal(answer[i], answer[j])
            if shared and not np.array_equal(expected[i], expected[j]):
                return i, j
    return None


def in_words(names: list[str], arguments: tuple[Any, ...], most: int = 16) -> str:
    """Arguments by name, "x = [1, 2], stride = 2"; "" where they hold more than ``most`` numbers together."""
    shown = [_rounded(argument) for argument in arguments]
    if sum(len(list(_numbers(argument))) for argument in arguments) > most:
        return ""
    return ", ".join(f"{name} = {text}" for name, text in zip(names, shown, strict=True))


def _numbers(argument: Any) -> Iterator[Any]:
    if isinstance(argument, np.ndarray | torch.Tensor):
        yield from array_of(argument).ravel()
    elif isinstance(argument, dict):
        yield from _numbers(list(argument.values()))
    elif isinstance(argument, list | tuple):
        for item in argument:
            yield from _numbers(item)
    else:
        yield argument


def _rounded(argument: Any) -> str:
    """An argument as one would write it down, with four figures behind the point."""
    if isinstance(argument, np.ndarray | torch.Tensor):
        return _rounded(array_of(argument).tolist())
    if isinstance(argument, list | tuple):
        return f"[{', '.join(map(_rounded, argument))}]"
    if isinstance(argument, float | np.floating):
        return f"{argument:.4f}".rstrip("0").rstrip(".")
    return repr(argument)


def _in_words(*numbers: Any) -> list[str]:
    """Counts as they are; others with four figures behind the point, or with as many as tell them apart."""
    if all(isinstance(number, int | np.integer) for number in numbers):
        return [str(number) for number in numbers]
    short = [f"{number:.4f}" for number in numbers]
    return short if len(set(short)) > 1 else [f"{number:.9g}" for number in numbers]


def _shape(parts: list[np.ndarray]) -> str:
    shapes = [str(part.shape) for part in parts]
    return shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]"


def _symptom(different: int, size: int) -> str:
    if size == 1:
        return "Work this case out by hand and compare step by step."
    if different == size:
        return "All of them: look at what every element shares, such as a position, a weight or a sum."
    if different < size / 4:
        return "Only a few: look at special places, such as the border and positions outside the image."
    return "Many, not all: look at indices and at cases that are treated apart."
