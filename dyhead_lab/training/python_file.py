"""A Python file of the reader's own, such as a recipe: imported by its path, under the name that the file has.

What a file defines must be found again by name (a weight file says ``mine:Net`` of class Net in ``mine.py``), so a
file has one name in a process: its own without ``.py``.
"""

from __future__ import annotations

import ast
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ..errors import UserError

T = TypeVar("T")

#: Module -> when the file that was run for it had last been written.
_written: dict[str, int] = {}


def is_python_file(source: object) -> bool:
    """Whether ``source`` names a Python file: a path, or text that ends in ``.py``."""
    return isinstance(source, Path) or (isinstance(source, str) and source.endswith(".py"))


def import_file(path: str | Path) -> ModuleType:
    """Run a Python file as a module named after it. It is run again only where it has changed since, as in a notebook.

    A script that names itself gets what it has defined so far.

    As with ``python mine.py``, the file finds its neighbours: its folder becomes the first place where imports look.

    Args:
        path: of the file. Its name must be a name in Python, and no other module's.

    Returns:
        the module, which is also in ``sys.modules``.

    Raises:
        UserError: there is no such file, its name cannot be a module's or is another one's, a neighbour that it imports
            has the name of another module, or the file itself fails.
    """
    path = Path(path).resolve()
    name = path.stem
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix != ".py" or not name.isidentifier():
        raise UserError(f"{path}: expected a Python file whose name can be imported, such as my_detector.py")
    main = sys.modules["__main__"]
    if _file_of(main) == path:  # the program that runs: run again, it would define each class a second time
        return main
    known = sys.modules.get(name)
    written = path.stat().st_mtime_ns
    if known is not None and _file_of(known) == path:
        if _written.get(name, written) == written:
            return known
    else:
        _refuse_taken_name(name, path)
    _refuse_other_neighbours(path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a file that ends in .py has a loader
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{path}{_line_of(error, path)}: {type(error).__name__}: {error}") from error
    _written[name] = written
    return module


def defined_in(path: str | Path, name: str, kind: type[T]) -> T:
    """What a Python file defines under ``name``.

    Raises:
        UserError: the file cannot be imported, or defines no such thing of that kind.
    """
    found: Any = getattr(import_file(path), name, None)
    if not isinstance(found, kind):
        has = "it has none" if found is None else f"it is a {type(found).__name__}"
        raise UserError(f"{path}: expected {name}, a {kind.__name__}; {has}")
    return found


def _refuse_taken_name(name: str, path: Path) -> None:
    """Refuse a file that has the name of another module: one of the two could not be imported any more.

    Raises:
        UserError: it names the other one.
    """
    if name in sys.modules:
        other = _file_of(sys.modules[name]) or "built in"
    else:
        spec = find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve() == path:  # None: a folder, no module
            return
        other = spec.origin
    raise UserError(f"{path}: there is another module {name!r} ({other}); give the file a name of its own")


def _refuse_other_neighbours(path: Path) -> None:
    """Refuse a file that imports a neighbour whose name is taken: Python would silently hand it the other module.

    Raises:
        UserError: it names both.
    """
    try:
        statements = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):
        return  # running the file says so, with the line
    names = {alias.name for statement in statements if isinstance(statement, ast.Import) for alias in statement.names}
    names |= {statement.module or "" for statement in statements if isinstance(statement, ast.ImportFrom)}
    for name in sorted({name.partition(".")[0] for name in names}):
        neighbour, known = path.with_name(f"{name}.py").resolve(), sys.modules.get(name)
        if known is not None and neighbour.is_file() and _file_of(known) != neighbour:
            raise UserError(
                f"{path}: imports {neighbour}, but {name!r} is another module in this process "
                f"({_file_of(known) or 'built in'}); rename one of the two, or start a process of its own"
            )


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _line_of(error: Exception, path: Path) -> str:
    """``, line 7``: the last line of the file that took part in its failure."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(path):
            line = step.tb_lineno
        step = step.tb_next
    return f", line {line}" if line else ""
