"""``dyhead-lab book``: the chapters as a static site that opens from disk."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write the chapters as a site that opens from disk, without a network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("site"), metavar="DIR", help="folder of the site (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from .site import build_site

    pages = build_site(args.out)
    print(f"{len(pages) - 1} pages; open {pages[0]}")
    return 0
