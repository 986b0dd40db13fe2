"""``dyhead-lab bench loader`` and ``bench train``: they measure what they say, here on a CPU."""

import json

import pytest
import torch

from dyhead_lab import zoo
from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.data.synthetic_coco import CLASSES, OBJECTS, write_synthetic_coco
from dyhead_lab.training import throughput
from dyhead_lab.training.throughput import loader_rates, random_batch, step_rate


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "train", images=4, seed=1, size=64)
    return folder


def tiny_recipe():
    return zoo.get("quickstart").with_changes({"batch_size": 2, "precision": "fp32", "model.image_size": 64})


def test_synthetic_coco_looks_like_coco(tmp_path):
    write_synthetic_coco(tmp_path, images=2)
    dataset = coco_folder(tmp_path)
    image, target = dataset[1]
    assert len(dataset) == 2 and len(dataset.categories) == CLASSES and image.shape == (3, 480, 640)
    assert len(target["boxes"]) == OBJECTS and (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
    assert not dataset.problems
    sizes = [path.stat().st_size for path in (tmp_path / "images").iterdir()]
    assert all(50_000 < size < 250_000 for size in sizes)  # COCO's have 160 kB on average
    again = tmp_path / "again"
    write_synthetic_coco(again, images=2)
    assert (again / "annotations.json").read_text() == (tmp_path / "annotations.json").read_text()


def test_random_batches_have_the_size_that_was_asked_for():
    images, targets = random_batch(3, 32, 48, classes=2)
    assert [image.shape for image in images] == [(3, 32, 48)] * 3 and len(targets) == 3
    for target in targets:
        boxes = target["boxes"]
        assert set(target["labels"].tolist()) <= {0, 1}
        assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 48).all() and (boxes[:, [1, 3]] <= 32).all()


def test_steps_are_fed_with_random_images_or_with_the_data_set(shapes, tmp_path, monkeypatch):
    dataset = coco_folder(shapes, "train")
    seen = []
    plain = throughput.Engine.step

    def step(engine, images, targets):
        seen.append(tuple(images[0].shape[-2:]))
        return plain(engine, images, targets)

    monkeypatch.setattr(throughput.Engine, "step", step)
    rate = step_rate(tiny_recipe(), dataset, tmp_path, size=(32, 48), steps=1)
    assert seen == [(32, 48)] * 3  # two warm up
    assert rate.images_per_second > 0 and rate.memory.activations > 0 and rate.busy is None
    step_rate(tiny_recipe(), dataset, tmp_path, steps=1)
    assert seen[3:] == [(64, 64)] * 3


def test_every_stage_of_loading_has_a_rate(shapes):
    rates = loader_rates(tiny_recipe(), coco_folder(shapes, "train"), images=4)
    assert list(rates) == ["read and decode", "read, decode and transform", "loader (no processes beside this one)"]
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.parametrize("what", ["loader", "train"])
def test_the_commands_print_and_store_by_device(what, shapes, tmp_path, capsys):
    out = tmp_path / "bench.json"
    size = {"loader": ["--images", "4"], "train": ["--steps", "1"]}[what]
    assert main(["bench", what, "quickstart", "--data", str(shapes), "--out", str(out), *size]) == 0
    printed = capsys.readouterr().out
    stored = json.loads(out.read_text())
    assert "cuda: not measured" in printed and stored["cuda"] == "not measured"
    found = stored["cpu"]
    assert found["recipe"] == "quickstart" and found["images a step"] == 2 and found["machine"]["date"]
    assert {"loader": "training, with its loader, images/s", "train": "images/s"}[what] in found


def test_synthetic_coco_is_small_on_a_cpu(tmp_path, capsys):
    out = tmp_path / "bench.json"
    command = ["bench", "train", "quickstart", "--synthetic-coco", "--steps", "1", "--batch", "1", "--out", str(out)]
    assert main(command) == 0
    assert json.loads(out.read_text())["cpu"]["image size"] == "128 x 224"
    assert "GPU busy: not measured" in capsys.readouterr().out


def test_a_size_needs_synthetic_images(shapes, tmp_path, capsys):
    assert main(["bench", "train", "quickstart", "--data", str(shapes), "--size", "32", "32"]) == 1
    assert "--synthetic-coco" in capsys.readouterr().err
