"""``dyhead-lab eval``: the 12 COCO numbers of a trained model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from .evaluated import (
    add_evaluation_arguments,
    dataset_of,
    detections_of,
    refuse_missing,
    refuse_missing_folder,
    refuse_negative,
)
from .output_paths import output_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to evaluate, on which images, and where to write what was found."""
    add_evaluation_arguments(parser)
    parser.add_argument(
        "--flips", action="store_true", help="look at each image in four mirrored views, where up means nothing"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the detections as COCO results (json)")


def run(args: argparse.Namespace) -> int:
    """Print the numbers. Returns 0.

    Raises:
        UserError: a number of processes below 0, no weights or folder of data there, or a file that cannot be written.
    """
    refuse_negative(args, "workers")
    refuse_missing(args.source)
    refuse_missing_folder(args.data)
    if args.out:
        output_file(args.out)

    from ..data.dataset import place_of
    from ..evaluation.coco_metric import evaluate
    from ..evaluation.flips import FlipTested
    from ..evaluation.records import finite_records
    from ..training.run_folder import write_json
    from ..zoo import load_trained

    trained = load_trained(args.source, args.imports)
    dataset = dataset_of(trained, args.data, args.split)
    print(f"{trained.path} on {place_of(dataset)} ({len(dataset)} images)")
    if args.flips:
        trained = replace(trained, model=FlipTested(trained.model).eval())
    records, not_finite = finite_records(detections_of(trained, dataset, args.workers))  # JSON has no NaN
    result = replace(evaluate(dataset, records, args.engine), not_finite=not_finite)
    print(result.table())
    print(f"\nAP by class\n{result.class_table()}")
    if args.out:
        write_json(args.out, records, indent=None)
        print(f"\n{len(records)} detections written to {args.out}")
    return 0
