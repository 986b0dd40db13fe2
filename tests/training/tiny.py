"""A detector and pictures small enough to train on in a moment."""

import itertools

from dyhead_lab import zoo
from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.detectors.one_stage.retinanet import retinanet
from dyhead_lab.training.engine import Engine
from dyhead_lab.training.recipe import Recipe

QUICK = {
    "iterations": 6,
    "batch_size": 2,
    "checkpoint_every": 2,
    "warmup": 2,
    "precision": "fp32",
    "model.image_size": 32,
    "model.dyhead_blocks": 0,
    "model.tower_convs": 0,
}


def write_pictures(folder, size=32):
    """Shapes for training and validation, ``size`` pixels square."""
    write_shapes(folder / "train", images=6, seed=1, size=size)
    write_shapes(folder / "val", images=3, seed=2, size=size)


def quick_recipe(**changes) -> Recipe:
    """The quickstart detector without its Dynamic Head, on images of 32 pixels."""
    return zoo.get("quickstart").with_changes({**QUICK, **changes})


def frozen_recipe(**changes) -> Recipe:
    """RetinaNet without statistics over the batch, whose losses are normalised image by image."""
    model = {
        "backbone": "resnet18",
        "channels": 32,
        "dyhead_blocks": 0,
        "tower_convs": 1,
        "body": {"norm": "frozen"},
        "min_size": 64,
        "max_size": 64,
    }
    settings = {"iterations": 6, "batch_size": 4, "warmup": 0, "precision": "fp32", "lr": 1e-3}
    recipe = Recipe("frozen", "RetinaNet on a frozen ResNet-18", retinanet, dataset=None, model=model)
    return recipe.with_changes({**settings, **changes})


def engine_of(recipe, pictures, out) -> Engine:
    """An engine in training mode on the pictures of :func:`write_pictures`."""
    engine = Engine(recipe, coco_folder(pictures, "train"), coco_folder(pictures, "val"), out)
    engine.model.train()
    return engine


def make_steps(engine, count):
    """The losses of the next ``count`` steps."""
    return [engine.step(*batch) for batch in itertools.islice(engine.batches(), count)]
