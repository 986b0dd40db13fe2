"""Two editions from one source: the book, in which everything is built, and the workbook, which the reader fills.

A source is py:percent text. Four marks tell the editions apart:

- ``# %% exercise="gate"`` opens a cell that the reader of the workbook writes. Between ``# >>> what is to do`` and
  ``# <<<`` stands what is taken out there; the book shows it without the two marks. In a CUDA kernel, which is a
  string of C++, the marks are ``// >>>`` and ``// <<<``.
- ``# %% check="gate"`` opens the cell behind it: one expression that gives a
  :class:`~dyhead_book.practice.reader_checks.Verdict`, such as ``check_gate(Gate)``. In the workbook it runs through
  :class:`~dyhead_book.workbook.Workbook`, so that nothing the reader writes or leaves out stops the chapter.
- ``tags=["book"]`` and ``tags=["workbook"]`` give a cell to one edition only, such as folded hints to the workbook.
- ``tags=["hide"]`` collapses the input of a cell that is there for its output. Cards are collapsed without it:
  cells that only put a question or show a challenge would say everything twice.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import nbformat
from nbformat import NotebookNode

OPEN, CLOSE = ">>>", "<<<"
#: What begins a comment -> what stands in a gap: it stops whoever calls, or compiles, the cell before it is filled.
GAPS = {"#": "raise NotImplementedError({task!r})", "//": '#error "{task}"'}
WIDEST = 100  # characters of a line of code
BOOK, WORKBOOK, HIDE = "book", "workbook", "hide"
#: Classes and methods that show what they were given; see :mod:`dyhead_book.practice`.
CARDS = {"Question", "Challenge", "ask"}
#: JupyterLab and nbclient go on behind a cell with this tag, whatever it raises.
MAY_RAISE = "raises-exception"

_COMMENT = "|".join(GAPS)
_MARK = re.compile(rf"^[ ]*(?:{_COMMENT}) (?:{OPEN}|{CLOSE})", re.MULTILINE)
_GAP = re.compile(
    rf"^(?P<indent>[ ]*)(?P<comment>{_COMMENT}) {OPEN} *(?P<task>.*)\n(?P<answer>(?:.*\n)*?)"
    rf"[ ]*(?P=comment) {CLOSE}[ ]*$",
    re.MULTILINE,
)


class EditionError(ValueError):
    """A source whose marks do not fit together; the message names the exercise."""


@dataclass(frozen=True)
class Exercise:
    """A cell for the reader, and the cell that checks it.

    Attributes:
        name: unique in its chapter.
        answer: the whole code of the cell, as the book shows it.
        check: the expression that gives the verdict.
        names: what the cell defines, which is what later cells take.
    """

    name: str
    answer: str
    check: str
    names: tuple[str, ...]


def marked_cells(text: str) -> NotebookNode:
    """A source's cells with their exercise and check marks, and no more: what a check in the workbook needs.

    Reading whole sources takes jupytext, which a reader need not have.
    """
    cells = []
    for header, body in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", text, re.MULTILINE):
        cell = nbformat.v4.new_markdown_cell() if "[markdown]" in header else nbformat.v4.new_code_cell()
        cell.source = body.strip("\n")
        cell.metadata.update(re.findall(r'\b(exercise|check)="(\w+)"', header))
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells)


def exercises(source: NotebookNode) -> list[Exercise]:
    """The exercises of a source, in their order.

    Raises:
        EditionError: marks are missing, twice there, or in the wrong order.
    """
    found = []
    cells = iter(source.cells)
    for cell in cells:
        name = cell.metadata.get("exercise")
        if "check" in cell.metadata:
            raise EditionError(f"check {cell.metadata['check']!r}: its exercise does not stand right before it")
        if name is None:
            if cell.cell_type == "code" and _MARK.search(cell.source):
                raise EditionError(f"# {OPEN} stands in a cell that is no exercise: {cell.source[:60]!r}")
            continue
        after = next(cells, None)
        if after is None or after.metadata.get("check") != name:
            raise EditionError(f'exercise {name!r}: the next cell must begin with # %% check="{name}"')
        found.append(_exercise(name, cell.source, after.source))
    names = [exercise.name for exercise in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise EditionError(f"exercise {min(twice)!r} stands more than once")
    return found


def _exercise(name: str, marked: str, check: str) -> Exercise:
    if not _GAP.search(marked):
        raise EditionError(f"exercise {name!r}: nothing stands between # {OPEN} and # {CLOSE}")
    answer = without_marks(marked)
    if _MARK.search(answer):
        raise EditionError(f"exercise {name!r}: # {OPEN} and # {CLOSE} do not come in pairs")
    try:
        ast.parse(check.strip(), mode="eval")
    except SyntaxError:
        raise EditionError(f"exercise {name!r}: its check must be one expression, not {check.strip()!r}") from None
    names = tuple(defined(answer))
    if not names:
        raise EditionError(f"exercise {name!r}: its cell defines nothing that later cells could take")
    return Exercise(name, answer, check.strip(), names)


def defined(code: str) -> Iterator[str]:
    """Names that a cell defines at its top level."""
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))


def without_marks(marked: str) -> str:
    """The cell as the book shows it."""
    return _GAP.sub(lambda gap: gap["answer"].rstrip("\n"), marked)


def blanked(marked: str) -> str:
    """The cell as the workbook shows it: every gap says what is to do, and stops whoever calls it before."""
    return _GAP.sub(lambda gap: _stop(gap["indent"], gap["comment"], gap["task"]), marked)


def _stop(indent: str, comment: str, task: str) -> str:
    """The statement in a gap. In Python it takes several lines where one would scroll sideways."""
    line = indent + GAPS[comment].format(task=task)
    if comment != "#" or len(line) <= WIDEST:
        return line
    words = textwrap.wrap(task, WIDEST - len(indent) - 8, break_long_words=False, break_on_hyphens=False)
    pieces = [f"{indent}    {piece!r}" for piece in [*(f"{part} " for part in words[:-1]), words[-1]]]
    return "\n".join([f"{indent}raise NotImplementedError(", *pieces, f"{indent})"])


def book_edition(source: NotebookNode, workbook: str = "") -> NotebookNode:
    """Everything built and visible.

    Args:
        source: a notebook with the marks of this file.
        workbook: where the other edition lies, seen from this one; "" where there is none.
    """
    exercises(source)  # the marks must fit
    edition = _edition(source, leaves_out=WORKBOOK)
    for cell in edition.cells:
        cell.source = without_marks(cell.source)
        for mark in ("exercise", "check"):
            cell.metadata.pop(mark, None)
    if workbook:
        _switch(edition, f"This is the book: everything is built here. In the [workbook]({workbook}) you build it.")
    return edition


def workbook_edition(source: NotebookNode, title: str, book: str = "") -> NotebookNode:
    """The same chapter with gaps, a check under each, and the answer one click away.

    Args:
        source: a notebook with the marks of this file.
        title: number and name of the chapter, by which its answers are found again.
        book: where the other edition lies, seen from this one.
    """
    known = {exercise.name: exercise for exercise in exercises(source)}
    edition = _edition(source, leaves_out=BOOK)
    cells = []
    for cell in edition.cells:
        exercise = known.get(cell.metadata.pop("exercise", None))
        checked = known.get(cell.metadata.pop("check", None))
        cells.append(cell)
        if exercise:
            cell.source = blanked(cell.source)
            cell.metadata.tags = [*cell.metadata.get("tags", ()), MAY_RAISE]
        if checked:
            cell.source = f'workbook.check("{checked.name}", lambda: {checked.check})'
            cells.append(nbformat.v4.new_markdown_cell(folded_answer(checked)))
    opening = nbformat.v4.new_code_cell(
        f'from dyhead_book.workbook import Workbook\n\nworkbook = Workbook("{title}", globals())'
    )
    opening.metadata = nbformat.from_dict({"jupyter": {"source_hidden": True}})
    edition.cells = [*cells[:1], opening, *cells[1:]]
    if book:
        _switch(edition, f"This is the workbook: you build what is missing. In the [book]({book}) everything stands.")
    return edition


def folded_answer(exercise: Exercise) -> str:
    """The answer as a fold of a markdown cell."""
    return f"<details><summary>Answer</summary>\n\n```python\n{exercise.answer.strip()}\n```\n\n</details>"


def solved(workbook: NotebookNode, source: NotebookNode, answers: dict[str, str] | None = None) -> NotebookNode:
    """The workbook as a reader leaves it who has found every answer, or who wrote ``answers`` for some exercises."""
    filled = deepcopy(workbook)
    written = {blanked(cell.source): cell for cell in source.cells if "exercise" in cell.metadata}
    for cell in filled.cells:
        if cell.source in written and cell.cell_type == "code":
            marked = written[cell.source]
            cell.source = (answers or {}).get(marked.metadata["exercise"], without_marks(marked.source))
    return filled


def _edition(source: NotebookNode, leaves_out: str) -> NotebookNode:
    """The cells of one edition; those whose input is collapsed say so in the field that front ends read."""
    edition = deepcopy(source)
    edition.cells = [cell for cell in edition.cells if leaves_out not in cell.metadata.get("tags", ())]
    for cell in edition.cells:
        tags = [tag for tag in cell.metadata.get("tags", ()) if tag not in (BOOK, WORKBOOK)]
        cell.metadata.pop("tags", None)
        if HIDE in tags or (cell.cell_type == "code" and is_card(cell.source)):
            tags = [tag for tag in tags if tag != HIDE]
            cell.metadata.jupyter = {"source_hidden": True}
        if tags:
            cell.metadata.tags = tags
    return edition


def is_card(code: str) -> bool:
    """Whether a cell does nothing but make and show cards: ``guess = Question(...)``, ``guess.ask()``."""
    try:
        calls = [statement.value for statement in ast.parse(code).body]  # type: ignore[attr-defined]
    except (SyntaxError, AttributeError):  # a magic; a statement that has no value
        return False
    return bool(calls) and all(isinstance(call, ast.Call) and _called(call) in CARDS for call in calls)


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _switch(edition: NotebookNode, sentence: str) -> None:
    """Put the way to the other edition below the title."""
    first = edition.cells[0]
    heading, _, rest = first.source.partition("\n")
    first.source = f"{heading}\n\n*{sentence}*\n{textwrap.dedent(rest)}"
