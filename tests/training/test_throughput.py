"""``dyhead-lab bench loader`` and ``bench train``: they measure what they say, here on a CPU."""

import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch.autograd import DeviceType

from dyhead_lab import zoo
from dyhead_lab.cli import main
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.data.synthetic_coco import CLASSES, OBJECTS, rectangle_masks, write_synthetic_coco
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
    assert (again / "annotations.json").read_text(encoding="utf-8") == (tmp_path / "annotations.json").read_text(
        encoding="utf-8"
    )


def test_random_batches_have_the_size_that_was_asked_for():
    images, targets = random_batch(3, 32, 48, classes=2)
    assert [image.shape for image in images] == [(3, 32, 48)] * 3 and len(targets) == 3
    for target in targets:
        boxes = target["boxes"]
        assert set(target["labels"].tolist()) <= {0, 1}
        assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 48).all() and (boxes[:, [1, 3]] <= 32).all()


def test_masks_come_only_where_they_are_asked_for_and_change_nothing_else():
    images, targets = random_batch(2, 32, 48, classes=2)
    same, masked = random_batch(2, 32, 48, classes=2, masks=True)
    assert all(torch.equal(a, b) for a, b in zip(images, same, strict=True))
    for plain, target in zip(targets, masked, strict=True):
        assert "masks" not in plain and torch.equal(plain["boxes"], target["boxes"])
        assert target["masks"].shape == (OBJECTS, 32, 48) and target["masks"].dtype == torch.uint8


def test_a_mask_holds_the_pixels_whose_centres_lie_in_the_box():
    (mask,) = rectangle_masks(torch.tensor([[1.4, 0.6, 3.6, 2.0]]), 3, 5)
    assert mask.tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


def test_synthetic_coco_has_polygons_that_fill_the_boxes(tmp_path):
    write_synthetic_coco(tmp_path, images=1)
    target = coco_folder(tmp_path, masks=True)[0][1]
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    pixels = target["masks"].flatten(1).sum(1)
    rim = x2 - x1 + y2 - y1  # rounding moves each side by half a pixel at most
    assert ((pixels - (x2 - x1) * (y2 - y1)).abs() <= rim).all() and not coco_folder(tmp_path).problems
    assert "masks" not in coco_folder(tmp_path)[0][1]


def test_mask_rcnn_is_measured_on_synthetic_coco(tmp_path):
    write_synthetic_coco(tmp_path, images=1, height=48, width=64)
    changes = {"batch_size": 1, "precision": "fp32", "model.min_size": 48, "model.max_size": 64}
    recipe, dataset = zoo.get("mask_rcnn_shapes").with_changes(changes), coco_folder(tmp_path)
    assert step_rate(recipe, dataset, tmp_path, size=(48, 64), steps=1).images_per_second > 0
    dataset.masks = False
    assert all(rate > 0 for rate in loader_rates(recipe, dataset, images=1).values())
    assert dataset.masks  # they are part of what is measured


class EngineOnGpu:
    """Looks like an engine on a GPU, and keeps what it is fed with."""

    device = torch.device("cuda")
    model, memory = torch.nn.Identity(), "measured"
    fed: ClassVar = []

    def __init__(self, *args):
        self.fed.clear()

    def step(self, images, targets):
        self.fed.append((images, targets))


def test_a_gpu_is_fed_from_page_locked_memory(shapes, tmp_path, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.clone()) or pinned[-1])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(throughput, "_busy", lambda run: 0.5)
    monkeypatch.setattr(throughput, "Engine", EngineOnGpu)
    step_rate(tiny_recipe(), coco_folder(shapes, "train"), tmp_path, size=(32, 48), steps=1)
    for images, targets in EngineOnGpu.fed:
        tensors = [*images, *(target[name] for target in targets for name in ("boxes", "labels"))]
        assert all(any(tensor is one for one in pinned) for tensor in tensors)
    assert [target["image_id"] for target in EngineOnGpu.fed[0][1]] == [0, 1]
    monkeypatch.setattr(EngineOnGpu, "device", torch.device("cpu"))
    pinned.clear()
    step_rate(tiny_recipe(), coco_folder(shapes, "train"), tmp_path, size=(32, 48), steps=1)
    assert not pinned


def test_a_gpu_is_busy_with_what_runs_on_it_and_nothing_counts_twice(monkeypatch):
    def event(device_type, seconds, is_user_annotation=False):
        return SimpleNamespace(
            device_type=device_type, self_device_time_total=seconds * 1e6, is_user_annotation=is_user_annotation
        )

    events = [
        event(DeviceType.CUDA, 0.3),
        event(DeviceType.CUDA, 0.2),
        event(DeviceType.CUDA, 0.5, is_user_annotation=True),  # a range around both kernels
        event(DeviceType.CPU, 0.4),
    ]
    measured = nullcontext(SimpleNamespace(key_averages=lambda: events))
    monkeypatch.setattr(throughput, "profile", lambda activities: measured)
    monkeypatch.setattr(throughput, "_seconds", lambda run: 2.0)
    assert throughput._busy(lambda: None) == pytest.approx(0.25)


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


def test_the_loader_of_synthetic_coco_is_the_one_that_coco_gets(tmp_path, monkeypatch):
    write_synthetic_coco(tmp_path, images=2, height=48, width=64)
    monkeypatch.setattr("dyhead_lab.training.loader.processors", lambda: 3)
    counted = []
    monkeypatch.setattr(throughput, "_rate", lambda items, count: counted.append((len(list(items)), count)))
    *_, stage = loader_rates(tiny_recipe(), coco_folder(tmp_path), images=2)
    assert stage == "loader (2 processes beside this one)"
    assert counted == [(2, 2), (2, 2), (2, 4)]  # one batch of two images from each process


@pytest.mark.parametrize("what", ["loader", "train"])
def test_the_commands_print_and_store_by_device(what, shapes, tmp_path, capsys):
    out = tmp_path / "bench.json"
    size = {"loader": ["--images", "4"], "train": ["--steps", "1"]}[what]
    assert main(["bench", what, "quickstart", "--data", str(shapes), "--out", str(out), *size]) == 0
    printed = capsys.readouterr().out
    stored = json.loads(out.read_text(encoding="utf-8"))
    assert "cuda: not measured" in printed and stored["cuda"] == "not measured"
    found = stored["cpu"]
    assert found["recipe"] == "quickstart" and found["images a step"] == 2 and found["machine"]["date"]
    assert {"loader": "training, with its loader, images/s", "train": "images/s"}[what] in found


def test_synthetic_coco_is_small_on_a_cpu(tmp_path, capsys):
    out = tmp_path / "bench.json"
    command = ["bench", "train", "quickstart", "--synthetic-coco", "--steps", "1", "--batch", "1", "--out", str(out)]
    assert main(command) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["cpu"]["image size"] == "128 x 224"
    assert "GPU busy: not measured" in capsys.readouterr().out


def test_a_size_needs_synthetic_images(shapes, tmp_path, capsys):
    assert main(["bench", "train", "quickstart", "--data", str(shapes), "--size", "32", "32"]) == 1
    assert "--synthetic-coco" in capsys.readouterr().err
