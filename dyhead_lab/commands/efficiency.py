"""``dyhead-lab efficiency``: parameters, multiply-adds and time of a recipe's detector, by part."""

from __future__ import annotations

import argparse
import re

import torch

from ..errors import UserError
from ..evaluation.efficiency import dyhead_levels, efficiency, offset_fit_macs
from ..zoo import get


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which detector, and on what image."""
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe in the zoo")
    parser.add_argument("--size", default="800x1333", metavar="HxW", help="image in pixels (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=80, metavar="N", help="number of classes (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="timed runs (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Print the table. Returns 0."""
    match = re.fullmatch(r"(\d+)x(\d+)", args.size)
    if match is None:
        raise UserError(f"--size: expected HEIGHTxWIDTH, got {args.size!r}")
    if args.runs < 1:
        raise UserError(f"--runs: expected at least 1, got {args.runs}")
    size = int(match[1]), int(match[2])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = get(args.recipe).build(args.classes).to(device)
    print(f"{args.recipe}, {args.classes} classes, {torch.get_num_threads()} CPU threads")
    print(efficiency(model, size, args.runs).table())
    found = dyhead_levels(model, size)
    if found is not None and found[0].form == "released":
        head, sizes = found
        print(f"\none Dynamic Head block by offset_fit, on levels {', '.join(f'{h}x{w}' for h, w in sizes)}")
        for offset_fit, cost in offset_fit_macs(head.channels, sizes).items():
            print(f"{offset_fit:<20}{cost / 1e9:>10.2f} GMAC")
    return 0
