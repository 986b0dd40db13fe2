"""The reader's right answers: which exercises of a chapter were right once, and the cells that were.

Cells are kept as ``answers/CHAPTER/EXERCISE.py`` in the reader's folder. The workbook writes them and notes their
digests beside them: a file that somebody changed, or put there, has another digest or none, and nobody runs it.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

from nbformat import NotebookNode

from dyhead_lab.paths import reader_folder

from ..editions import exercises, marked_cells
from .reader_files import read_object, write, write_object

BOOK = Path(__file__).resolve().parents[1]


def marked_chapter(chapter: str) -> NotebookNode:
    """The cells of a chapter such as "02_scale_aware", with the marks of its exercises.

    Raises:
        ValueError: there is no such chapter.
    """
    source = BOOK / f"c{chapter}" / "chapter.py"
    if not source.is_file():
        raise ValueError(f"the book has no chapter {chapter!r}")
    return marked_cells(source.read_text(encoding="utf-8"))


class NotKept(Exception):
    """There is no answer that can be used; the message says why, as a sentence."""


def answer_file(chapter: str, exercise: str) -> Path:
    """Where the right answer to an exercise of a chapter such as "02_scale_aware" is kept."""
    return reader_folder() / "answers" / chapter / f"{exercise}.py"


def _digests() -> Path:
    return reader_folder() / "answers" / "digests.json"


def keep(chapter: str, exercise: str, cell: str) -> None:
    """Keep the source of a cell. Where it cannot be written, a warning says so."""
    path = answer_file(chapter, exercise)
    try:
        write(path, cell)
        write_object(_digests(), {**_known(), f"{chapter}/{exercise}": _digest(cell)})
    except OSError as error:
        warnings.warn(f"{path} cannot be written ({error.strerror}); later chapters use the library's", stacklevel=3)


def kept(chapter: str, exercise: str) -> str:
    """The source of the cell that was right last.

    Raises:
        NotKept: there is none, or the file does not hold what the workbook wrote.
    """
    path = answer_file(chapter, exercise)
    try:
        cell = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotKept("You have not built it yet.") from None
    except (OSError, ValueError) as error:
        raise NotKept(f"{path} cannot be read ({error}).") from None
    if _known().get(f"{chapter}/{exercise}") != _digest(cell):
        raise NotKept(f"{path} was changed outside of the workbook.")
    return cell


def _known() -> dict[str, str]:
    """All digests; none where the file is damaged, so that nothing of it is trusted."""
    try:
        return read_object(_digests())
    except (OSError, ValueError):
        return {}


def _digest(cell: str) -> str:
    return hashlib.sha256(cell.encode()).hexdigest()


# What was right once


def progress_file() -> Path:
    """Where the reader's right answers are remembered."""
    return reader_folder() / "progress.json"


def progress() -> dict[str, list[str]]:
    """Chapter -> exercises that were right at least once; empty where nothing can be read."""
    try:
        return {chapter: [str(name) for name in names] for chapter, names in read_object(progress_file()).items()}
    except (OSError, ValueError, TypeError):
        return {}


def record(chapter: str, name: str) -> None:
    """Remember a right answer. Where it cannot be written, a warning says so."""
    known = progress()
    if name in known.get(chapter, ()):
        return
    path = progress_file()
    try:
        write_object(path, {**known, chapter: [*known.get(chapter, ()), name]})
    except OSError as error:
        warnings.warn(f"{path} cannot be written ({error.strerror}); what you solve is not remembered", stacklevel=3)


def exercises_of(chapter: str) -> list[str]:
    """The names of a chapter's marked exercises.

    Raises:
        ValueError: there is no such chapter.
    """
    return [exercise.name for exercise in exercises(marked_chapter(chapter))]
