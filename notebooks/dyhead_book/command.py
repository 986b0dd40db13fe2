"""``dyhead-lab book``: the chapters as a static site that opens from disk, or as notebooks to work in."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from dyhead_lab.commands.output_paths import output_folder
from dyhead_lab.errors import UserError
from dyhead_lab.paths import CHAPTERS

HELP = "write the chapters as a site that opens from disk, without a network, or as notebooks to work in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--notebooks", action="store_true", help="copy the notebooks; what you changed in DIR is kept")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: site, or chapters)")


def run(args: argparse.Namespace) -> int:
    """Write the site, or the notebooks. Returns 0.

    Raises:
        UserError: there are no chapters, or the folder cannot be made.
    """
    out = args.out or Path("chapters" if args.notebooks else "site")
    if args.notebooks:
        copied, kept = copy_chapters(out)
        print(f"{copied} notebooks in {out}{f', {kept} were there and are kept' if kept else ''}")
        print(f"open them: jupyter lab {out / '00_start_here.ipynb'}")
        return 0
    from .site import build_site

    pages = build_site(out)
    print(f"{len(pages) - 1} pages; open {pages[0]}")
    return 0


def copy_chapters(out: Path) -> tuple[int, int]:
    """Copy both editions and their diagrams into a folder of the reader; notebooks that are there are never touched.

    Returns:
        how many notebooks were copied, and how many were there.

    Raises:
        UserError: the project's chapters are not there, or the folder cannot be made.
    """
    chapters = sorted(CHAPTERS.glob("*.ipynb"))
    if not chapters:
        raise UserError(f"no notebooks in {CHAPTERS}")
    output_folder(out)
    chapters += sorted(CHAPTERS.glob("workbook/*.ipynb"))
    missing = [path for path in chapters if not (out / path.relative_to(CHAPTERS)).exists()]
    for path in [*missing, *CHAPTERS.glob("diagrams/*.svg")]:
        copy = out / path.relative_to(CHAPTERS)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    return len(missing), len(chapters) - len(missing)
