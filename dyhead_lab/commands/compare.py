"""``dyhead-lab compare RUN...``: runs side by side, as a table and as curves."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

from ..errors import UserError
from .output_paths import output_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/comparison.svg"), metavar="FILE", help="curves: .svg or .png"
    )


def run(args: argparse.Namespace) -> int:
    """Print the table, what differs between the settings, and write the curves. Returns 0.

    Raises:
        UserError: a folder holds no run or is given twice, or the picture cannot be drawn or written.
    """
    if args.out.suffix not in (".svg", ".png"):
        raise UserError(f"--out {args.out}: expected a name that ends in .svg or .png")
    for folder in args.runs:
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a run folder, found none")
    output_file(args.out)

    from ..training.checkpoint import write_whole
    from ..training.run_folder import RUN
    from ..views.curves import comparison_figure
    from ..views.glyphs import save_figure

    names = distinct_names(args.runs)
    logs = {name: _log(folder) for name, folder in zip(names, args.runs, strict=True)}
    print(table(logs))
    origins = {name: folder / RUN for name, folder in zip(names, args.runs, strict=True)}
    settings = {name: _settings(path) for name, path in origins.items() if path.exists()}
    for line in differences(settings):
        print(line)
    try:
        figure = comparison_figure(logs)
    except ValueError as error:
        raise UserError(
            f"cannot draw {args.out}: expected losses or evaluations in the log of {' or '.join(map(str, args.runs))}, "
            "found none; train further first"
        ) from error
    drawn = io.BytesIO()
    save_figure(figure, drawn, format=args.out.suffix[1:], transparent=True)
    write_whole(args.out, drawn.getvalue())
    print(f"curves: {args.out}")
    return 0


def distinct_names(runs: list[Path]) -> list[str]:
    """The folders' own names, or the whole paths where two are the same.

    Raises:
        UserError: a folder is given twice.
    """
    whole = [folder.resolve() for folder in runs]
    for place, folder in enumerate(runs):
        if whole[place] in whole[:place]:
            raise UserError(f"{folder}: expected each run once, got it twice")
    names = [folder.name for folder in whole]
    return names if len(set(names)) == len(names) else [str(folder) for folder in runs]


def _settings(run: Path) -> dict[str, Any]:
    """What decides the result: the settings and, where the run says so, detector, start and data."""
    from ..training.run_folder import read_json, read_part

    settings, origin = read_part(run, "settings"), read_json(run)
    data = {f"{split} data": _place(part) for split, part in (origin.get("data") or {}).items()}
    return {**{name: origin.get(name) for name in ("detector", "dataset", "start")}, **data, **settings}


def _place(data: dict[str, Any]) -> str:
    """Where a run found a split of its data, and how many images that holds."""
    return f"{data.get('annotations') or data.get('class')} ({data.get('images')} images)"


def _log(folder: Path) -> list[dict[str, Any]]:
    from ..training.checkpoint import RunLog
    from ..training.run_folder import LOG

    entries = RunLog.entries(folder / LOG)
    if not entries:
        raise UserError(f"{folder}: expected a run folder with {LOG}, found no line of a log")
    return entries


def table(logs: dict[str, list[dict[str, Any]]]) -> str:
    """A line for each run: its last iteration, its last evaluation, and images per second over the run."""
    from ..evaluation.coco_metric import METRICS, UNDEFINED, as_text

    shown = list(METRICS)[:6]
    width = max(len(name) for name in logs)
    lines = [f"{'run':<{width}} {'iteration':>9} {'images/s':>9} " + " ".join(f"{name:>9}" for name in shown)]
    for name, entries in logs.items():
        evaluated: dict[str, Any] = next((entry for entry in reversed(entries) if "AP" in entry), {})
        speeds = [entry["images_per_second"] for entry in entries if "images_per_second" in entry]
        speed = f"{sum(speeds) / len(speeds):9.1f}" if speeds else f"{'-':>9}"
        numbers = [evaluated.get(metric, UNDEFINED) for metric in shown]
        words = " ".join(f"{as_text(number):>9}" for number in numbers)
        lines.append(f"{name:<{width}} {entries[-1]['iteration']:9d} {speed} {words}")
    return "\n".join(lines)


def differences(settings: dict[str, dict[str, Any]]) -> list[str]:
    """The settings in which the runs differ, a line for each."""
    keys = sorted({key for values in settings.values() for key in values})
    lines = []
    for key in keys:
        values = {name: run.get(key) for name, run in settings.items()}
        if len({repr(value) for value in values.values()}) > 1:
            lines.append(f"{key}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return lines
