"""Build the chapters: ``dyhead_book/cNN_name/chapter.py`` (py:percent) -> executed ``notebooks/NN_name.ipynb``.

A chapter with cells for the reader to write is also built as ``notebooks/workbook/NN_name.ipynb``; see ``editions``.

The text is the source, the notebook is built: edit the ``.py``, run ``make notebooks``, commit both. Cell ids
follow from the cells' text, widget ids are renumbered and no times are kept, so that a changed line in a
source gives a small diff in its notebook.

    python -m dyhead_book.build              # build all chapters
    python -m dyhead_book.build 00 03        # build those whose name starts so
    python -m dyhead_book.build --text 05    # after a change of text alone: outputs stay, nothing is executed
    python -m dyhead_book.build --check      # only compare with the source, execute nothing
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from dyhead_lab.paths import CHECKOUT

from .editions import book_edition, exercises, workbook_edition
from .hosted import with_first_cell

BOOK = Path(__file__).resolve().parent
NOTEBOOKS = BOOK.parent
WORKBOOK = "workbook"  # its folder in ``NOTEBOOKS``

LARGEST = 1_500_000  # bytes of one notebook; larger ones are slow to open and not shown on GitHub
SLOWEST_CELL = 300  # seconds
MARKS = ("tags", "exercise", "check")  # what a source may say of a cell; see ``editions``
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


def chapters(prefixes: Sequence[str] = ()) -> list[Path]:
    """Sources of the chapters whose names start with one of ``prefixes``; all of them by default."""
    found = sorted(BOOK.glob("c[0-9][0-9]_*/chapter.py"))
    for prefix in prefixes:
        if not any(title(source).startswith(prefix) for source in found):
            raise ValueError(f"no chapter starts with {prefix!r}; there are {', '.join(map(title, found))}")
    return [source for source in found if not prefixes or title(source).startswith(tuple(prefixes))]


def title(source: Path) -> str:
    """Number and name of the chapter with this source: "02_scale_aware"."""
    return source.parent.name.removeprefix("c")


def target(source: Path) -> Path:
    """Where the notebook of ``source`` lies."""
    return NOTEBOOKS / f"{title(source)}.ipynb"


def read_source(source: Path) -> NotebookNode:
    """The notebook of a source, without outputs, with ids that depend on the text of the cells only."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in MARKS})
    return _numbered(notebook)


def _numbered(notebook: NotebookNode) -> NotebookNode:
    """Give every cell an id that follows from its text."""
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}:{cell.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    return notebook


def book(source: Path) -> NotebookNode:
    """The chapter as the book has it, without outputs; see :mod:`.editions`."""
    marked = read_source(source)
    other = f"{WORKBOOK}/{title(source)}.ipynb" if exercises(marked) else ""
    return with_first_cell(_numbered(book_edition(marked, other)))


def workbook(source: Path) -> NotebookNode | None:
    """The chapter as the workbook has it; None for a chapter in which nothing is marked for the reader to build."""
    marked = read_source(source)
    if not exercises(marked):
        return None
    edition = workbook_edition(marked, title(source), f"../{title(source)}.ipynb")
    for cell in edition.cells:  # it lies one folder deeper than what the text names
        if cell.cell_type == "markdown":
            cell.source = re.sub(r'(src="|\]\()(?=diagrams/|\d\d_)', r"\1../", cell.source)
    return with_first_cell(_numbered(edition))


def workbook_target(source: Path) -> Path:
    """Where the workbook of ``source`` lies, if it has one."""
    return NOTEBOOKS / WORKBOOK / f"{title(source)}.ipynb"


def python_path() -> str:
    """``PYTHONPATH`` of a kernel that finds this very book and its library, whatever folder it runs in."""
    return os.pathsep.join(filter(None, [str(NOTEBOOKS), str(NOTEBOOKS.parent), os.environ.get("PYTHONPATH")]))


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run every cell in a fresh kernel inside ``folder``; an error in a cell raises CellExecutionError.

    The kernel starts without guesses of a reader, even where the one who builds has made some.
    """
    client = NotebookClient(
        notebook,
        timeout=SLOWEST_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=True,
        coalesce_streams=True,
    )
    with TemporaryDirectory() as reader:
        client.execute(env={**os.environ, "DYHEAD_READER": reader, "PYTHONPATH": python_path()})
    return _without_notices(notebook)


def _without_notices(notebook: NotebookNode) -> NotebookNode:
    """Take out what the library tells whoever waits, such as "compiling": it belongs to the machine that builds."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = re.sub(r"^dyhead_lab: .*\n?", "", output.text, flags=re.MULTILINE)
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text]
    return notebook


def serialise(notebook: NotebookNode) -> str:
    """The text of the ``.ipynb`` file: valid, stable from build to build, free of this machine's paths."""
    notebook.metadata = nbformat.from_dict({**METADATA, "widgets": notebook.metadata.get("widgets", {})})
    if not notebook.metadata.widgets:
        del notebook.metadata["widgets"]
    nbformat.validate(notebook)
    text = nbformat.writes(_number_widgets(notebook))
    text = text.replace(f"{NOTEBOOKS.parent}/", "").replace(str(NOTEBOOKS.parent), ".")
    if re.search(re.escape(str(Path.home())) + r"\b", text):
        raise ValueError(f"the notebook shows a path of this machine: {Path.home()}")
    if len(text) > LARGEST:
        raise ValueError(f"the notebook has {len(text) / 1e6:.2f} MB, at most {LARGEST / 1e6} MB are allowed")
    return text + "\n"


def _number_widgets(notebook: NotebookNode) -> NotebookNode:
    """Replace the random ids of the widgets by their numbers, in order of creation."""
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {"state": {}})
    numbers = {model_id: f"{i:032x}" for i, model_id in enumerate(widgets["state"])}
    if not numbers:
        return notebook
    text = re.sub("|".join(numbers), lambda match: numbers[match.group()], nbformat.writes(notebook))
    return nbformat.reads(text, as_version=4)


def code_differences(source: Path) -> list[str]:
    """What a reader of the notebook would see that its source does not say; empty if they agree."""
    filled = workbook(source)
    blank = workbook_target(source)
    stands = blank.read_text(encoding="utf-8") if blank.exists() else None
    if stands != (None if filled is None else serialise(filled)):
        return [f"{WORKBOOK}/{blank.name} differs from its source: run `make notebooks`"]
    built = target(source)
    if not built.exists():
        return [f"{built.name} is missing: run `make notebooks`"]
    wanted = [(c.cell_type, c.source) for c in book(source).cells]
    found = [(c.cell_type, c.source) for c in nbformat.read(built, as_version=4).cells]
    if len(wanted) != len(found):
        return [f"{built.name} has {len(found)} cells, its source {len(wanted)}: run `make notebooks`"]
    return [
        f"{built.name}: cell {i} differs from its source: run `make notebooks`"
        for i, pair in enumerate(zip(wanted, found, strict=True))
        if pair[0] != pair[1]
    ]


def with_new_text(source: Path) -> NotebookNode:
    """The notebook as it was executed, with the text of today's source between its cells of code.

    Raises:
        ValueError: its code has changed too, so that it has to be executed.
    """
    built, fresh = nbformat.read(target(source), as_version=4), book(source)
    executed, code = ([c for c in notebook.cells if c.cell_type == "code"] for notebook in (built, fresh))
    if [c.source for c in executed] != [c.source for c in code]:
        raise ValueError(f"{target(source).name}: its code has changed, not only its text: build it without --text")
    for cell, kept in zip(code, executed, strict=True):
        cell.update(kept)
    fresh.metadata = built.metadata
    return fresh


def write_workbook(source: Path) -> None:
    """Write the workbook of a chapter, without outputs; one that is no more is removed."""
    path, filled = workbook_target(source), workbook(source)
    if filled is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text(serialise(filled), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="first letters of the chapters' names, such as 00; default: all")
    parser.add_argument("--check", action="store_true", help="compare with the source, execute nothing")
    parser.add_argument("--text", action="store_true", help="take over changed text, execute nothing: outputs stay")
    args = parser.parse_args(argv)
    if CHECKOUT is None:
        parser.error("chapters are built in a checkout; `dyhead-lab book --notebooks` copies those of this package")
    try:
        sources = chapters(args.chapters)
    except ValueError as error:
        parser.error(str(error))
    if args.check:
        differences = [line for source in sources for line in code_differences(source)]
        print("\n".join(differences) or f"{len(sources)} notebooks agree with their sources")
        return 1 if differences else 0
    for source in sources:
        print(f"{title(source)} ...", flush=True)
        try:
            notebook = with_new_text(source) if args.text else execute(book(source), NOTEBOOKS)
        except ValueError as error:
            parser.error(str(error))
        text = serialise(notebook)
        write_workbook(source)
        target(source).write_text(text, encoding="utf-8")
        print(f"{title(source)}: {len(text) / 1e3:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
