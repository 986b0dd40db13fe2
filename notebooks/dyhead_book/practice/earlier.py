"""What the reader built in an earlier chapter, or the library's version of it.

::

    ScaleAwareAttention = earlier("02_scale_aware", "ScaleAwareAttention")

The answer that the workbook kept is run among the cells of its own chapter that it and its check lean on, and only an
answer that passes the check again is used.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import re
import symtable
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from dyhead_lab.paths import PACKAGE

from ..editions import Exercise, exercises, without_marks
from .answers import NotKept, answer_file, kept, marked_chapter

#: Where the library keeps what chapters build.
ROOMS = ("attention", "detectors", "ops")

_built: dict[tuple[str, str, str], dict[str, Any]] = {}  # chapter, exercise, cell -> what it gave in this kernel
_numbers = itertools.count()


def earlier(chapter: str, name: str) -> Any:
    """The reader's class or function if it is kept and passes its check, else the library's; a line says which.

    Args:
        chapter: number and name, such as "02_scale_aware".
        name: of a class or function that an exercise of this chapter builds, and that the library has too.

    Raises:
        ValueError: there is no such chapter, it has no such exercise, or the library has nothing of that name.
    """
    marked = marked_chapter(chapter)
    exercise = next((exercise for exercise in exercises(marked) if name in exercise.names), None)
    if exercise is None:
        raise ValueError(f"no exercise of chapter {chapter} builds {name!r}")
    library = of_the_library(name)
    try:
        cell = kept(chapter, exercise.name)
        key = (chapter, exercise.name, cell)
        if key not in _built:
            _built[key] = _run(chapter, exercise, cell, _statements_before(marked, exercise.name))
    except NotKept as problem:
        print(f"{name}: the library's. {problem}")
        return library
    print(f"{name}: yours, from chapter {chapter[:2]}.")
    return _built[key][name]


def of_the_library(name: str) -> Any:
    """The one class or function of this name that the library's rooms of attentions, detectors and operators define.

    Raises:
        ValueError: there is none, or there are several.
    """
    defines = re.compile(rf"^(?:class|def) {re.escape(name)}\b", re.MULTILINE)
    files = (path for room in ROOMS for path in sorted((PACKAGE / room).rglob("*.py")))
    found = [path for path in files if defines.search(path.read_text(encoding="utf-8"))]
    if len(found) != 1:
        raise ValueError(f"{name}: the library defines {len(found)} things of that name, expected one")
    parts = found[0].relative_to(PACKAGE.parent).with_suffix("").parts
    return getattr(import_module(".".join(parts)), name)


def _run(chapter: str, exercise: Exercise, cell: str, before: list[ast.stmt]) -> dict[str, Any]:
    """Names that the reader's cell defines, once they have passed the check.

    Raises:
        NotKept: they do not.
    """
    path = str(answer_file(chapter, exercise.name))
    module = ModuleType(f"answer_{chapter}_{exercise.name}_{next(_numbers)}")
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    try:
        check = ast.parse(exercise.check, mode="eval")
        own = ast.parse(cell)
        needed = needed_for([own, check], before)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(ast.Module(needed, []), f"<chapter {chapter}>", "exec"), module.__dict__)
            exec(compile(own, path, "exec"), module.__dict__)
            verdict = eval(compile(check, "<its check>", "eval"), module.__dict__)
    except Exception as error:  # whatever the reader's code raises, today and here
        raise NotKept(f"Yours does not run here: {type(error).__name__}: {error}") from None
    if not verdict:
        raise NotKept(f"Yours does not pass its check any more. {verdict.message.splitlines()[0]}")
    return module.__dict__


def _statements_before(marked: Any, exercise: str) -> list[ast.stmt]:
    """All statements of the book's cells that stand before an exercise."""
    code = (cell for cell in marked.cells if cell.cell_type == "code")
    cells = itertools.takewhile(lambda cell: cell.metadata.get("exercise") != exercise, code)
    return [statement for cell in cells for statement in ast.parse(without_marks(cell.source)).body]


def needed_for(wanting: Iterable[ast.AST], statements: list[ast.stmt]) -> list[ast.stmt]:
    """Those of ``statements`` that give the names that ``wanting`` uses, and the names that these use, in their order.

    It follows names only: a statement that changes an object under another name is not seen.
    """
    names = {name for tree in wanting for name in _used(tree)}
    found = []
    for statement in reversed(statements):
        bound = set(_bound(statement))
        if bound & names:
            found.append(statement)
            if isinstance(statement, ast.Assign | ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
                names -= bound  # what they were before does not matter
            names |= set(_used(statement))
    return found[::-1]


def _used(tree: ast.AST) -> Iterator[str]:
    """Names that it takes from outside: a local variable of a function may be called like one of the chapter's."""
    tables = [symtable.symtable(ast.unparse(tree), "<cell>", "exec")]
    for table in tables:
        tables += table.get_children()
        yield from (name.get_name() for name in table.get_symbols() if name.is_referenced() and name.is_global())


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement gives a value."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)
    else:
        stored = (n for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        yield from (name.id for name in stored)
