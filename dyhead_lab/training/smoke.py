"""A smoke run: every stage of a training on a handful of images, to see that all of it works here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.coco import CocoDetection, coco_folder
from ..data.subset import fixed_images
from ..data.transforms import resizes
from ..evaluation.coco import CocoResult
from .interrupt import Interrupted
from .observer import Entry, Silent
from .recipe import Recipe
from .train import train

IMAGES = {"train": 8, "val": 4}

#: Bounds of an image's sides on a processor, where a step at COCO's size takes minutes.
SMALL = {"min_size": 128, "max_size": 256}


class _StopsAfter(Silent):
    """Asks to stop after an iteration, and says what happens."""

    def __init__(self, iteration: int):
        self.last, self.iteration = iteration, 0

    def begin(self, recipe: Recipe, entries: Sequence[Entry]) -> None:
        print(f"{recipe.name}: {recipe.iterations} iterations of {recipe.batch_size} images")

    def advance(self, iteration: int) -> None:
        self.iteration = iteration

    def asks_to_stop(self) -> bool:
        return self.iteration == self.last

    def end(self, message: str) -> None:
        print(message)


def smoke_run(
    recipe: Recipe, data: str | Path | None, out: Path, changes: Mapping[str, Any] | None = None
) -> CocoResult:
    """Load, augment, train, evaluate, stop, save, continue, write weights, load them and judge them.

    4 iterations on 8 fixed images, and 4 fixed images to judge by. The numbers mean nothing; that they come does.
    Without a GPU the images of large recipes are small, and only flipped.

    Args:
        recipe, data, out, changes: as for :func:`~.train.train`. A run in ``out`` starts anew.

    Raises:
        UserError: what a whole training would raise.
    """
    few = {"iterations": 4, "warmup": 1, "evaluate_every": 2, "checkpoint_every": 2, "fraction": 1.0}
    recipe = recipe.with_changes({**(changes or {}), **few, "batch_size": 2 * recipe.accumulate})

    def few_images(split: str) -> CocoDetection:
        whole = coco_folder(data, split) if data else recipe.data(split)
        return fixed_images(whole, IMAGES[split])

    few_of_it = replace(recipe if torch.cuda.is_available() else shrunk(recipe), dataset=few_images)
    try:
        train(few_of_it, out=out, fresh=True, observer=_StopsAfter(3))
    except Interrupted:
        pass  # as planned: the next call continues
    return train(few_of_it, out=out, observer=_StopsAfter(-1))


def shrunk(recipe: Recipe) -> Recipe:
    """The recipe with small images, if it says how large they are."""
    if not SMALL.keys() <= recipe.model.keys():
        return recipe
    augmentation = "flip" if resizes(recipe.augmentation) else recipe.augmentation
    return replace(recipe, model={**recipe.model, **SMALL}, augmentation=augmentation)
