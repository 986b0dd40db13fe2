"""Recipes that have been renamed: what was made under the old name can still be used."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from dyhead_lab import recipe_names, zoo
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.detectors.one_stage.frozen_atss import FrozenPyramid
from dyhead_lab.experiments.ablation import ABLATION
from dyhead_lab.experiments.experiment import Job, finished
from dyhead_lab.training.engine import Engine
from dyhead_lab.training.train import train
from dyhead_lab.zoo.registry import FORMER_NAMES, RECIPES

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK = {"iterations": 2, "batch_size": 2, "warmup": 1, "evaluate_every": 2, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    for split, seed in (("train", 1), ("val", 2)):
        write_shapes(folder / split, images=2, seed=seed, size=64)
    return folder


def test_names_that_are_known_without_torch_are_those_of_the_registry():
    assert tuple(RECIPES) == recipe_names.NAMES
    for name in (*RECIPES, *FORMER_NAMES, __file__, "elsewhere/mine"):
        recipe_names.refuse_unknown(name)


def test_what_is_listed_without_torch_is_what_the_zoo_and_the_experiments_say():
    path = ROOT / "scripts" / "write_listing.py"
    spec = importlib.util.spec_from_file_location("write_listing", path)
    assert spec and spec.loader
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    stands = recipe_names.LISTING.read_text(encoding="utf-8").splitlines()
    assert stands == writer.lines(), f"run: python scripts/{path.name}"
    assert all(len(line.split("\t")) == 5 for line in stands)


def test_every_former_name_stands_for_a_recipe_and_is_no_longer_listed():
    assert set(FORMER_NAMES.values()) <= set(RECIPES) and not set(FORMER_NAMES) & set(zoo.names())
    recipe = zoo.get("resting_atss_shapes")
    assert recipe.name == "resting_atss_shapes"
    assert recipe.settings() == zoo.get("frozen_atss_shapes").settings()


def test_weights_that_carry_the_former_name_load(tmp_path):
    recipe = zoo.get("frozen_atss_shapes").with_changes({"model.dyhead": {"task": False}})
    content = {
        "format": "dyhead_lab weights 1",
        "recipe": "resting_atss_shapes",
        "options": recipe.model,
        "categories": ["a", "b", "c"],
        "state_dict": recipe.build(3).state_dict(),
    }
    torch.save(content, tmp_path / "weights.pt")
    model = zoo.load_trained(tmp_path).model
    assert isinstance(model.backbone, FrozenPyramid) and model.backbone.neck.blocks[0].task is None


def test_a_run_that_was_started_under_the_former_name_goes_on(tmp_path, pictures, monkeypatch):
    out = tmp_path / "run"
    recipe = zoo.get("resting_atss_shapes").with_changes(QUICK)
    engine = Engine(recipe, coco_folder(pictures, "train"), coco_folder(pictures, "val"), out)
    engine.model.train()
    engine.step(*next(iter(engine.batches())))
    engine.save()
    done = []
    step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda self, *batch: done.append(self.iteration) or step(self, *batch))
    train(recipe, data=str(pictures), out=out, progress=False)
    assert done == [1]
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["recipe"] == "resting_atss_shapes"
    assert isinstance(zoo.load_trained(out).model.backbone, FrozenPyramid)


def test_finished_rows_of_an_experiment_are_not_measured_again(tmp_path):
    row = ABLATION.rows["all off"]
    job = Job(0, tmp_path, None, {})
    settings = json.loads(json.dumps(row.settings(job), default=repr))
    assert settings["recipe"] == "frozen_atss_shapes"
    kept = {"settings": {**settings, "recipe": "resting_atss_shapes"}, "machine": {}, "numbers": {"AP": 0.5}}
    (tmp_path / "result.json").write_text(json.dumps(kept), encoding="utf-8")
    assert finished(row, job) == ({"AP": 0.5}, {})
