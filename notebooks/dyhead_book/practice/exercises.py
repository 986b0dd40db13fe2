"""How exercises and challenges show themselves: difficulty, minutes, hints in steps, and what is right.

An exercise has a function to write, a check that takes the reader's function, and a solution that is tested code. A
challenge is open: what comes out is a measurement or an argument, so there is an answer in place of a check.
``tests/book/test_every_exercise.py`` walks through all chapters and holds that.
"""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HARDEST = 5
FEWEST_HINTS = 2


@dataclass(frozen=True)
class Task:
    """What exercises and challenges share: a card whose hints are folded.

    Args:
        title: what to do.
        difficulty: 1 (read and type) to 5 (think for an evening).
        minutes: what most readers need.
        hints: symptom or question -> hint, in the order in which to open them; at least two.

    Raises:
        ValueError: the difficulty is not on the scale, or there are too few hints.
    """

    title: str
    difficulty: int
    minutes: int
    hints: Mapping[str, str]

    def __post_init__(self) -> None:
        if not 1 <= self.difficulty <= HARDEST:
            raise ValueError(f"difficulty: got {self.difficulty}, expected 1 to {HARDEST}")
        if len(self.hints) < FEWEST_HINTS:
            raise ValueError(f"hints: got {len(self.hints)}, expected at least {FEWEST_HINTS}")

    @property
    def effort(self) -> str:
        return f"difficulty {'●' * self.difficulty}{'○' * (HARDEST - self.difficulty)}, about {self.minutes} minutes"

    def _end(self) -> str:
        """The last fold of the card."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        kind = type(self).__name__
        parts = [f"<p><b>{marked_up(self.title)}</b><br>{kind}, {self.effort}</p>"]
        parts += [_folded(f"Hint: {symptom}", marked_up(hint)) for symptom, hint in self.hints.items()]
        return "\n".join([*parts, self._end()])

    def __repr__(self) -> str:
        return f"{self.title} ({self.effort})"


@dataclass(frozen=True, repr=False)
class Exercise(Task):
    """A function to write. The cells behind it hold a stub and its check.

    Args:
        solution: a function of the library that passes the check; its source is shown.
    """

    solution: Callable[..., Any]

    def _end(self) -> str:
        code = inspect.getsource(inspect.unwrap(getattr(self.solution, "py_func", self.solution)))
        return _folded("Solution", f"<pre>{html.escape(code)}</pre>")


@dataclass(frozen=True, repr=False)
class Challenge(Task):
    """An open task.

    Args:
        answer: what comes out and why; where the book has no measurement, how to evaluate one.
    """

    answer: str

    def _end(self) -> str:
        return _folded("Answer", marked_up(self.answer))


def marked_up(text: str) -> str:
    """Text as HTML, with what stands between backticks as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text))


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{marked_up(summary)}</summary>{body}</details>"
