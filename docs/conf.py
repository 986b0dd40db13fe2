"""Sphinx: the reference of the library out of its docstrings. ``make docs`` builds it; warnings are errors."""

import functools
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "notebooks")]

import dyhead_lab  # noqa: E402
from dyhead_book.site.page import read_title  # noqa: E402
from dyhead_book.site.reference import chapters_by_module  # noqa: E402

project, release = "dyhead_lab", dyhead_lab.__version__
copyright = "the authors of dyhead_lab"
extensions = ["sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "description": "Attention in object detection"}
html_sidebars = {"**": ["about.html", "searchbox.html", "globaltoc.html"]}

#: A page for every module, written anew by each build; what begins with an underscore is left out.
apidoc_modules = [
    {"path": str(ROOT / "dyhead_lab"), "destination": "api", "separate_modules": True, "module_first": True}
]
exclude_patterns = ["api/modules.rst"]
# Names are documented where they are defined, not where a package hands them on.
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
add_module_names = False
suppress_warnings = ["ref.python"]  # annotations name classes in short, and two modules may each have one of that name
napoleon_use_ivar = True  # attributes are described once, in the class


@functools.cache
def chapters():
    """Module -> links to the chapters that use it: the book's site lies around the reference."""
    found = chapters_by_module(ROOT / "notebooks").items()
    return {module: ", ".join(f"`{read_title(p)} <../../{p.stem}.html>`__" for p in paths) for module, paths in found}


def named_chapters(app, what, name, obj, options, lines):
    """A module says which chapters of the book take something of it."""
    if what == "module" and name in chapters():
        lines += ["", f"In the book: {chapters()[name]}", ""]


def readable(app, what, name, obj, options, lines):
    """Docstrings are written for people who read code: what they say of |x| and *args is no markup."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        # Stars that no second one closes in this line.
        stars = r"(?<![\\\w*])(\*{1,2})(?=\w)(?![^*]*\w\*)"
        escaped = (re.sub(stars, lambda found: r"\*" * len(found[1]), part) for part in parts[::2])
        parts[::2] = [part.replace("|", r"\|") for part in escaped]
        lines[number] = "".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", readable, priority=100)  # before napoleon makes its own marks
    app.connect("autodoc-process-docstring", named_chapters, priority=200)
