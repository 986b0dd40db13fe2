"""The recipe that a caller means: a recipe, the name of one, or a Python file that defines one.

Names belong to the zoo. It builds its recipes from this room and so lies below it: training cannot import the zoo,
and the zoo, when it is imported, says here how it finds a name. ``dyhead_lab.train`` imports both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from .python_file import defined_in, is_python_file
from .recipe import Recipe

#: What a recipe file defines.
RECIPE = "RECIPE"

_by_name: list[Callable[[str], Recipe]] = []


def names_are_found_by(find: Callable[[str], Recipe]) -> None:
    """Let ``find`` say which recipe a name means; it raises UserError where there is none."""
    _by_name[:] = [find]


def find_recipe(source: Recipe | str | Path) -> Recipe:
    """The recipe that ``source`` means.

    Args:
        source: a recipe; its name in the zoo; or a Python file that defines ``RECIPE``, by its path. The file is run.

    Raises:
        UserError: there is no such recipe or file, or the file defines none.
    """
    if isinstance(source, Recipe):
        return source
    if is_python_file(source):
        return replace(defined_in(source, RECIPE, Recipe), file=str(Path(source).resolve()))
    if not _by_name:
        raise UserError(f"no recipe {source!r}: names are the zoo's; import dyhead_lab.zoo, or call dyhead_lab.train")
    return _by_name[0](str(source))
