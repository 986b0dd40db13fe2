"""Chapter 13: the loop of its cells gives the engine's losses and weights to the last bit, also after a stop."""

from dataclasses import replace

import pytest
import torch

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_lab import zoo
from dyhead_lab.training.checkpoint import CHECKPOINT, read
from dyhead_lab.training.engine import Engine
from dyhead_lab.training.loader import training_batches

from .definitions import definitions

DATA = DrawnShapes(12, seed=1, size=64)
CLASSES = len(DATA.categories)
SHORT = {"iterations": 6, "warmup": 2, "batch_size": 4, "precision": "fp32"}


def cosine():
    """Averaged weights, a batch in two parts, a rate that rises and falls, clipping at 5."""
    return zoo.get("quickstart").with_changes({**SHORT, "accumulate": 2, "model.image_size": 64})


def published():
    """The schedule of Deformable DETR: no warm-up, a drop, clipping at 0.1, tenths; and dropout, which is drawn."""
    recipe = zoo.get("deformable_detr_tiny").with_changes({**SHORT, "warmup": 0, "lr": 2e-4, "ema_decay": 0.0})
    recipe = recipe.with_changes({"backbone_lr": 0.1, "clip_norm": 0.1, "decay_norms": True, "accumulate": 2})
    recipe = recipe.with_changes({"schedule": "step", "milestones": (4,), "model.dropout": 0.1})
    return replace(recipe, model={**recipe.model, "min_size": 64, "max_size": 96})


each_schedule = pytest.mark.parametrize("recipe", [cosine(), published()], ids=["cosine", "published"])


@pytest.fixture(scope="module")
def cells():
    return definitions("13_training_on_coco")


def steps(run, recipe, until):
    losses = []
    for images, targets in training_batches(recipe, DATA, start=run.steps):
        if run.steps == until:
            return losses
        losses.append(run.step(images, targets))


@each_schedule
def test_losses_and_averaged_weights_are_the_engines_to_the_last_bit(recipe, cells, tmp_path):
    run = cells["Run"](recipe, CLASSES)
    by_hand = steps(run, recipe, recipe.iterations)
    engine = Engine(recipe, DATA, DATA, tmp_path)
    engine.model.train()
    batches = iter(engine.batches())
    by_engine = [engine.step(*next(batches))["loss"] for _ in range(recipe.iterations)]
    assert by_hand == by_engine
    for own, theirs in ((run.model, engine.model), (run.average, engine.averaged.module)):
        for (name, a), (_, b) in zip(own.state_dict().items(), theirs.state_dict().items(), strict=True):
            assert torch.equal(a, b), name


@each_schedule
def test_a_run_that_is_stopped_ends_with_the_same_weights(recipe, cells, tmp_path):
    straight, stopped = (cells["Run"](recipe, CLASSES) for _ in range(2))
    losses = steps(straight, recipe, 6)
    steps(stopped, recipe, 3)
    cells["save"](stopped, tmp_path / "half.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["half.pt"], "the partial file was renamed"
    again = cells["resumed"](recipe, CLASSES, tmp_path / "half.pt")
    assert steps(again, recipe, 6) == losses[3:]
    for part in ("model", "average"):
        pairs = zip(getattr(again, part).parameters(), getattr(straight, part).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), part


def test_without_the_moments_a_run_does_not_continue(cells, tmp_path):
    recipe = cosine()
    straight, stopped = (cells["Run"](recipe, CLASSES) for _ in range(2))
    losses = steps(straight, recipe, 6)
    steps(stopped, recipe, 3)
    cells["save"](stopped, tmp_path / "half.pt")
    state = torch.load(tmp_path / "half.pt", weights_only=True)
    state["optimiser"]["state"] = {}
    torch.save(state, tmp_path / "half.pt")
    again = cells["resumed"](recipe, CLASSES, tmp_path / "half.pt")
    resumed = steps(again, recipe, 6)
    assert resumed[0] == losses[3] and resumed[1:] != losses[4:]


def test_the_watcher_of_a_photograph_sees_the_averaged_weights(cells, tmp_path):
    recipe = published()
    engine = Engine(recipe, DATA, DATA, tmp_path)
    engine.model.train()
    batches = iter(engine.batches())
    for _ in range(2):
        engine.step(*next(batches))
    engine.save()
    watcher = cells["FixedPhoto"](recipe, DATA.categories, engine.checkpoint_path, DATA[0][0])
    watcher.note({"iteration": 2, "loss": 1.0})
    assert watcher.seen == [], "only evaluations are watched"
    watcher.note({"iteration": 2, "AP": 0.0})
    assert len(watcher.seen) == 1 and watcher.seen[0].startswith("step 2: ")
    kept = read(engine.checkpoint_path, CHECKPOINT)["averaged"]
    for name, value in watcher.model.state_dict().items():
        assert torch.equal(value, kept[f"module.{name}"]), name
