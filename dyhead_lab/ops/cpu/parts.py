"""The hand-written parts of the CPU path, and the plain code that stands in for each of them.

Every part is there for speed alone: it must earn its place in the measurement of ``dyhead-lab bench cpu``, which runs
the operators without one part after the other. Nothing but that benchmark and the tests switches a part off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: part -> what stands in for it
PARTS = {
    "lanes": "loops over channels, which the compiler vectorises",
    "block cache": "torch.empty",
}

_left_out: set[str] = set()


@contextmanager
def without(*parts: str) -> Iterator[None]:
    """Inside the block, plain code runs in place of these parts, backward passes included. For the whole process.

    Raises:
        ValueError: a name that is none of :data:`PARTS`.
    """
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise ValueError(f"no part of the CPU path is called {', '.join(sorted(unknown))}; expected {', '.join(PARTS)}")
    before = set(_left_out)
    _left_out.update(parts)
    try:
        yield
    finally:
        _left_out.intersection_update(before)


def has(part: str) -> bool:
    """Whether this part is in use."""
    return part not in _left_out
