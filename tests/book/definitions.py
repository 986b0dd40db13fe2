"""What the cells of a chapter define, without running the chapter: a test proves something on the cells themselves.

::

    cells = definitions("02_scale_aware")
    assert check_same_ap("quickstart", ScaleAwareAttention=cells["ScaleAwareAttention"])
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from types import ModuleType
from typing import Any

from dyhead_book import build

#: What a constant is not made with: it takes something apart that was computed.
COMPUTES = (ast.Subscript, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Await, ast.Yield)
MAY_BE_CALLED = {"bool", "int", "float", "str", "len", "range", "tuple", "frozenset", "os.environ.get", "os.getenv"}
MAY_BE_CALLED |= {"earlier"}  # the library's class, or what the reader kept; a class of the chapter is made of it

_numbers = itertools.count()


def definitions(title: str) -> dict[str, Any]:
    """Run only the imports and the top-level functions, classes and plain constants of a chapter's book edition.

    Everything else is left out: statements that call something, and what rests on them. What stands twice is what the
    last cell says, as after Run All. Each call gives a namespace of its own, which is the globals of its functions: a
    test may put there what a function of the chapter expects to find.

    Args:
        title: number and name of the chapter, such as "02_scale_aware".

    Raises:
        ValueError: there is no such chapter.
    """
    source = build.BOOK / f"c{title}" / "chapter.py"
    if not source.is_file():
        raise ValueError(f"the book has no chapter {title!r}")
    module = ModuleType(f"cells_{title}_{next(_numbers)}")
    module.__file__ = str(source)
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    namespace = module.__dict__
    for statement in ast.parse(_of_the_book(source.read_text(encoding="utf-8"))).body:
        if _defines(statement):
            try:
                exec(compile(ast.Module([statement], []), str(source), "exec"), namespace)
            except NameError:  # a default or a constant that rests on something that was computed
                pass
    return namespace


def _of_the_book(text: str) -> str:
    """The source with the cells of the other edition emptied: every line keeps its number.

    The marks of exercises are comments, so what stands between them is the book's code already.
    """
    cells = re.split(r"^(?=# %%)", text, flags=re.MULTILINE)
    return "".join("\n" * c.count("\n") if re.match(r'# %%.*tags=\[.*"workbook"', c) else c for c in cells)


def _defines(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
        return True
    if isinstance(statement, ast.Assign):
        named = all(isinstance(name, ast.Name | ast.Tuple) for name in statement.targets)
        return named and _is_plain(statement.value)
    return isinstance(statement, ast.AnnAssign) and statement.value is not None and _is_plain(statement.value)


def _is_plain(value: ast.expr) -> bool:
    """Whether an expression is a constant: literals, sums and attributes of them, the environment; or a lambda."""
    if isinstance(value, ast.Lambda):
        return True
    parts = list(ast.walk(value))
    calls = [ast.unparse(node.func) for node in parts if isinstance(node, ast.Call)]
    return not any(isinstance(node, COMPUTES) for node in parts) and all(call in MAY_BE_CALLED for call in calls)
