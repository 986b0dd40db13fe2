"""How fast a training is on this machine: the steps themselves, and the loader that must keep up with them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ..data.dataset import DetectionData, ask_for_masks
from ..data.draws import RandomDraws
from ..data.synthetic_coco import rectangle_masks, synthetic_objects
from ..data.transforms import augmentation
from .engine import Engine
from .loader import training_batches
from .recipe import Recipe
from .step_memory import StepMemory

#: An augmentation that decides the size in training: then the detector takes images as they come.
KEEPS_SIZES = "multi_scale"


@dataclass(frozen=True)
class StepRate:
    """Speed of training steps.

    Attributes:
        images_per_second: of this process.
        memory: of a step.
        busy: share of the time in which the GPU computed or copied; None on a CPU, where it is not measured.
    """

    images_per_second: float
    memory: StepMemory
    busy: float | None


def step_rate(
    recipe: Recipe, dataset: DetectionData, folder: Path, size: tuple[int, int] | None = None, steps: int = 10
) -> StepRate:
    """Take the time of training steps, after two that warm up.

    Args:
        recipe: what to train, from random weights.
        dataset: its images are trained on, as the loader brings them.
        folder: for what the engine may write.
        size: (height, width): random images of this size, which lie in memory already, in place of the data set's.
        steps: how many.
    """
    recipe = replace(recipe, detector=lambda classes, architecture=recipe.architecture, **_: architecture(classes))
    if size:
        recipe = replace(recipe, augmentation=KEEPS_SIZES)
    engine = Engine(recipe, dataset, dataset, folder)
    engine.model.train()
    batches: Iterator[Any]
    if size:
        batch = random_batch(recipe.batch_size, *size, len(dataset.categories), masks=recipe.masks)
        batches = repeat(_pinned(batch) if engine.device.type == "cuda" else batch)
    else:
        batches = iter(engine.batches())

    def run(count: int) -> None:
        for images, targets in islice(batches, count):
            engine.step(images, targets)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()

    run(2)
    seconds = _seconds(lambda: run(steps))
    assert engine.memory is not None  # the first step has measured it
    busy = _busy(lambda: run(steps)) if engine.device.type == "cuda" else None
    return StepRate(steps * recipe.batch_size / seconds, engine.memory, busy)


Batch = tuple[list[torch.Tensor], list[dict[str, Any]]]


def random_batch(images: int, height: int, width: int, classes: int, seed: int = 0, masks: bool = False) -> Batch:
    """Images (3, height, width) of noise, and targets with COCO's number of objects; with ``masks``, of rectangles."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for id in range(images):
        boxes, labels = synthetic_objects(height, width, classes, generator)
        drawn = {"masks": rectangle_masks(boxes, height, width)} if masks else {}
        targets.append({"boxes": boxes, "labels": labels, "image_id": id, **drawn})
    return [torch.rand(3, height, width, generator=generator) for _ in range(images)], targets


def _pinned(batch: Batch) -> Batch:
    """The batch in page-locked memory, where the loader of a training on a GPU puts its own."""
    images, targets = batch
    pinned = [
        {name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in target.items()}
        for target in targets
    ]
    return [image.pin_memory() for image in images], pinned


def _busy(run: Callable[[], None]) -> float:
    """Share of the time that kernels and copies take, by torch's profiler; on one stream they do not overlap.

    As in torch's own table: what a program marks as a range (``record_function``) holds kernels that are counted by
    themselves.
    """
    with profile(activities=[ProfilerActivity.CUDA]) as measured:
        seconds = _seconds(run)
    on_device = [
        event
        for event in measured.key_averages()
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]
    return sum(event.self_device_time_total for event in on_device) / 1e6 / seconds


def loader_rates(recipe: Recipe, dataset: DetectionData, images: int) -> dict[str, float]:
    """Images per second of each stage of loading, in the order in which an image goes through them.

    Args:
        recipe: says transform, batch size and order.
        dataset: its files are read; the operating system may have them in memory.
        images: for each stage; the loader brings more where its processes take turns.

    Returns:
        ``read and decode`` and ``... and transform`` in this one process, and ``loader``: batches as a training gets
        them, with as many processes as it would use. A small data set is kept decoded there after its first pass.
        Synthetic images that stand for COCO are not: processes read them, as they would read COCO.
    """
    if recipe.masks:
        ask_for_masks(dataset)
    draws = RandomDraws(dataset, augmentation(recipe.augmentation))  # type: ignore[arg-type]  # as in the loader
    indices = [index % len(dataset) for index in range(images)]
    loader = training_batches(recipe, dataset)
    turn = loader.num_workers or 1  # batches that are ready at about the same time: one from each process
    batches = max(1, images // recipe.batch_size)
    batches = turn * math.ceil(batches / turn)
    workers = f"loader ({loader.num_workers or 'no'} processes beside this one)"
    return {
        "read and decode": _rate((dataset[index] for index in indices), images),
        "read, decode and transform": _rate((draws[index, seed] for seed, index in enumerate(indices)), images),
        workers: _rate(islice(_after(turn, loader), batches), batches * recipe.batch_size),
    }


def _after(count: int, batches: Iterable[Any]) -> Iterable[Any]:
    """What comes after the first ``count`` batches, which wait for processes to start."""
    iterator = iter(batches)
    for _ in range(count):
        next(iterator)
    return iterator


def _rate(items: Iterable[Any], count: int) -> float:
    def run() -> None:
        for _ in items:
            pass

    return count / _seconds(run)


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
