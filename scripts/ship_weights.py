"""Put what a run has learned among the shipped weights, with its record.

``.venv/bin/python scripts/ship_weights.py runs/everyday`` writes ``data/weights/RECIPE.pt`` (averaged weights, half
precision) and ``data/weights/RECIPE.json``: recipe, machine and date of the start, AP by size and class on the
validation images, and the curve. A run that was stopped early says why: ``--ended "..."``. Of weights that a run began
with and that it replaces here, the record tells the numbers as ``before``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

from dyhead_lab import zoo
from dyhead_lab.errors import UserError
from dyhead_lab.evaluation.coco_metric import METRICS, detect_dataset, evaluate
from dyhead_lab.paths import WEIGHTS
from dyhead_lab.training.checkpoint import CHECKPOINT, RunLog, read, save_weights
from dyhead_lab.training.recipe import Recipe
from dyhead_lab.training.run_folder import LOG, RUN, WEIGHTS_FILE
from dyhead_lab.zoo import load_trained

STEP = 100  # iterations between two losses of the record
CURVE = ("AP", "AP50", "AP_small", "AP_medium", "AP_large")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--ended", help="why it was stopped before its last iteration")
    args = parser.parse_args()
    checkpoint = read(args.run / "last.pt", CHECKPOINT)
    recipe = zoo.get(checkpoint["recipe"])
    path = WEIGHTS / f"{recipe.name}.pt"
    if (args.run / WEIGHTS_FILE).exists():
        shutil.copy2(args.run / WEIGHTS_FILE, path)
    elif args.ended:
        save_averaged(path, recipe, checkpoint)
    else:
        raise UserError(f"{args.run} has not ended: continue it, or say why it was stopped with --ended")
    record = record_of(args.run, recipe, checkpoint["iteration"], args.ended or "as the recipe says")
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): {record['numbers']}")


def save_averaged(path: Path, recipe: Recipe, checkpoint: dict[str, Any]) -> None:
    """The averaged weights of a checkpoint, as a run writes them at its end."""
    model = recipe.architecture(len(checkpoint["categories"]))
    averaged = checkpoint["averaged"].items()
    model.load_state_dict({name.removeprefix("module."): value for name, value in averaged if name != "n_averaged"})
    origin = recipe.origin()
    save_weights(path, model, recipe.name, origin["settings"]["model"], checkpoint["categories"], origin)


def record_of(run: Path, recipe: Recipe, iteration: int, ended: str) -> dict[str, Any]:
    """What the weights that were just written come from and what they reach; evaluated here and now."""
    dataset = recipe.dataset("val")
    result = evaluate(dataset, detect_dataset(load_trained(recipe.name).model, dataset, progress=True))
    origin = json.loads((run / RUN).read_text(encoding="utf-8"))
    log = RunLog.entries(run / LOG)
    return {
        "recipe": recipe.name,
        "iterations_done": iteration,
        "iterations_of_the_recipe": recipe.iterations,
        "ended": ended,
        "data": f"{len(recipe.dataset('train'))} images to learn from, {len(dataset)} to evaluate on",
        "weights": "averaged, half precision",
        "evaluated": date.today().isoformat(),
        "started": {key: origin["starts"][0][key] for key in ("machine", "git")},
        "other_settings": other_settings(recipe, origin["settings"]),
        **before(recipe, origin),
        "numbers": {name: round(result.numbers[name], 4) for name in METRICS},
        "per_class": {name: round(value, 4) for name, value in result.per_class.items()},
        "curve": [
            {"iteration": entry["iteration"], **{name: round(entry[name], 4) for name in CURVE}}
            for entry in log
            if "AP" in entry
        ],
        "loss": [
            {"iteration": entry["iteration"], "loss": round(entry["loss"], 3)}
            for entry in log
            if "loss" in entry and entry["iteration"] % STEP == 0
        ],
    }


def other_settings(recipe: Recipe, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that are not those of its recipe."""
    own = json.loads(json.dumps(recipe.settings()))
    return {name: value for name, value in settings.items() if own.get(name) != value}


def before(recipe: Recipe, origin: dict[str, Any]) -> dict[str, Any]:
    """What is known of the weights that the run began with, where these are the shipped ones that it replaces."""
    path = WEIGHTS / f"{recipe.name}.json"
    if Path(origin.get("start") or "").stem != recipe.name or not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    return {"before": {key: record[key] for key in ("iterations_done", "started", "numbers")}}


if __name__ == "__main__":
    main()
