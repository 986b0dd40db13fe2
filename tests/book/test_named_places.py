"""Modules and files that prose names are there: in chapters, their notebooks, the guides, docstrings and hints."""

import importlib
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "notebooks" / "dyhead_book"
#: Where a path in prose may start: ``csrc/common``, ``attention/scale.py``, ``static/explorer.js``, ``site/site.py``,
#: ``deform_conv/simple.cuh``.
STARTS = (ROOT, ROOT / "csrc", ROOT / "dyhead_lab", ROOT / "dyhead_lab" / "views", BOOK, BOOK.parent)
PLACEHOLDER = re.compile(
    "NAME|NN_name|CHAPTER|_NN\\b"
)  # in paths that say how something of a reader's own would be called
GUIDES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "csrc/README.md", "data/README.md")]
CODE = [
    path for folder in (BOOK, ROOT / "dyhead_lab" / "views", ROOT / "tests" / "book") for path in folder.rglob("*.*")
]
TEXTS = [path for path in CODE if path.suffix in (".py", ".js", ".css", ".toml")] + GUIDES
NOTEBOOKS = sorted(BOOK.parent.glob("*.ipynb"))

MODULE = re.compile(r"(?<![\w./])dyhead_(?:lab|book)(?:\.[A-Za-z_]\w*)+(?![\w/])(?!\.(?:py|js|toml|css)\b)")
# Not what follows a "=": the path in the query of an address.
FILE = re.compile(r"(?<![\w./{}<=-])(?:[A-Za-z_]\w*/)+\w+\.(?:py|cuh?|js|css|toml|ipynb|md)\b")
FORMER = re.compile(r"dyhead_lab[./]lessons|\blessons\.\w+|notebooks/src\b")


def is_there(name: str) -> bool:
    """Whether a dotted name leads to a module or to something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.util.find_spec(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        if found is None:
            continue
        if count == len(parts):
            return True
        place = importlib.import_module(".".join(parts[:count]))
        for part in parts[count:]:
            if not hasattr(place, part):
                return False
            place = getattr(place, part)
        return True
    return False


def missing_from(text: str) -> set[str]:
    """What a text names and nobody can find."""
    # The page of a module in the reference has its name.
    modules = {name for name in MODULE.findall(text) if not is_there(name.removesuffix(".html"))}
    paths = {name for name in FILE.findall(text) if not PLACEHOLDER.search(name)}
    files = {path for path in paths if not any((start / path).exists() for start in STARTS)}
    return modules | files | set(FORMER.findall(text))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_text_names_is_there(path):
    if path == Path(__file__).resolve():  # it holds names that are not there
        return
    assert not missing_from(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_built_notebook_names_is_there(path):
    """In its cells, and in what they printed; the state of widgets holds code of its own."""
    shown = [
        "".join(text)
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
        for text in [output.get("text", []), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
    ]
    assert not missing_from("\n".join(shown))


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("see `dyhead_lab.ops.formula:bilinear` and dyhead_lab.trace.NAMES.", set()),
        ("``ops/formula.py``, csrc/deform_conv/simple.cuh, tests/test_rooms.py", set()),
        ("dyhead_lab.lessons.boxes", {"dyhead_lab.lessons.boxes", "dyhead_lab.lessons"}),
        ("dyhead_lab.trace.NOTHING", {"dyhead_lab.trace.NOTHING"}),
        ("zoo/ablation.py:12", {"zoo/ablation.py"}),
        ("notebooks/src/03.py", {"notebooks/src/03.py", "notebooks/src"}),
    ],
)
def test_what_is_missing_is_named(text, missing):
    assert missing_from(text) == missing
