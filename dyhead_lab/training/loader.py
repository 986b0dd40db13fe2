"""Training batches: drawn, decoded, transformed and moved so that the device need not wait."""

from __future__ import annotations

import math
import os

from torch.utils.data import DataLoader

from ..data.dataset import DetectionData
from ..data.draws import EndlessBatches, InMemory, RaisingLoader, RandomDraws
from ..data.synthetic_coco import stands_for_coco
from ..data.transforms import augmentation
from ..errors import UserError
from ..platforms import memory_limit, processors
from .recipe import Recipe

IN_MEMORY = 1_000_000_000  # bytes of decoded training images that may be kept, and at most a quarter of a container's
MOST_WORKERS = 8  # processes that decode and transform, for each training process
WORKERS = "DYHEAD_WORKERS"  # environment variable: another number of them


def training_batches(
    recipe: Recipe,
    dataset: DetectionData,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
) -> DataLoader:
    """Batches (images, targets) of one process from iteration ``start`` on, without end.

    Small data sets are decoded once and kept. Others are decoded and transformed in processes of their own, which
    live as long as the loader and stay two batches ahead.

    Args:
        recipe: says batch size, seed, augmentation and whether batches are grouped by aspect.
        dataset: the training images.
        start: iteration to begin with.
        rank, world: which training process of how many.
        pin_memory: hand out page-locked tensors, which a GPU fetches while it computes.

    Raises:
        UserError: on iteration, where an image cannot be read; the message is the same in whichever process.
    """
    groups = aspect_groups(dataset) if recipe.aspect_grouping else None
    order = EndlessBatches(len(dataset), recipe.batch_size, recipe.seed, start, rank, world, groups)
    workers = loading_workers(dataset, world)
    kept: DetectionData | InMemory = dataset
    if not workers and fits_in_memory(dataset):
        kept = InMemory(dataset)  # type: ignore[arg-type]  # need not inherit from Dataset
    draws = RandomDraws(kept, augmentation(recipe.augmentation))  # type: ignore[arg-type]
    return RaisingLoader(
        draws,
        batch_sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


def aspect_groups(dataset: DetectionData) -> list[int]:
    """1 for every image that is taller than wide, else 0, in the order of the data set."""
    records = [dataset.coco.imgs[id] for id in dataset.image_ids]
    return [int(record["height"] > record["width"]) for record in records]


def fits_in_memory(dataset: DetectionData) -> bool:
    """Whether the images may all be kept, decoded. A few that stand for COCO are read as COCO's many are."""
    pixels = sum(record["height"] * record["width"] for record in dataset.coco.imgs.values())
    most = min(IN_MEMORY, (memory_limit() or math.inf) // 4)
    return 3 * pixels <= most and not stands_for_coco(dataset)


def loading_workers(dataset: DetectionData, world: int) -> int:
    """Processes that read images for each of ``world`` training processes; 0 for a data set that fits into memory.

    They get a fair share of the cores that this process may use, one core less for the training itself. The cores are
    shared with the training processes of this machine only. The environment variable :data:`WORKERS` sets another
    number: it belongs to a machine, and changes no result.

    Raises:
        UserError: the variable is no whole number of at least 0.
    """
    asked = os.environ.get(WORKERS)
    if asked is not None:
        if not asked.isdecimal():
            raise UserError(f"{WORKERS}: expected a number of processes, at least 0, got {asked!r}")
        return int(asked)
    if fits_in_memory(dataset):
        return 0
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))  # set by torchrun and accelerate
    return max(1, min(MOST_WORKERS, processors() // here - 1))
