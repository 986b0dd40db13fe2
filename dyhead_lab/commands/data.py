"""``dyhead-lab data``: make, convert or download data sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data import shapes
from ..data.download import ARCHIVES, BASE_URL, download_coco
from ..data.voc import convert_voc
from .outputs import output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Three sources: ``shapes``, ``voc``, ``coco``."""
    sources = parser.add_subparsers(metavar="SOURCE", required=True)

    make = sources.add_parser("shapes", help="draw the built-in Shapes set")
    make.add_argument("--images", type=int, required=True, metavar="N", help="how many images")
    make.add_argument("--seed", type=int, default=0, help="another seed draws other images")
    make.add_argument("--size", type=int, default=160, help="height and width (default: 160 pixels)")
    make.set_defaults(source=_shapes)

    convert = sources.add_parser("voc", help="convert a Pascal VOC folder to COCO format")
    convert.add_argument(
        "--voc", type=Path, required=True, metavar="DIR", help="holds Annotations, JPEGImages, ImageSets"
    )
    convert.set_defaults(source=_voc)

    download = sources.add_parser("coco", help="download COCO 2017 (20 GB; continues where it stopped)")
    download.add_argument(
        "--parts",
        nargs="+",
        choices=list(ARCHIVES),
        default=list(ARCHIVES),
        help="which of annotations, val, train (default: all)",
        metavar="PART",
    )
    download.add_argument("--url", default=BASE_URL, help="server or mirror (default: %(default)s)")
    download.set_defaults(source=_coco)

    for source in (make, convert, download):
        source.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")


def run(args: argparse.Namespace) -> int:
    """Write the data set and say what was written. Returns 0.

    Raises:
        UserError: the folder cannot be written, or what is to be converted or fetched is not there.
    """
    output_folder(args.out)
    args.source(args)
    return 0


def _shapes(args: argparse.Namespace) -> None:
    shapes.write_shapes(args.out, args.images, seed=args.seed, size=args.size)
    print(f"{args.out}: {args.images} images")


def _voc(args: argparse.Namespace) -> None:
    for name, split in convert_voc(args.voc, args.out).items():
        print(f"{args.out / name}: {split.images} images, {split.objects} objects")
        for line in split.dropped:
            print(f"  dropped: {line}")


def _coco(args: argparse.Namespace) -> None:
    fetched = download_coco(args.out, args.parts, args.url, ARCHIVES)
    for name in args.parts:
        print(f"{args.out}: {name} {'downloaded' if name in fetched else 'was complete'}")
