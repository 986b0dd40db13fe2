"""Training: a run learns, leaves its files, continues exactly where it was killed, and refuses what it must."""

import json

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.errors import UserError
from dyhead_lab.training import train
from dyhead_lab.training.checkpoint import CHECKPOINT, WEIGHTS, read
from dyhead_lab.training.engine import Engine

TINY = {
    "iterations": 6,
    "batch_size": 2,
    "checkpoint_every": 2,
    "warmup": 2,
    "precision": "fp32",
    "model.image_size": 64,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "train", images=6, seed=1, size=64)
    write_shapes(folder / "val", images=3, seed=2, size=64)
    return folder


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    result = train(zoo.get("quickstart"), data=pictures, out=out, progress=False, changes=TINY)
    return out, result


def engine(pictures, out, **changes):
    recipe = zoo.get("quickstart").with_changes({**TINY, **changes})
    return Engine(recipe, coco_folder(pictures, "train"), coco_folder(pictures, "val"), out)


def test_a_run_leaves_its_files(finished):
    out, result = finished
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert entries[-1]["iteration"] == 6 and entries[-1]["AP"] == result["AP"]
    assert read(out / "last.pt", CHECKPOINT)["iteration"] == 6
    state = read(out / "weights.pt", WEIGHTS)["state_dict"]
    assert all(v.dtype == torch.float16 for v in state.values() if v.is_floating_point())
    assert any((out / "tensorboard").iterdir())


def test_kept_weights_are_those_that_were_evaluated(finished, pictures):
    from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate

    out, result = finished
    trained = zoo.load_trained(out)
    val = coco_folder(pictures, "val")
    again = evaluate(val, detect_dataset(trained.model, val, batch_size=16))
    assert again.numbers == result.numbers
    assert trained.categories == val.categories and trained.recipe.model["image_size"] == 64


def test_a_stopped_run_ends_with_the_same_weights(finished, pictures, tmp_path):
    """Stopped after iteration 3, it goes back to the checkpoint at 2 and repeats 3: bit for bit, on one machine."""
    stopped = engine(pictures, tmp_path)
    for images, targets in stopped.batches():
        stopped.step(images, targets)
        if stopped.iteration == 2:
            stopped.save()
        if stopped.iteration == 3:
            break
    train(zoo.get("quickstart"), data=pictures, out=tmp_path, progress=False, changes=TINY)
    whole, continued = (read(out / "last.pt", CHECKPOINT) for out in (finished[0], tmp_path))
    for part in ("model", "averaged"):
        for name, value in whole[part].items():
            assert torch.equal(value, continued[part][name]), name


def test_learning_lowers_the_loss(pictures, tmp_path):
    run = engine(pictures, tmp_path, iterations=12, lr=5e-4)
    losses = [run.step(images, targets)["loss"] for _, (images, targets) in zip(range(12), run.batches(), strict=False)]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_another_run_is_not_overwritten(finished, pictures):
    with pytest.raises(UserError, match=r"lr was 0\.002, is 0\.1.*--fresh"):
        train(zoo.get("quickstart"), data=pictures, out=finished[0], progress=False, changes={**TINY, "lr": 0.1})


def test_a_finished_run_is_lengthened_where_its_schedule_permits(pictures, tmp_path):
    """It ends bit for bit as a run that was as long from the start."""
    changes = {**TINY, "schedule": "constant", "warmup": 1}
    for name, lengths in (("grown", (2, 4)), ("whole", (4,))):
        for iterations in lengths:
            settings = {**changes, "iterations": iterations}
            train(zoo.get("quickstart"), data=pictures, out=tmp_path / name, progress=False, changes=settings)
    grown, whole = (read(tmp_path / name / "last.pt", CHECKPOINT) for name in ("grown", "whole"))
    assert grown["iteration"] == 4 and grown["settings"] == whole["settings"]
    assert all(torch.equal(value, grown["averaged"][name]) for name, value in whole["averaged"].items())


def test_elsewhere_one_line_says_why_not(finished, pictures):
    with pytest.raises(UserError, match=r"iterations was (\d+), is 99\), whose schedule 'cosine' would .*--fresh"):
        train(zoo.get("quickstart"), data=pictures, out=finished[0], progress=False, changes={**TINY, "iterations": 99})


def test_a_warm_up_that_is_shortened_is_told(pictures, tmp_path, capsys):
    changes = {**TINY, "iterations": 2, "warmup": 100}
    train(zoo.get("quickstart"), data=pictures, out=tmp_path, progress=False, changes=changes)
    told = [line for line in capsys.readouterr().err.splitlines() if "warm-up" in line]
    assert told == ["2 iterations would end within the warm-up of 100: it takes 0 of them (--set warmup=N chooses)"]


def test_a_loss_that_is_not_finite_names_the_images(pictures, tmp_path):
    run = engine(pictures, tmp_path)
    with torch.no_grad():
        next(run.model.parameters()).fill_(float("nan"))
    images, targets = next(iter(run.batches()))
    with pytest.raises(UserError, match=rf"images {targets[0]['image_id']}, {targets[1]['image_id']}"):
        run.step(images, targets)


def test_images_without_objects_train(pictures, tmp_path):
    run = engine(pictures, tmp_path)
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "image_id": 1}
    assert run.step([torch.rand(3, 64, 64)] * 2, [target, target])["loss"] > 0


def test_settings_that_do_not_exist_are_refused_with_a_hint():
    recipe = zoo.get("quickstart")
    with pytest.raises(UserError, match="did you mean iterations"):
        recipe.with_changes({"iteration": 5})
    with pytest.raises(UserError, match=r"lr: expected a value like 0\.002, got 'fast'"):
        recipe.with_changes({"lr": "fast"})
    with pytest.raises(UserError, match="did you mean quickstart"):
        zoo.get("quickstar")
    assert recipe.with_changes({"model.dyhead_blocks": "0"}).model["dyhead_blocks"] == 0


def test_without_bfloat16_the_run_computes_in_float32_and_says_so(monkeypatch, capsys):
    recipe, cpu = zoo.get("quickstart"), torch.device("cpu")
    monkeypatch.setattr("dyhead_lab.training.recipe.has_bfloat16", lambda device: False)
    assert recipe.autocast_dtype(cpu) is None
    assert "no bfloat16" in capsys.readouterr().out
    monkeypatch.setattr("dyhead_lab.training.recipe.has_bfloat16", lambda device: True)
    assert recipe.autocast_dtype(cpu) == torch.bfloat16 and capsys.readouterr().out == ""
    assert recipe.with_changes({"precision": "fp16"}).autocast_dtype(cpu) == torch.float16
    assert recipe.with_changes({"precision": "fp32"}).autocast_dtype(cpu) is None
