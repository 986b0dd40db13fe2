"""``dyhead-lab errors`` and ``dyhead-lab compare``, on runs made here."""

import json
import shutil

import pytest

from dyhead_lab import zoo
from dyhead_lab.cli import main
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.training import train
from dyhead_lab.training.smoke import shrunk

SETTINGS = {"iterations": 2, "batch_size": 1, "warmup": 1, "precision": "fp32", "model.image_size": 64}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for split, images in (("train", 4), ("val", 2)):
        write_shapes(folder / "data" / split, images=images, seed=1, size=64)
    for name, lr in (("slow", 1e-4), ("quick", 1e-3)):
        changes = {**SETTINGS, "lr": lr}
        train(zoo.get("quickstart"), folder / "data", folder / name, progress=False, changes=changes)
    return folder


def test_errors_reads_what_the_run_wrote_down_and_draws_the_worst_images(runs, capsys, monkeypatch):
    command = ["errors", str(runs / "slow"), "--data", str(runs / "data"), "--images", "1"]
    monkeypatch.setattr("dyhead_lab.commands.errors.detections_of", None)  # not needed
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "(2 images)" in printed and "localisation" in printed and "missed" in printed
    (picture,) = (runs / "slow/errors").glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG") and str(picture) in printed


def test_errors_and_eval_look_at_what_the_run_was_evaluated_on(runs, capsys):
    assert main(["errors", str(runs / "slow"), "--images", "0"]) == 0
    assert str(runs / "data/val/annotations.json") in capsys.readouterr().out
    assert main(["eval", str(runs / "slow"), "--split", "train"]) == 0
    printed = capsys.readouterr().out
    assert str(runs / "data/train/annotations.json") in printed and "(4 images)" in printed


def test_a_run_is_evaluated_on_the_data_that_it_was_trained_on(runs, tmp_path, capsys):
    """Also on a split that the training did not use."""
    data, run = shutil.copytree(runs / "data", tmp_path / "data"), shutil.copytree(runs / "slow", tmp_path / "run")
    write_shapes(data / "test", images=3, seed=3, size=64)
    origin = (run / "run.json").read_text(encoding="utf-8").replace(str((runs / "data").resolve()), str(data.resolve()))
    (run / "run.json").write_text(origin, encoding="utf-8")
    assert main(["eval", str(run), "--split", "test"]) == 0
    printed = capsys.readouterr().out
    assert str(data / "test/annotations.json") in printed and "(3 images)" in printed
    assert main(["errors", str(run), "--split", "test", "--images", "0"]) == 0
    assert str(data / "test/annotations.json") in capsys.readouterr().out
    assert main(["eval", str(run), "--split", "other"]) == 1
    assert "has no split 'other'" in capsys.readouterr().err
    next((data / "val/images").iterdir()).unlink()
    assert main(["eval", str(run)]) == 1
    told = capsys.readouterr()
    assert "1 of 2 images are missing" in told.err and "images)" not in told.out, "said before anything is computed"
    shutil.rmtree(data)
    assert main(["eval", str(run)]) == 1
    assert "is not there any more: name its data with --data" in capsys.readouterr().err


def test_files_of_cocos_own_layout_are_found_too(runs, tmp_path, capsys):
    """Such as annotations/instances_NAME.json: the folder of the data lies above that of the file."""
    data, run = tmp_path / "data", shutil.copytree(runs / "slow", tmp_path / "run")
    for split in ("val", "test"):
        write_shapes(data / split, images=2, seed=3, size=64)
        (data / "annotations").mkdir(exist_ok=True)
        (data / split / "annotations.json").rename(data / f"annotations/instances_{split}2017.json")
        (data / split).rename(data / "moved")
        (data / "moved/images").rename(data / f"{split}2017")
        (data / "moved").rmdir()
    part = {"annotations": str(data / "annotations/instances_val2017.json"), "folder": str(data / "val2017")}
    (run / "run.json").write_text(json.dumps({"data": {"train": part, "val": part}}), encoding="utf-8")
    assert main(["eval", str(run), "--split", "test"]) == 0
    assert "instances_test2017.json (2 images)" in capsys.readouterr().out


def test_training_on_own_data_promises_nothing(runs, tmp_path, capsys):
    words = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    assert main(["train", "quickstart", "--out", str(tmp_path), "--data", str(runs / "data"), *words]) == 0
    printed = capsys.readouterr().out
    assert f"expect: no figure for {runs / 'data'}" in printed and "on Shapes val" not in printed


def test_errors_looks_at_all_images_where_the_run_was_evaluated_on_a_few(runs, tmp_path, capsys, monkeypatch):
    """As a smoke run is: what it wrote down says nothing about the others."""
    run = shutil.copytree(runs / "slow", tmp_path / "run")
    origin = json.loads((run / "run.json").read_text(encoding="utf-8"))
    origin["data"]["val"]["images"] = 1
    (run / "run.json").write_text(json.dumps(origin), encoding="utf-8")
    looked = []
    monkeypatch.setattr("dyhead_lab.commands.errors.detections_of", lambda *args: looked.append(args) or [])
    assert main(["errors", str(run), "--images", "0"]) == 0
    assert looked and "(2 images)" in capsys.readouterr().out


def test_errors_detects_where_nothing_was_written_down(runs, capsys):
    command = ["errors", str(runs / "slow"), "--data", str(runs / "data"), "--split", "train", "--images", "0"]
    assert main(command) == 0
    assert "(4 images)" in capsys.readouterr().out
    assert main([*command, "--score", "2"]) == 1
    assert "--score: got 2.0" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--images", "--workers"])
def test_errors_refuses_counts_below_nothing(runs, capsys, option):
    assert main(["errors", str(runs / "slow"), option, "-1"]) == 1
    assert f"{option}: expected at least 0, got -1" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_compare_prints_a_table_what_differs_and_writes_curves(runs, tmp_path, capsys, suffix):
    picture = tmp_path / f"deep/curves.{suffix}"
    assert main(["compare", str(runs / "slow"), str(runs / "quick"), "--out", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    numbers = json.loads((runs / "slow/metrics.json").read_text(encoding="utf-8"))["numbers"]
    assert lines[0].split()[:4] == ["run", "iteration", "images/s", "AP"]
    assert lines[1].split()[:2] == ["slow", "2"] and lines[1].split()[3] == f"{numbers['AP']:.4f}"
    assert lines[3] == "lr: slow 0.0001, quick 0.001"
    assert picture.stat().st_size > 1000


def test_compare_refuses_what_is_no_run(runs, tmp_path, capsys):
    assert main(["compare", str(tmp_path)]) == 1
    assert "found no line of a log" in capsys.readouterr().err
    assert main(["compare", str(runs / "slow"), "--out", "curves.pdf"]) == 1
    assert "ends in .svg or .png" in capsys.readouterr().err


def test_a_smoke_run_goes_through_every_stage(runs, tmp_path, capsys):
    command = ["train", "quickstart", "--data", str(runs / "data"), "--out", str(tmp_path), "--smoke"]
    assert main([*command, "--set", "model.image_size=64", "--fraction", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "stopped at iteration 3 of 4 and saved" in printed
    assert "continuing at iteration 3 of 4" in printed and "every stage works" in printed
    assert {"last.pt", "weights.pt", "run.json", "metrics.json", "detections.json"} <= {
        p.name for p in tmp_path.iterdir()
    }


def test_without_a_gpu_large_recipes_smoke_with_small_images():
    detr, bccd = (zoo.get(name) for name in ("deformable_detr_r50", "bccd"))
    small = shrunk(detr)
    assert (small.model["min_size"], small.model["max_size"], small.augmentation) == (128, 256, "flip")
    assert small.model.keys() == detr.model.keys() and shrunk(bccd) is bccd


def test_a_fraction_of_the_images(runs, tmp_path, capsys):
    command = ["train", "quickstart", "--data", str(runs / "data"), "--out", str(tmp_path), "--fraction", "0.5"]
    assert main([*command, *(word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}"))]) == 0
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["data"]["train"]["images"] == 2
    assert main([*command[:-1], "ten"]) == 1
    assert "fraction" in capsys.readouterr().err


def test_ctrl_c_ends_the_command_with_130(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dyhead_lab.training.observer.ProgressBar.asks_to_stop", lambda self: True)
    command = ["train", "quickstart", "--data", str(runs / "data"), "--out", str(tmp_path), "--set", "batch_size=1"]
    assert main([*command, "--set", "model.image_size=64"]) == 130
    assert "stopped at iteration 1 of 3100 and saved" in capsys.readouterr().err
