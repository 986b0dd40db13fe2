"""``dyhead-lab errors``: which mistakes a trained model makes, what each kind costs, and the worst images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .evaluated import (
    add_evaluation_arguments,
    dataset_of,
    detections_of,
    kept_detections,
    refuse_missing,
    refuse_missing_folder,
    refuse_negative,
)
from .output_paths import output_folder

if TYPE_CHECKING:
    from ..data.dataset import DetectionData
    from ..evaluation.error_analysis import ErrorReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to evaluate, what to count, and where the pictures go."""
    add_evaluation_arguments(parser)
    parser.add_argument(
        "--score", type=float, default=0.3, metavar="S", help="least score that is counted (default: %(default)s)"
    )
    parser.add_argument(
        "--images", type=int, default=6, metavar="N", help="worst images to draw (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the pictures (default: beside the weights)")


def run(args: argparse.Namespace) -> int:
    """Print the table and draw the worst images. Returns 0.

    Raises:
        UserError: the score is not in [0, 1], a count is below 0, no weights or folder of data are there, or
            the folder of pictures cannot be written.
    """
    refuse_negative(args, "workers", "images")
    if not 0 <= args.score <= 1:
        raise UserError(f"--score: got {args.score}, expected a number from 0 to 1")
    refuse_missing(args.source)
    refuse_missing_folder(args.data)

    from ..data.dataset import place_of
    from ..evaluation.error_analysis import analyse_errors
    from ..zoo import load_trained

    trained = load_trained(args.source, args.imports)
    folder = args.out or trained.path.parent / "errors"
    if args.images:
        output_folder(folder)
    dataset = dataset_of(trained, args.data, args.split)
    print(f"{trained.path} on {place_of(dataset)} ({len(dataset)} images)")
    records = kept_detections(trained, dataset)
    report = analyse_errors(dataset, detections_of(trained, dataset, args.workers) if records is None else records)
    print(report.table(args.score))
    if args.images:
        print(f"\nworst images: {', '.join(map(str, draw_worst(report, dataset, args, folder)))}")
    return 0


def draw_worst(report: ErrorReport, dataset: DetectionData, args: argparse.Namespace, folder: Path) -> list[Path]:
    """Write a picture of each of the worst images. Returns their paths, the worst first."""
    from ..training.checkpoint import write_whole
    from ..views.error_images import errors_picture

    paths = []
    for image_id in report.worst_images(args.images):
        image, _ = dataset[dataset.image_ids.index(image_id)]
        paths.append(folder / f"{image_id}.png")
        write_whole(paths[-1], errors_picture(image, image_id, report, args.score).png)
    return paths
