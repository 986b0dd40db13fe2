"""``dyhead-lab efficiency``: parameters, multiply-adds and time of a detector, by part."""

from __future__ import annotations

import argparse
import re

from ..errors import UserError
from ..published.catalogue import refuse_unknown_source

SPARSE_DETR = "sparse_detr"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which detector, and on what image."""
    parser.add_argument(
        "recipe",
        metavar="RECIPE_OR_WEIGHTS",
        help="recipe in the zoo, Python file that defines RECIPE, a path or a name of dyhead-lab weights; or "
        f"{SPARSE_DETR} to compare values of --rho",
    )
    parser.add_argument(
        "--size", metavar="HxW", help=f"image in pixels (default: 800x1333; {SPARSE_DETR}: 800x1066, as published)"
    )
    parser.add_argument(
        "--rho", type=float, nargs="+", metavar="RHO", help=f"{SPARSE_DETR} only: shares of refined tokens"
    )
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes (default: 80; weights: their own)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="timed runs (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Print the table. Returns 0."""
    if args.recipe != SPARSE_DETR:
        refuse_unknown_source(args.recipe)
    for name in ("runs", "classes"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name}: expected at least 1, got {getattr(args, name)}")
    given = None if args.size is None else _size(args.size)
    if args.rho and args.recipe != SPARSE_DETR:
        raise UserError(f"--rho: only {SPARSE_DETR} has it; {args.recipe} is counted as it is")

    import torch

    from ..evaluation import sparse_efficiency
    from ..evaluation.efficiency import dyhead_levels, efficiency, offset_fit_macs
    from ..hardware import computing_device
    from ..zoo.meant import detector_of

    device = computing_device()
    if args.recipe == SPARSE_DETR:
        rhos = args.rho or [0.1, 0.2, 0.3, 0.5, 1.0]
        if not all(0 < rho <= 1 for rho in rhos):
            raise UserError(f"--rho: expected numbers in (0, 1], got {' '.join(map(str, rhos))}")
        size = given or sparse_efficiency.SIZE
        print(f"{SPARSE_DETR}, ResNet-50, {torch.get_num_threads()} CPU threads, encoder timed on {device}")
        print(sparse_efficiency.table(rhos, size, args.runs, device))
        return 0
    size = given or (800, 1333)
    model, classes = detector_of(args.recipe, args.classes)
    model = model.to(device)
    print(f"{args.recipe}, {classes} classes, {torch.get_num_threads()} CPU threads")
    print(efficiency(model, size, args.runs).table())
    found = dyhead_levels(model, size)
    if found is not None and found[0].form == "released":
        head, sizes = found
        print(f"\none Dynamic Head block by offset_fit, on levels {', '.join(f'{h}x{w}' for h, w in sizes)}")
        for offset_fit, cost in offset_fit_macs(head.channels, sizes).items():
            print(f"{offset_fit:<20}{cost / 1e9:>10.2f} GMAC")
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UserError(f"--size: expected HEIGHTxWIDTH, got {text!r}")
    return int(match[1]), int(match[2])
