"""``dyhead-lab look PHOTO``: a page that shows what a detector found in a photograph, and what it looked at."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from .evaluated import add_import_argument, refuse_missing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", help="an image file, or the name of a photograph that comes with the project: workshop, cat, ..."
    )
    parser.add_argument(
        "--weights", default="everyday", help="a path, or a name of dyhead-lab weights (default: %(default)s)"
    )
    add_import_argument(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page to write (default: IMAGE_look.html in this folder)"
    )
    parser.add_argument("--threshold", type=float, default=0.3, help="least score of an object (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the page. Returns 0.

    Raises:
        UserError: the image or the weights cannot be read, or the page cannot be written.
    """
    out = args.out or Path(f"{Path(args.image).stem}_look.html")
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out: expected a name that ends in .html, got {out}")
    if not Path(args.image).exists() and Path(args.image).suffix:  # a word without one may name a photograph
        raise UserError(f"image not found: {args.image}")
    refuse_missing(args.weights)

    from ..data.photographs import PHOTOGRAPHS

    if Path(args.image).is_dir() and args.image not in PHOTOGRAPHS:
        raise UserError(f"{args.image or repr('')}: expected an image file; dyhead-lab detect takes folders")

    from ..views.look import look

    seen = look(args.image, args.weights, args.threshold, args.imports)
    seen.page(out)
    names = ", ".join(f"{entry['name']} {entry['score']:.2f}" for entry in seen.scene["objects"]) or "nothing"
    print(f"{args.image}: {names} -> {out}")
    return 0
