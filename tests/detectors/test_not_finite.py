"""Batches that give no finite numbers: the losses tell, and the engine can leave such a batch out."""

import math

import pytest
import torch

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.training.engine import Engine
from dyhead_lab.zoo import get

from .every import CLASSES, EVERY, TRANSFORMERS, target


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("objects", [0, 1])
def test_an_image_that_is_not_finite_gives_a_loss_that_is_not(name, objects):
    torch.manual_seed(0)
    model = get(name).build(CLASSES).train()
    image = torch.rand(3, 64, 96)
    image[0, 3, 3] = math.nan
    made = target([[10.0, 10, 40, 40]] * objects, [1] * objects, 64, 96)
    assert not sum(model([image], [made]).values()).isfinite()


@pytest.mark.parametrize("part", ["class_embed", "bbox_embed"])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_head_of_a_transformer_that_gives_no_numbers_gives_a_loss_that_is_none(name, part):
    """Nothing else is wrong: where only the boxes of one head are no numbers, their pairs must still be in its loss."""
    torch.manual_seed(0)
    model = get(name).build(CLASSES).train()
    heads = getattr(model, part)
    last = heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads
    next(last.parameters()).data.fill_(math.nan)
    losses = model([torch.rand(3, 64, 96)], [target([[10.0, 10, 40, 40]], [1], 64, 96)])
    assert not sum(losses.values()).isfinite()


@pytest.mark.parametrize("name", EVERY)
def test_the_engine_skips_such_a_batch(name, tmp_path):
    for split, seed in (("train", 1), ("val", 2)):
        write_shapes(tmp_path / split, images=2, seed=seed, size=64)
    recipe = get(name).with_changes({"batch_size": 2, "warmup": 0, "on_nonfinite": "skip"})
    engine = Engine(recipe, coco_folder(tmp_path, "train"), coco_folder(tmp_path, "val"), tmp_path / "run")
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    images, targets = next(iter(engine.batches()))
    spoilt = [images[0].clone(), images[1]]
    spoilt[0][0, 3, 3] = math.nan
    engine.model.train()
    assert engine.step(spoilt, targets) == {} and engine.skipped == 1
    assert all(torch.equal(value, before[name]) for name, value in engine.model.state_dict().items())
    assert math.isfinite(engine.step(images, targets)["loss"]) and engine.skipped == 1
