"""``dyhead-lab eval`` prints the 12 numbers of a trained model."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.evaluation.coco_metric import METRICS
from dyhead_lab.zoo import Trained

from ..data.coco_files import annotation, write_set


class WholeImage(nn.Module):
    """Finds one dog that fills the image."""

    def forward(self, images):
        return [
            {
                "boxes": torch.tensor([[0.0, 0.0, image.shape[2], image.shape[1]]]),
                "scores": torch.ones(1),
                "labels": torch.zeros(1, dtype=torch.int64),
            }
            for image in images
        ]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A trained model whose recipe brings its own data, in place of the zoo's."""
    own = tmp_path / "own"
    write_set(own / "val", [annotation(1, [0, 0, 40, 30])])
    write_set(own / "train", [annotation(1, [0, 0, 40, 30])], images=2)
    recipe = SimpleNamespace(
        name="whole", autocast_dtype=lambda device: None, data=lambda split: coco_folder(own, split)
    )
    trained = Trained(WholeImage(), recipe, ["dog", "cat"], Path("whole.pt"))
    monkeypatch.setattr("dyhead_lab.zoo.load_trained", lambda source, imports: trained)
    return trained


def numbers(printed):
    """The printed numbers by name, as text."""
    rows = [line.split() for line in printed.splitlines() if line.startswith(("AP", "AR"))]
    return {name: value for name, value, *_ in rows}


def test_the_recipes_own_data(trained, tmp_path, capsys):
    results = tmp_path / "new/results.json"
    assert main(["eval", "quickstart", "--out", str(results)]) == 0
    printed = capsys.readouterr().out
    assert "(1 images)" in printed and set(METRICS) <= set(numbers(printed))
    assert numbers(printed)["AP_medium"] == "1.0000" and numbers(printed)["AP_small"] == "-"
    assert json.loads(results.read_text(encoding="utf-8")) == [
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 40, 30], "score": 1.0}
    ]
    assert main(["eval", "quickstart", "--split", "train"]) == 0
    assert "(2 images)" in capsys.readouterr().out


def test_flips_of_what_all_views_agree_on_change_nothing(trained, capsys):
    assert main(["eval", "quickstart"]) == 0
    plain = numbers(capsys.readouterr().out)
    assert main(["eval", "quickstart", "--flips"]) == 0
    assert numbers(capsys.readouterr().out) == plain


def test_data_of_the_users_own(trained, tmp_path, capsys):
    write_set(tmp_path / "single", [annotation(1, [0, 0, 20, 30])])
    assert main(["eval", "quickstart", "--data", str(tmp_path / "single")]) == 0
    assert numbers(capsys.readouterr().out)["AP50"] == "1.0000"  # the box covers half of what is found: IoU 0.5
    write_set(tmp_path / "several/val", [])
    write_set(tmp_path / "several/test", [], images=3)
    assert main(["eval", "quickstart", "--data", str(tmp_path / "several")]) == 0
    assert "several/val/annotations.json (1 images)" in capsys.readouterr().out
    assert main(["eval", "quickstart", "--data", str(tmp_path / "several"), "--split", "test"]) == 0
    assert "(3 images)" in capsys.readouterr().out


def test_other_classes_and_splits_are_refused(trained, tmp_path, capsys):
    trained.categories[:] = ["dog", "bird"]
    write_set(tmp_path / "single", [])
    assert main(["eval", "quickstart", "--data", str(tmp_path / "single")]) == 1
    assert "knows the classes dog, bird" in capsys.readouterr().err
    assert main(["eval", "quickstart", "--split", "test"]) == 1
    assert "has no split 'test'" in capsys.readouterr().err


class NotFinite(WholeImage):
    """Finds the dog, and with more confidence a box of NaN."""

    def forward(self, images):
        found = super().forward(images)
        for output in found:
            output["boxes"] = torch.cat([output["boxes"], torch.full((1, 4), float("nan"))])
            output["scores"], output["labels"] = torch.tensor([0.5, 0.9]), torch.zeros(2, dtype=torch.int64)
        return found


def test_what_is_not_finite_is_counted_and_leaves_the_file_readable(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dyhead_lab.zoo.load_trained", lambda source, imports: replace(trained, model=NotFinite()))
    results = tmp_path / "results.json"
    with pytest.warns(UserWarning, match="1 of 2 detections are not finite") as told:
        assert main(["eval", "quickstart", "--out", str(results)]) == 0
    assert len(told) == 1
    printed = capsys.readouterr().out
    assert "1 detections were not finite" in printed and numbers(printed)["AP50"] == "0.5000"
    written = json.loads(
        results.read_text(encoding="utf-8"), parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    assert [(r["bbox"], r["score"]) for r in written] == [([0, 0, 40, 30], 0.5), ([0, 0, 0, 0], pytest.approx(0.9))]


def test_a_file_that_cannot_be_written_is_named_before_anything_is_computed(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dyhead_lab.commands.eval.detections_of", None)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert main(["eval", "quickstart", "--out", str(tmp_path)]) == 1
    assert f"--out {tmp_path}: expected a file to write, but it is a folder" in capsys.readouterr().err
    assert main(["eval", "quickstart", "--out", str(tmp_path / "file/results.json")]) == 1
    assert f"{tmp_path / 'file'} is a file" in capsys.readouterr().err


def test_help_says_how_images_are_padded(capsys):
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    assert "the padding that it would have alone" in " ".join(capsys.readouterr().out.split())


def test_less_than_no_process_is_refused(trained, capsys):
    assert main(["eval", "quickstart", "--workers", "-1"]) == 1
    assert "--workers: expected at least 0, got -1" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_damaged_run_is_named(content, trained, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(content, encoding="utf-8")
    of_run = replace(trained, path=run / "weights.pt")
    monkeypatch.setattr("dyhead_lab.zoo.load_trained", lambda source, imports: of_run)
    assert main(["eval", "quickstart"]) == 1
    assert f"{run / 'run.json'}: damaged" in capsys.readouterr().err
