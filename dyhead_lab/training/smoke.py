"""A smoke run: every stage of a training on a handful of images, to see that all of it works here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..data.coco import coco_folder
from ..data.dataset import DetectionData
from ..data.subset import fixed_images
from ..data.synthetic_coco import write_synthetic_coco
from ..data.transforms import resizes
from ..errors import UserError
from ..evaluation.coco_metric import CocoResult
from .checkpoint import writing
from .distributed import accelerator_here
from .interrupt import Interrupted
from .observer import Entry, Silent
from .recipe import Recipe
from .run_folder import RUN, WEIGHTS_FILE, read_part
from .train import train

IMAGES = {"train": 8, "val": 4}
SYNTHETIC = "synthetic"  # folder of pictures in that of the run

#: Settings by which a smoke run is known.
FEW = {"iterations": 4, "warmup": 1, "evaluate_every": 2, "checkpoint_every": 2, "fraction": 1.0}

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
    recipe: Recipe,
    data: str | Path | None,
    out: Path,
    changes: Mapping[str, Any] | None = None,
    fresh: bool = False,
) -> CocoResult:
    """Load, augment, train, evaluate, stop, save, continue, write weights, load them and evaluate them.

    4 iterations on 8 fixed images, and 4 fixed images to evaluate on. The numbers mean nothing; that they come does.
    Nothing is downloaded: the detector starts from random weights, and where the recipe's own data is not here,
    synthetic pictures of COCO's size take its place. Both are said.
    Without a GPU the images of large recipes are small, and only flipped. Every process has two images in every
    micro-batch: one alone would be too few for the statistics of a normalisation.

    Args:
        recipe, data, out, changes: as for :func:`~.train.train`. A smoke run in ``out`` starts anew.
        fresh: remove the run in ``out``, even if it is more than a smoke run.

    Raises:
        UserError: what a whole training would raise; ``out`` holds a run that is more than a smoke run.
    """
    recipe = recipe.with_changes(changes or {})  # first of all: the batch depends on them
    accelerator = accelerator_here()
    recipe = recipe.with_changes({**FEW, "batch_size": 2 * accelerator.num_processes * recipe.accumulate})
    if not fresh:
        _refuse_whole_run(out)
    accelerator.wait_for_everyone()  # all have looked at the folder before the main process removes anything

    recipe = unweighted(recipe if torch.cuda.is_available() else shrunk(recipe))
    source = partial(coco_folder, data) if data else _data_here(recipe, out / SYNTHETIC, accelerator)

    def few_images(split: str) -> DetectionData:
        return fixed_images(source(split), IMAGES[split])

    few_of_it = replace(recipe, dataset=few_images)
    try:
        train(few_of_it, out=out, fresh=True, observer=_StopsAfter(3))
    except Interrupted:
        pass  # as planned: the next call continues
    return train(few_of_it, out=out, observer=_StopsAfter(-1))


def _data_here(recipe: Recipe, folder: Path, accelerator: Accelerator) -> Callable[[str], DetectionData]:
    """The recipe's own data, or where that cannot be opened synthetic pictures, which are written into ``folder``."""
    own = cache(recipe.dataset)  # to open the annotations of COCO takes a while
    try:
        for split in IMAGES:
            own(split)
        return own
    except UserError as error:
        print(f"{error}\nsynthetic pictures take the place of the data of {recipe.name}")
    if accelerator.is_main_process:
        with writing(folder):
            for seed, (split, images) in enumerate(IMAGES.items()):
                write_synthetic_coco(folder / split, images, seed)
    accelerator.wait_for_everyone()
    return partial(coco_folder, folder)


def _refuse_whole_run(out: Path) -> None:
    """A smoke run takes the place of smoke runs only.

    Raises:
        UserError: the folder holds another run.
    """
    if not any((out / name).exists() for name in (RUN, WEIGHTS_FILE, "last.pt")):
        return
    settings = read_part(out / RUN, "settings") if (out / RUN).exists() else {}
    if any(settings.get(name) != value for name, value in FEW.items()):
        raise UserError(
            f"{out} holds a run that is no smoke run, which would be removed; choose another --out, or --fresh"
        )


def unweighted(recipe: Recipe) -> Recipe:
    """The recipe from random weights, where it starts from others, which may be a download."""
    weights = recipe.model.get("weights")
    if weights is None:
        return recipe
    print(f"random weights take the place of {weights}")
    return replace(recipe, model={**recipe.model, "weights": None})


def shrunk(recipe: Recipe) -> Recipe:
    """The recipe with small images, if it says how large they are."""
    if not SMALL.keys() <= recipe.model.keys():
        return recipe
    augmentation = "flip" if resizes(recipe.augmentation) else recipe.augmentation
    return replace(recipe, model={**recipe.model, **SMALL}, augmentation=augmentation)
