"""Between the book and the reference of the library, which ``make docs`` builds into a folder of the site.

A page of the site names what its chapter imports; a page of the reference names the chapters that import from it.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

LIBRARY = "dyhead_lab"
#: Folder of the site that holds the reference, its first page, and the page of a module.
FOLDER, INDEX, PAGE = "reference", "reference/index.html", "reference/api/{module}.html"


def library_names(notebook: Path) -> list[str]:
    """What the cells of a notebook take from the library, such as ``dyhead_lab.attention.DyHead``: in order, each once.

    Raises:
        SyntaxError: a cell is no Python, nor a line of IPython's own.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return list(dict.fromkeys(name for source in sources for name in _names(source)))


def _names(source: str) -> Iterator[str]:
    lines = ("" if line.lstrip()[:1] in ("%", "!") else line for line in source.splitlines())
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == LIBRARY:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == LIBRARY:
            yield f"{LIBRARY}.{node.attr}"


def defined_at(name: str) -> tuple[str, str]:
    """Where the reference describes something: the module that defines it, and its full name there.

    Args:
        name: by which it can be imported, such as ``dyhead_lab.attention.DyHead``.

    Raises:
        ImportError: the library has no such thing.
    """
    module, _, own = name.rpartition(".")
    parent = import_module(module)
    found = getattr(parent, own) if hasattr(parent, own) else import_module(name)  # a module that nobody imported yet
    if inspect.ismodule(found):
        return found.__name__, found.__name__
    if inspect.isclass(found) or inspect.isfunction(found):
        return found.__module__, f"{found.__module__}.{found.__qualname__}"
    return module, name


def links(notebook: Path, site: Path) -> str:
    """A paragraph of links from a chapter to the reference; empty where the site holds none."""
    if not (site / INDEX).is_file():
        return ""
    found = []
    for module, full in dict.fromkeys(map(defined_at, library_names(notebook))):
        page = site / PAGE.format(module=module)
        if page.is_file():
            anchor = f"#{full}" if f'id="{full}"' in page.read_text(encoding="utf-8") else ""
            address = f"{PAGE.format(module=module)}{anchor}"
            found.append(f'<a href="{address}"><code>{html.escape(full.rpartition(".")[2])}</code></a>')
    whole = f'<a href="{INDEX}">Reference of the library</a>'
    return f'<p class="reference">{whole}{": " if found else ""}{", ".join(found)}</p>'


def chapters_by_module(notebooks: Path) -> dict[str, list[Path]]:
    """Module of the library -> the notebooks that take something of it, in the order of the book."""
    found: dict[str, list[Path]] = {}
    for notebook in sorted(notebooks.glob("*.ipynb")):
        for module in dict.fromkeys(defined_at(name)[0] for name in library_names(notebook)):
            found.setdefault(module, []).append(notebook)
    return found
