"""``dyhead-lab bench``: measure the operators, a Dynamic Head, detecting, the loader or a training on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..published.catalogue import refuse_unknown_source
from .evaluated import refuse_missing, refuse_missing_folder
from .output_paths import output_file

if TYPE_CHECKING:
    from ..data.dataset import DetectionData

COCO_SIZE = (800, 1333)
#: On a processor a step at COCO's size takes seconds an image. This size shows that everything runs.
SMALL_SIZE = (128, 224)
SYNTHETIC_IMAGES = 32
#: Of an image that detectors see in ``bench detect``: as most of COCO's are resized.
DETECT_SIZE = (800, 1066)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(devices=None)
    kinds = parser.add_subparsers(metavar="WHAT", required=True)

    ops = kinds.add_parser("ops", help="deform_conv2d and ms_deform_attn beside their peers")
    ops.set_defaults(measure=_ops)

    cpu = kinds.add_parser("cpu", help="what each hand-written part of the operators' CPU path buys")
    cpu.set_defaults(measure=_cpu, devices=("cpu",))
    for kind in (ops, cpu):
        kind.add_argument("--quick", action="store_true", help="small problems, few rounds; checks that all runs")

    dyhead = kinds.add_parser("dyhead", help="a Dynamic Head by itself, in each precision")
    dyhead.add_argument("--blocks", type=int, default=6, metavar="N", help="of the head (default: %(default)s)")
    dyhead.add_argument("--batch", type=int, default=2, metavar="N", help="images at once (default: %(default)s)")
    dyhead.set_defaults(measure=_dyhead)

    detect = kinds.add_parser("detect", help="one image on a CPU, beside transformers on the same weights")
    detect.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="NAME",
        help="paths, or names of dyhead-lab weights (default: a Deformable DETR on ResNet-50 with random weights)",
    )
    detect.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        default=DETECT_SIZE,
        help="that it is seen in (default: 800 1066)",
    )
    detect.add_argument("--rounds", type=int, default=5, metavar="N", help="timed runs of each (default: %(default)s)")
    detect.set_defaults(measure=_detect, devices=("cpu",))

    loader = kinds.add_parser("loader", help="images per second of each stage of loading, and of the training")
    loader.add_argument("--images", type=int, default=64, metavar="N", help="for each stage (default: %(default)s)")
    loader.set_defaults(measure=_loader)

    train = kinds.add_parser("train", help="images per second, memory and how busy the GPU is")
    train.add_argument("--steps", type=int, default=10, metavar="N", help="to take the time of (default: %(default)s)")
    train.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="of synthetic images (default: 800 1333; small on a CPU)"
    )
    train.set_defaults(measure=_train)
    dyhead.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), default=COCO_SIZE, help="of the images (default: 800 1333)"
    )

    for kind in (loader, train):
        kind.add_argument("recipe", help="a recipe in the zoo, a Python file that defines RECIPE, or weights with one")
        kind.add_argument("--batch", type=int, metavar="N", help="images a step (default: the recipe's; 2 on a CPU)")
        source = kind.add_mutually_exclusive_group()
        source.add_argument("--data", type=Path, metavar="DIR", help="COCO-format folder with a split train")
        source.add_argument("--synthetic-coco", action="store_true", help="made-up images of COCO's sizes")
    files = {"ops": ops, "cpu_parts": cpu, "dyhead": dyhead, "detect": detect, "loader": loader, "train": train}
    for name, kind in files.items():
        file = Path(f"runs/bench_{name}.json")
        kind.add_argument("--out", type=Path, default=file, metavar="FILE", help="results (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Measure, print, and store by device. Returns 0."""
    _refuse(args)

    from ..ops.bench import table

    table.store(args.measure(args), args.out, args.devices or table.DEVICES)
    print(f"stored in {args.out}")
    return 0


def _refuse(args: argparse.Namespace) -> None:
    """Refuse numbers that measure nothing, and a file that could not be written once all is measured.

    Raises:
        UserError: one of them is given.
    """
    for name in ("blocks", "batch", "images", "steps", "size", "rounds"):
        given = getattr(args, name, None)
        numbers = given if isinstance(given, Sequence) else [1 if given is None else given]
        if min(numbers) < 1:
            raise UserError(f"--{name}: expected at least 1, got {' '.join(map(str, numbers))}")
    output_file(args.out)
    for source in getattr(args, "weights", ()):
        refuse_missing(source)
    if getattr(args, "recipe", None):
        refuse_unknown_source(args.recipe)
    refuse_missing_folder(getattr(args, "data", None))
    try:
        stored = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"--out {args.out} cannot hold results: {error}") from error
    if not isinstance(stored, dict):
        raise UserError(f"--out {args.out} holds something else than results of a benchmark; name another file")


Measured = dict[str, Any]  # device -> what was measured there


def _ops(args: argparse.Namespace) -> Measured:
    import torch

    from ..ops.bench import table

    tables = {"cpu": table.measured("cpu", args.quick)}
    if torch.cuda.is_available():
        print()
        tables["cuda"] = table.measured("cuda", args.quick)
    else:
        print(f"\ncuda: {table.NOT_MEASURED}, torch sees no GPU here")
    return tables


def _cpu(args: argparse.Namespace) -> Measured:
    from ..ops.bench import cpu_parts  # here, because it imports Numba, which takes a second

    return {"cpu": cpu_parts.measured(args.quick)}


def _dyhead(args: argparse.Namespace) -> Measured:
    import torch

    from ..evaluation.dyhead_speed import milliseconds

    size = (args.size[0], args.size[1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    times = milliseconds(device, args.blocks, args.batch, size)
    numbers = {"blocks": args.blocks, "images": args.batch, "image size": f"{size[0]} x {size[1]}"}
    return _reported(numbers | {f"{name}, ms": round(time, 3) for name, time in times.items()})


def _detect(args: argparse.Namespace) -> Measured:
    from ..evaluation import detect_speed
    from ..ops.bench.measure import machine
    from ..zoo import load_trained

    size = (args.size[0], args.size[1])
    measured: dict[str, Any] = {"machine": machine("cpu"), "rows": []}
    print(", ".join(f"{key} {value}" for key, value in measured["machine"].items()))
    print(detect_speed.HEADING)

    def measure(source: str | Path, name: str) -> None:
        trained = load_trained(source)
        rows = detect_speed.rows_of(name, trained.model, trained.path.parent, size, args.rounds, print)
        measured["rows"] += rows

    for source in args.weights:
        measure(source, source)
    if not args.weights:
        with detect_speed.random_weights() as folder:
            measure(folder, detect_speed.RANDOM)
    print("faster: than the last line of the same weights and precision; scores and boxes: how far at most from the")
    print("detector as it is in float32, as shares of 1 and of the image")
    return {"cpu": measured}


def _loader(args: argparse.Namespace) -> Measured:
    from ..training.throughput import loader_rates, step_rate

    recipe = _recipe(args)
    with _train_set(args) as dataset, TemporaryDirectory() as folder:
        rates = loader_rates(recipe, dataset, args.images)
        rates["training, with its loader"] = step_rate(recipe, dataset, Path(folder), steps=2).images_per_second
    numbers = {f"{stage}, images/s": round(rate, 1) for stage, rate in rates.items()}
    return _reported({"recipe": recipe.name, "images a step": recipe.batch_size, **numbers})


def _train(args: argparse.Namespace) -> Measured:
    import torch

    from ..ops.bench.table import NOT_MEASURED
    from ..training.throughput import step_rate

    recipe = _recipe(args)
    size = None
    if args.synthetic_coco:
        size = tuple(args.size or (COCO_SIZE if torch.cuda.is_available() else SMALL_SIZE))
    elif args.size:
        raise UserError("--size: expected together with --synthetic-coco, whose images have no size of their own")
    with _train_set(args) as dataset, TemporaryDirectory() as folder:
        rate = step_rate(recipe, dataset, Path(folder), size, args.steps)
    numbers = {
        "recipe": args.recipe,
        "images a step": recipe.batch_size,
        "image size": f"{size[0]} x {size[1]}" if size else "the data set's",
        "images/s": round(rate.images_per_second, 2),
        "memory": str(rate.memory),
        "GPU busy": NOT_MEASURED if rate.busy is None else f"{rate.busy:.0%}",
    }
    if not torch.cuda.is_available():
        print("on a processor this says that everything runs, no more")
    return _reported(numbers)


def _recipe(args: argparse.Namespace):
    import torch

    from ..zoo.meant import recipe_meant

    recipe = recipe_meant(args.recipe)
    batch = args.batch or (recipe.batch_size if torch.cuda.is_available() else 2)
    return replace(recipe, batch_size=batch, accumulate=1)


@contextmanager
def _train_set(args: argparse.Namespace) -> Iterator[DetectionData]:
    """The training images: made up, of a folder, or the recipe's own."""
    from ..data.coco import coco_folder
    from ..data.synthetic_coco import write_synthetic_coco
    from ..zoo.meant import recipe_meant

    if args.synthetic_coco:
        with TemporaryDirectory() as folder:
            write_synthetic_coco(Path(folder), SYNTHETIC_IMAGES)
            yield coco_folder(folder)
    else:
        yield coco_folder(args.data, "train") if args.data else recipe_meant(args.recipe).data("train")


def _reported(numbers: dict[str, Any]) -> Measured:
    """Print what was measured, and the machine; return both, by device."""
    import torch

    from ..ops.bench.measure import machine
    from ..ops.bench.table import NOT_MEASURED

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {**numbers, "machine": machine(device)}
    for name, value in found.items():
        print(f"{name}: {json.dumps(value) if isinstance(value, dict) else value}")
    if device == "cpu":
        print(f"cuda: {NOT_MEASURED}, torch sees no GPU here")
    return {device: found}
