"""``dyhead-lab eval``: the 12 COCO numbers of a trained model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from ..data.coco import CocoDetection, coco_folder, find_splits
from ..errors import UserError
from ..evaluation.coco import detect_dataset, evaluate
from ..zoo import Trained, load_trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to judge, and on which images."""
    parser.add_argument("source", metavar="RUN_OR_WEIGHTS", help="run folder, weights file or shipped weights")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder in COCO format (default: the data of the recipe)"
    )
    parser.add_argument("--split", help="default: val, or the only split of --data")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the detections as COCO results (json)")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that read images (default: none)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the numbers. Returns 0."""
    trained = load_trained(args.source)
    dataset = _dataset(trained, args.data, args.split)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{trained.path} on {dataset.annotations} ({len(dataset)} images)")
    records = detect_dataset(
        trained.model.to(device),
        dataset,
        device=device,
        autocast=trained.recipe.autocast_dtype(device),
        workers=args.workers,
        progress=True,
    )
    result = evaluate(dataset, records)
    print(result.table())
    print(f"\nAP by class\n{result.class_table()}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(records), encoding="utf-8")
        print(f"\n{len(records)} detections written to {args.out}")
    return 0


def _dataset(trained: Trained, folder: Path | None, split: str | None) -> CocoDetection:
    """The images to judge on; refuses classes that the model does not know."""
    if folder is not None:
        only_one = len(find_splits(folder)) == 1
        dataset = coco_folder(folder, split or (None if only_one else "val"))
    elif split in (None, "train", "val"):
        dataset = trained.recipe.data(split or "val")
    else:
        raise UserError(f"recipe {trained.recipe.name} has the splits train and val, not {split!r}")
    if dataset.categories != trained.categories:
        raise UserError(
            f"{trained.path} knows the classes {', '.join(trained.categories)}; {dataset.annotations} has "
            f"{', '.join(dataset.categories)}. Name the right data with --data"
        )
    return dataset
