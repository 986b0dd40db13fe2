"""What was wrong with a COCO file and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """One fault of one annotation."""

    annotation: Any  #: its id as the file has it; None if it has none
    position: int  #: its place in the file's list of annotations, from 0
    what: str  #: the kind of fault
    value: Any  #: the value at fault
    done: str  #: "dropped", or how it was mended

    def __str__(self) -> str:
        name = f"{self.annotation!s:.40}" if self.annotation is not None else f"without id at position {self.position}"
        return f"annotation {name}: {self.what} ({self.value!r:.100}): {self.done}"


def summarise(problems: Iterable[Problem], show: int = 5) -> str:
    """One line for each kind of problem: how many, which annotations, what was done."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.what, problem.done), []).append(problem)
    lines = []
    for (what, done), group in kinds.items():
        names = [f"at position {p.position}" if p.annotation is None else f"{p.annotation!s:.40}" for p in group]
        listed = ", ".join(names[:show] + ["..."] * (len(names) > show))
        lines.append(f"{len(group)} annotation(s) with {what}: {done} (id {listed})")
    return "\n".join(lines)
