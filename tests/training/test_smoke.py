"""Smoke runs: a batch that processes and micro-batches can share, and whole runs that they leave alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dyhead_lab.cli import main
from dyhead_lab.errors import UserError
from dyhead_lab.training import train
from dyhead_lab.training.smoke import smoke_run

from .tiny import QUICK, quick_recipe

MODEL = {name: value for name, value in QUICK.items() if name.startswith("model.") or name == "precision"}


def batch_size(out):
    return json.loads((out / "run.json").read_text(encoding="utf-8"))["settings"]["batch_size"]


def smoke(pictures, out, *words, **changes):
    """``train quickstart --smoke`` as a command, on a small model."""
    pairs = [word for name, value in {**MODEL, **changes}.items() for word in ("--set", f"{name}={value}")]
    return ["train", "quickstart", "--smoke", "--data", str(pictures), "--out", str(out), *words, *pairs]


@pytest.mark.parametrize(("accumulate", "images"), [(1, 2), (2, 4), (3, 6)])
def test_micro_batches_decide_on_the_batch(small_pictures, tmp_path, accumulate, images):
    """Of images of 64 pixels: BatchNorm learns nothing from the one pixel that a single smaller image leaves it."""
    changes = {"accumulate": accumulate, "batch_size": 6, "model.image_size": 64}
    assert main(smoke(small_pictures, tmp_path, **changes)) == 0
    assert batch_size(tmp_path) == images


def test_settings_that_a_whole_training_refuses_are_refused(small_pictures, tmp_path):
    with pytest.raises(UserError, match="batch_size: expected a multiple of accumulate=3, got 8"):
        smoke_run(quick_recipe(), small_pictures, tmp_path, {"accumulate": 3, "batch_size": 8})


def test_three_processes_share_a_batch(small_pictures, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "dyhead_lab.cli"]
    settings = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *launcher, *smoke(small_pictures, tmp_path / "run")]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert batch_size(tmp_path / "run") == 6 and "every stage works" in done.stdout


def test_a_whole_run_is_left_alone_unless_it_is_to_be_removed(small_pictures, tmp_path, capsys):
    train(quick_recipe(iterations=1), data=small_pictures, out=tmp_path, progress=False)
    before = (tmp_path / "last.pt").read_bytes()
    assert main(smoke(small_pictures, tmp_path)) == 1
    assert f"{tmp_path} holds a run that is no smoke run" in capsys.readouterr().err
    assert (tmp_path / "last.pt").read_bytes() == before
    assert main(smoke(small_pictures, tmp_path, "--fresh")) == 0
    assert main(smoke(small_pictures, tmp_path)) == 0  # what lies there now is a smoke run


def nothing_here(split):
    raise UserError("COCO is not in data/coco2017")


def test_without_the_recipes_data_synthetic_pictures_take_its_place_and_it_is_said(tmp_path, capsys):
    recipe = replace(quick_recipe(), dataset=nothing_here)
    result = smoke_run(recipe, None, tmp_path)
    told = capsys.readouterr().out
    assert "COCO is not in data/coco2017\nsynthetic pictures take the place of the data of quickstart" in told
    assert len(result.per_class) == 80
    used = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["data"]
    assert {name: part["images"] for name, part in used.items()} == {"train": 8, "val": 4}
    assert Path(used["val"]["annotations"]).is_file()  # so that `eval` and `errors` work on it


ASKED_FOR = []


def detector_with_weights(classes, weights, **model):
    """The quickstart detector, as if it could start from a download."""
    ASKED_FOR.append(weights)
    return quick_recipe().detector(classes=classes, **model)


def test_a_smoke_run_starts_from_random_weights_and_downloads_nothing(small_pictures, tmp_path, capsys):
    model = {**quick_recipe().model, "weights": "IMAGENET1K_V1"}
    smoke_run(replace(quick_recipe(), detector=detector_with_weights, model=model), small_pictures, tmp_path)
    assert set(ASKED_FOR) == {None}
    told = capsys.readouterr().out
    assert told.count("random weights take the place of IMAGENET1K_V1") == 1 and "synthetic" not in told


def test_weights_without_their_origin_are_left_alone(small_pictures, tmp_path):
    (tmp_path / "weights.pt").touch()
    with pytest.raises(UserError, match="no smoke run"):
        smoke_run(quick_recipe(), small_pictures, tmp_path)
    assert (tmp_path / "weights.pt").exists()
