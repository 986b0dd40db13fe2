"""What a number of a COCO file may look like: tools write 7 also as 7.0 (pandas) or as "7" (VIA)."""

from __future__ import annotations

import re
from math import isnan
from numbers import Integral, Real
from typing import Any, TypeGuard

#: Floats beyond it no longer tell neighbouring whole numbers apart.
_EXACT = 2**53

#: Ids of some tools are UUIDs, of 39 digits. JSON has whole numbers of any length, which fill pages when they are told.
_DIGITS = 40
_LARGEST_WHOLE = 10**_DIGITS

#: Boxes and areas become float32; a number beyond it would be infinite there.
_LARGEST = 3.4e38
_NUMBERS = frozenset((int, float))

_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{_DIGITS}}}(\.0*)?")


def whole_number(value: Any) -> int | None:
    """The whole number that a value can only mean: 7, 7.0, ``"7"``, ``"007"`` and ``"7.0"`` mean 7.

    None where it means no whole number, or not surely one: text, 7.5, booleans, NaN, floats of 2^53 and more; and where
    it has more digits than any id.
    """
    if type(value) is int:
        return value if -_LARGEST_WHOLE < value < _LARGEST_WHOLE else None
    if isinstance(value, str):
        text = value.strip()
        return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else None
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return whole_number(int(value))  # of numpy
    if isinstance(value, Real) and abs(number := float(value)) < _EXACT and number.is_integer():
        return int(number)
    return None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is an int or float, as JSON has them, that float32 holds: no boolean, nothing infinite or NaN."""
    return type(value) in _NUMBERS and abs(value) <= _LARGEST  # False of NaN


def is_box(value: Any) -> TypeGuard[list[float]]:
    """Whether it is a list of four such numbers."""
    return type(value) is list and len(value) == 4 and all_numbers(value)


def all_numbers(values: list[Any]) -> TypeGuard[list[float]]:
    """Whether all are such numbers; there is at least one."""
    if not _NUMBERS.issuperset(map(type, values)):
        return False
    # What a NaN hides from max and min, the sum shows. It is taken last: of larger numbers it could overflow.
    return -_LARGEST <= min(values) and max(values) <= _LARGEST and not isnan(sum(values))
