"""``dyhead-lab bench ops``: measure the operators and their peers on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..errors import UserError
from ..ops.bench import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["ops"], help="ops: deform_conv2d and ms_deform_attn")
    parser.add_argument("--quick", action="store_true", help="small problems, few rounds; checks that all runs")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench_ops.json"),
        metavar="FILE",
        help="where the tables are stored (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    if args.out.is_dir():
        raise UserError(f"--out {args.out} is a folder; name a file, such as {args.out / 'bench_ops.json'}")
    tables = {"cpu": table.measured("cpu", args.quick)}
    if torch.cuda.is_available():
        print()
        tables["cuda"] = table.measured("cuda", args.quick)
    else:
        print(f"\ncuda: {table.NOT_MEASURED}, torch sees no GPU here")
    table.store(tables, args.out)
    print(f"stored in {args.out}")
    return 0
