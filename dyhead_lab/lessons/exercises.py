"""How an exercise shows itself: difficulty, minutes, hints by symptom, and a solution that is tested code."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

HARDEST = 5


@dataclass(frozen=True)
class Exercise:
    """Shown in a notebook as a card whose hints and solution are folded.

    Args:
        title: what to do.
        difficulty: 1 (read and type) to 5 (think for an evening).
        minutes: what most readers need.
        hints: symptom -> hint.
        solution: a function of the library; its source is shown.
    """

    title: str
    difficulty: int
    minutes: int
    hints: Mapping[str, str] = field(default_factory=dict)
    solution: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.difficulty <= HARDEST:
            raise ValueError(f"difficulty: got {self.difficulty}, expected 1 to {HARDEST}")

    @property
    def stars(self) -> str:
        return "●" * self.difficulty + "○" * (HARDEST - self.difficulty)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self.title)}</b><br>difficulty {self.stars}, about {self.minutes} minutes</p>"]
        parts += [_folded(f"Hint: {symptom}", html.escape(hint)) for symptom, hint in self.hints.items()]
        if self.solution is not None:
            source = html.escape(inspect.getsource(inspect.unwrap(getattr(self.solution, "py_func", self.solution))))
            parts.append(_folded("Solution", f"<pre>{source}</pre>"))
        return "\n".join(parts)

    def __repr__(self) -> str:
        return f"{self.title} (difficulty {self.stars}, about {self.minutes} minutes)"


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>{body}</details>"
