"""``dyhead-lab train RECIPE``: train a recipe of the zoo or of your own, or continue a run that was stopped."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..recipe_names import refuse_unknown
from .evaluated import add_import_argument, refuse_missing, refuse_missing_folder, refuse_negative

if TYPE_CHECKING:
    from ..training.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", help="name of a recipe in the zoo, such as quickstart, or a Python file that defines RECIPE"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="COCO-format folder with splits train and val")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="WEIGHTS",
        help="fine-tune: start from these weights, a path or a name of dyhead-lab weights; layers that depend on the "
        "classes start anew where these are others. A smaller rate often helps: --set lr=...",
    )
    add_import_argument(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/RECIPE)")
    parser.add_argument("--fresh", action="store_true", help="start anew: what a run left in the folder is removed")
    parser.add_argument(
        "--fraction", metavar="SHARE", help="train on a fixed share of the images, such as 0.1; evaluate on all"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read images, for each that trains; changes no result (default: as many as cores are free)",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="every stage on a few images, from random weights; says that all of it works. Without --data, and where "
        "the recipe's own data is not here, on synthetic images. "
        "Always starts anew, and leaves a folder with another run alone unless --fresh is given",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting for this run, such as iterations=500 or model.dyhead.scale=false; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Train to the end. Returns 0, or 130 if the run was stopped: it is saved, and the message says how to go on."""
    refuse_unknown(args.recipe)
    changes = settings(args.set)
    refuse_missing_folder(args.data)
    if args.start is not None:
        refuse_missing(args.start)
        if args.smoke:
            raise UserError("--from: a smoke run starts from random weights; leave one of them out")

    from ..training.distributed import one_voice

    with one_voice():
        return _run(args, changes)


def _run(args: argparse.Namespace, changes: dict[str, str]) -> int:
    from .. import zoo
    from ..training import train
    from ..training.interrupt import Interrupted
    from ..training.loader import WORKERS
    from ..training.observer import ProgressBar
    from ..training.smoke import smoke_run

    if args.workers is not None:
        refuse_negative(args, "workers")
        os.environ[WORKERS] = str(args.workers)
    recipe = zoo.get(args.recipe)
    out = args.out or Path("runs") / (f"{recipe.name}_smoke" if args.smoke else recipe.name)
    if args.fraction is not None:
        changes["fraction"] = args.fraction
    print(f"{recipe.name}: {recipe.summary}" + (f" (from {recipe.file})" if recipe.file else ""))
    print(f"expect: {expectation(recipe, args.data, changed=args.smoke or bool(changes))}\nrun folder: {out}")
    if args.smoke:
        smoke_run(recipe, args.data, out, changes, fresh=args.fresh)
        print("every stage works; the numbers of a smoke run mean nothing")
        return 0
    try:
        start = None if args.start is None else zoo.load_trained(args.start, args.imports)
        result = train(
            recipe, data=args.data, out=out, fresh=args.fresh, changes=changes, start=start, observer=ProgressBar()
        )
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 130
    print(result.table())
    print(f"weights: {out / 'weights.pt'}   curves: tensorboard --logdir {out / 'tensorboard'}")
    return 0


def expectation(recipe: Recipe, data: Path | None, changed: bool) -> str:
    """What the run should reach; the figures of a recipe hold for its own data and settings."""
    if data is not None:
        return f"no figure for {data}; those of the recipe hold for its own data"
    if changed and recipe.expected:
        return f"no figure for these settings; with its own: {recipe.expected}"
    return recipe.expected or "no figure yet"


def settings(pairs: list[str]) -> dict[str, str]:
    """``["lr=0.1"]`` -> ``{"lr": "0.1"}``.

    Raises:
        UserError: a pair without "=".
    """
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair}: expected KEY=VALUE")
        changes[key] = value
    return changes
