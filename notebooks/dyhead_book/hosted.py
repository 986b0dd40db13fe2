"""The first cell of every chapter that computes: on Colab and Kaggle it brings the library, elsewhere it does nothing.

What it does there stands in ``scripts/hosted.py``, which it fetches with the repository. The repository's address
stands in ``pyproject.toml``; ``scripts/repository.py`` changes it there and wherever it was written from there.
"""

from __future__ import annotations

import tomllib
from functools import cache

import nbformat
from nbformat import NotebookNode

from dyhead_lab.paths import PACKAGE

#: By this tag the cell is known. Nobody executes it who builds the book.
HOSTED, NOT_EXECUTED = "hosted", "skip-execution"

_CODE = """\
# For Colab, and for Kaggle with Internet on: this brings the library, in a few minutes.
# Anywhere else it does nothing.
import os
import subprocess
import sys

if {{"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"}} & os.environ.keys():
    if not os.path.isdir("dyhead-lab"):
        address = "{address}"
        subprocess.run(["git", "clone", "--depth=1", address, "dyhead-lab"], check=True)
    sys.path.insert(0, "dyhead-lab/scripts")
    from hosted import prepare

    prepare()"""


@cache
def repository() -> str:
    """The address of the repository, as pyproject.toml has it. Only a checkout knows it."""
    pyproject = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return pyproject["project"]["urls"]["Repository"]


def with_first_cell(edition: NotebookNode) -> NotebookNode:
    """Put the cell below the title, unless the chapter has no code. Its id stays when the address changes."""
    if any(cell.cell_type == "code" for cell in edition.cells):
        cell = nbformat.v4.new_code_cell(_CODE.format(address=repository()), id=HOSTED)
        cell.metadata = nbformat.from_dict({"jupyter": {"source_hidden": True}, "tags": [HOSTED, NOT_EXECUTED]})
        edition.cells = [*edition.cells[:1], cell, *edition.cells[1:]]
    return edition


def is_first_cell(cell: NotebookNode) -> bool:
    """Whether a cell of a built notebook is this one."""
    return HOSTED in cell.metadata.get("tags", ())
