"""The reader's side of a workbook: a check of every answer, and the book's version wherever an answer is not right yet.

A chapter must run to its end whatever the reader has written: nothing, something wrong, or something that raises. So a
check never raises. Where the answer is not right it says what was seen, and gives later cells the book's version. A
right answer is kept for later chapters; see :mod:`dyhead_book.practice.earlier`.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .editions import Exercise, defined, exercises
from .practice.answers import keep, marked_chapter, record
from .practice.reader_checks import Verdict, raised, still_to_do


@dataclass(frozen=True)
class Report:
    """What a check says to the reader."""

    verdict: Verdict
    takes_over: tuple[str, ...]

    @property
    def _words(self) -> list[str]:
        words = [repr(self.verdict)]
        if self.takes_over:
            words.append(f"From here on the chapter uses the book's {' and '.join(self.takes_over)}.")
        return words

    def __repr__(self) -> str:
        return "\n".join(self._words)

    def _repr_html_(self) -> str:
        mark = "✓" if self.verdict else "○"
        lines = "<br>".join(html.escape(line) for words in self._words for line in words.splitlines())
        return f"<p>{mark} {lines}</p>"


class Workbook:
    """One chapter of the workbook while it is worked through.

    Args:
        chapter: number and name, such as "02_scale_aware".
        namespace: of the notebook: ``globals()``.

    Raises:
        ValueError: there is no such chapter.
    """

    def __init__(self, chapter: str, namespace: dict[str, Any]):
        self.chapter, self._namespace = chapter, namespace
        self._exercises = {exercise.name: exercise for exercise in exercises(marked_chapter(chapter))}

    def check(self, name: str, judge: Callable[[], Verdict]) -> Report:
        """Check what the reader wrote for exercise ``name``; see this module.

        Args:
            name: of the exercise.
            judge: runs the chapter's check on the reader's names.
        """
        exercise = self._exercises[name]
        gap = _not_the_readers(exercise.names, self._namespace)
        verdict = Verdict(False, gap) if gap else _verdict(judge)
        if verdict:
            self._remember(exercise)
            return Report(verdict, ())
        exec(compile(exercise.answer, f"<the book's {name}>", "exec"), self._namespace)
        _the_books.update({name: self._namespace[name] for name in exercise.names})
        return Report(verdict, exercise.names)

    def _remember(self, exercise: Exercise) -> None:
        record(self.chapter, exercise.name)
        cell = _cell_that_defines(exercise.names, self._namespace.get("In", []))
        if cell:
            keep(self.chapter, exercise.name, cell)


def _cell_that_defines(names: tuple[str, ...], history: list[str]) -> str | None:
    """The last cell of a kernel's history that defines all ``names``; None where it is not one cell."""
    for cell in reversed(history):
        try:
            if set(names) <= set(defined(cell)):
                return cell
        except SyntaxError:
            continue
    return None


_the_books: dict[str, Any] = {}  # what took the place of an answer in this kernel


def _not_the_readers(names: tuple[str, ...], namespace: dict[str, Any]) -> str:
    """What is missing or stands there from a check before, in words; a constant may be equal to the book's."""
    for name in names:
        if name not in namespace:
            return f"There is no {name} yet: run the cell above, or see what it says."
        if callable(namespace[name]) and namespace[name] is _the_books.get(name):
            return f"The {name} that is there is the book's: run the cell above, or see what it says."
    return ""


def _verdict(judge: Callable[[], Verdict]) -> Verdict:
    try:
        return judge()
    except NotImplementedError as gap:
        return Verdict(False, still_to_do(gap))
    except Exception as error:  # whatever the reader's code raises
        return Verdict(False, raised(error))
