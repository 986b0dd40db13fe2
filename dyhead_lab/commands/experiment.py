"""``dyhead-lab experiment NAME``: train what an experiment compares, or show what was recorded of it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..recipe_names import refuse_unknown_experiment
from .train import settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        help="an experiment, such as ablation (`dyhead-lab zoo` lists them), or a Python file that defines EXPERIMENT",
    )
    parser.add_argument("--show", action="store_true", help="print what the project has recorded; nothing is trained")
    parser.add_argument(
        "--data", metavar="NAME_OR_DIR", help="shapes, coco or a COCO-format folder (default: the experiment's own)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: the experiment's own")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the runs (default: runs/experiments/NAME); goes on there"
    )
    parser.add_argument(
        "--known",
        type=Path,
        metavar="FILE",
        help="NAME.json of runs that were measured elsewhere: they are taken over and not repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting for every run, such as iterations=50; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Measure what is missing and print the table. Returns 0."""
    refuse_unknown_experiment(args.name)
    if args.show and (args.data or args.seeds or args.out or args.known or args.set):
        raise UserError("--show prints what the project recorded; it takes no other option")
    changes = settings(args.set)

    from ..experiments.catalogue import get_experiment, recorded
    from ..experiments.experiment import run_experiment
    from ..experiments.record import Record
    from .output_paths import output_folder

    experiment = get_experiment(args.name)
    if args.show:
        print(recorded(args.name).table())
        return 0
    out = args.out or Path("runs/experiments") / experiment.name
    output_folder(out)
    known = Record.load(args.known) if args.known else None
    seeds = sorted({*(args.seeds or experiment.seeds), *(known.measured_seeds() if known else ())})
    command = _command(args, seeds if seeds != sorted(experiment.seeds) else ())
    record = run_experiment(experiment, out, args.seeds, args.data, changes, command, known=known)
    print(record.table())
    print(f"stored in {out / (experiment.name + '.json')}")
    return 0


def _command(args: argparse.Namespace, seeds: Sequence[int]) -> str:
    """What measures the same again, with these seeds if there are any, else with the experiment's own."""
    words = ["dyhead-lab", "experiment", args.name]
    words += ["--data", args.data] if args.data else []
    words += ["--seeds", *map(str, seeds)] if seeds else []
    words += [word for pair in args.set for word in ("--set", pair)]
    return shlex.join(words)
