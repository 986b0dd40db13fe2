"""What a number of a COCO file may look like: tools write 7 also as 7.0 (pandas) or as "7" (VIA)."""

from __future__ import annotations

import re
import sys
from numbers import Integral, Real
from typing import Any, TypeGuard

#: Floats beyond it no longer tell neighbouring whole numbers apart.
_EXACT = 2**53

_LARGEST = sys.float_info.max
_NUMBERS = frozenset((int, float))

_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")


def whole_number(value: Any) -> int | None:
    """The whole number that a value can only mean: 7, 7.0, ``"7"``, ``"007"`` and ``"7.0"`` mean 7.

    None where it means no whole number, or not surely one: text, 7.5, booleans, NaN, floats of 2^53 and more.
    """
    if isinstance(value, str):
        text = value.strip()
        return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else None
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and abs(number := float(value)) < _EXACT and number.is_integer():
        return int(number)
    return None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite int or float, as JSON has them: no boolean."""
    return type(value) in _NUMBERS and _is_finite(value)


def is_box(value: Any) -> TypeGuard[list[float]]:
    """Whether it is a list of four finite numbers."""
    return type(value) is list and len(value) == 4 and all_numbers(value)


def all_numbers(values: list[Any]) -> TypeGuard[list[float]]:
    """Whether all are finite numbers, with a finite sum."""
    return _NUMBERS.issuperset(map(type, values)) and _is_finite(sum(values))


def _is_finite(value: float) -> bool:
    return abs(value) <= _LARGEST  # True of no NaN; whole numbers of JSON may be larger than any float
