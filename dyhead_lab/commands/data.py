"""``dyhead-lab data``: make, convert or download data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.download import ARCHIVES, BASE_URL, download_coco
from ..errors import UserError
from .evaluated import refuse_missing_folder
from .output_paths import output_folder

if TYPE_CHECKING:
    from ..data.coco_writer import WrittenSplit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Six sources: ``shapes``, ``voc``, ``yolo``, ``split``, ``coco``, ``everyday``."""
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

    yolo = sources.add_parser("yolo", help="convert a YOLO folder to COCO format")
    yolo.add_argument(
        "--yolo", type=Path, required=True, metavar="DIR", help="holds images, labels and a yaml file, or that file"
    )
    yolo.set_defaults(source=_yolo)

    part = sources.add_parser("split", help="part a data set of one split into train and val")
    part.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder in COCO format")
    part.add_argument("--val", type=float, default=0.2, metavar="SHARE", help="share of val (default: %(default)s)")
    part.set_defaults(source=_split)

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

    everyday = sources.add_parser("everyday", help="make the small set of everyday photographs from COCO")
    everyday.add_argument("--coco", type=Path, required=True, metavar="DIR", help="COCO 2017, train and val")
    everyday.set_defaults(source=_everyday)

    for source in (make, convert, yolo, part, download, everyday):
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
    from ..data import shapes

    shapes.write_shapes(args.out, args.images, seed=args.seed, size=args.size)
    print(f"{args.out}: {args.images} images")


def _voc(args: argparse.Namespace) -> None:
    from ..data.voc import convert_voc

    _tell(convert_voc(args.voc, args.out), args.out)


def _yolo(args: argparse.Namespace) -> None:
    if not args.yolo.exists():  # the conversion imports torch
        raise UserError(f"YOLO folder not found: {args.yolo}")
    from ..data.yolo import convert_yolo

    _tell(convert_yolo(args.yolo, args.out), args.out)


def _split(args: argparse.Namespace) -> None:
    refuse_missing_folder(args.data)
    from ..data.splitting import split_folder

    _tell(split_folder(args.data, args.out, args.val), args.out)


def _tell(splits: dict[str, WrittenSplit], out: Path) -> None:
    for name, split in splits.items():
        print(f"{out / name}: {split.images} images, {split.objects} objects")
        for line in split.dropped:
            print(f"  dropped: {line}")


def _everyday(args: argparse.Namespace) -> None:
    from ..data.everyday import build_everyday

    for split, images in build_everyday(args.coco, args.out).items():
        print(f"{args.out / split}: {images} images")


def _coco(args: argparse.Namespace) -> None:
    fetched = download_coco(args.out, args.parts, args.url, ARCHIVES)
    for name in args.parts:
        print(f"{args.out}: {name} {'downloaded' if name in fetched else 'was complete'}")
