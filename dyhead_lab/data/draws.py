"""Repeatable randomness: which image comes when, and how it is transformed.

A draw is named by a pair (index, seed). Its transform depends on the seed alone, not on the worker that loads it
or on how many draws came before. That is what lets a killed run continue exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info
from torchvision import tv_tensors

from ..errors import UserError
from ..platforms import shared_memory
from .lost_processes import while_waiting
from .transforms import Transform

Target = dict[str, Any]

#: Seconds to wait for a batch: a slow disk needs less, and a process that hangs should not be waited for all night.
PATIENCE = 600.0

FEWER_PROCESSES = (
    "Read with fewer processes (--workers 0, or DYHEAD_WORKERS=0 in the environment), or give them more memory "
    "(in Docker: --shm-size=2g)"
)


class InMemory(Dataset):
    """A data set that is decoded once and kept as uint8: 77 kB for an image of 160 pixels.

    Only for small sets. Images come out as they would from ``dataset``, which must hold 8-bit images in [0, 1].
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._kept: dict[int, tuple[torch.Tensor, Target]] = {}

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        if index not in self._kept:
            image, target = self.dataset[index]
            self._kept[index] = (image * 255).round().byte(), target
        pixels, target = self._kept[index]
        return pixels.float() / 255, target


class RandomDraws(Dataset):
    """A data set under a random transform, indexed by draws (index, seed).

    Targets keep what stays true of the transformed image: ``boxes``, ``labels``, ``image_id``, and ``masks`` where
    the data set has them.

    Args:
        dataset: gives (image (3, H, W), target with ``boxes`` (n, 4) xyxy, ``labels`` (n,), ``image_id`` and
            perhaps ``masks`` (n, H, W) bool).
        transform: a torchvision v2 transform; boxes reach it as ``BoundingBoxes`` of the image's canvas, masks as
            ``Mask``.
    """

    def __init__(self, dataset: Dataset, transform: Transform):
        self.dataset = dataset
        self.transform = transform

    def __getitem__(self, draw: tuple[int, int]) -> tuple[torch.Tensor, Target]:
        index, seed = draw
        image, target = self.dataset[index]
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[-2:])  # type: ignore[call-arg]
        given = {"boxes": boxes, "labels": target["labels"]}
        if "masks" in target:
            given["masks"] = tv_tensors.Mask(target["masks"])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 0.2 ms: it seeds GPUs too
            image, drawn = self.transform(tv_tensors.Image(image), given)
        plain = {name: value.as_subclass(torch.Tensor) for name, value in drawn.items()}
        return image.as_subclass(torch.Tensor), {**plain, "image_id": target["image_id"]}


class ErrorsAsValues(Dataset):
    """A data set that gives a :class:`UserError` in place of the item that raised it.

    What is raised in a process that reads comes out of a ``DataLoader`` with a traceback for its message; a value
    comes out as it is. :class:`RaisingLoader` raises it.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.dataset[index]
        except UserError as error:
            return error


class RaisingLoader(DataLoader):
    """A ``DataLoader`` of :class:`ErrorsAsValues`, for any number of processes; its batches are :func:`as_lists`.

    Args:
        dataset: what to read.
        timeout: seconds to wait for a batch from other processes.
        settings: further arguments of ``DataLoader``.

    Raises:
        UserError: an item of the next batch did; the message is the same wherever it was read. Or a process that reads
            was ended, gave nothing for ``timeout`` seconds, or found the shared memory full.
    """

    def __init__(self, dataset: Dataset, timeout: float = PATIENCE, **settings: Any):
        timeout = timeout if settings.get("num_workers") else 0
        super().__init__(ErrorsAsValues(dataset), collate_fn=_lists_or_error, timeout=timeout, **settings)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # iterating is all that is done with it
        for batch in self._told_of_processes(super().__iter__()):
            if isinstance(batch, UserError):
                try:
                    raise batch
                finally:
                    del batch  # its traceback holds this frame: a circle would keep the processes
            yield batch

    def _told_of_processes(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from while_waiting(batches) if self.num_workers else batches
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            if not reason.startswith("DataLoader "):  # raised by an item
                raise
            raise UserError(f"{reason} It is one of {self.num_workers} that read images. {FEWER_PROCESSES}") from error


class EndlessBatches(Sampler):
    """Shuffled batches of draws without end, which can start at any iteration.

    All processes count through one endless shuffled sequence. Without groups, iteration i takes its positions
    i*batch_size ... (i+1)*batch_size - 1. With groups, images wait until a batch of their group is complete, so
    that an image may come a little later than its place in the sequence. Process ``rank`` of ``world`` takes every
    world-th draw of a batch.

    Args:
        length: size of the data set, at least 1.
        batch_size: global batch size, a multiple of ``world``.
        seed: of the order and of the draws.
        start: iteration to begin with.
        rank, world: which process of how many.
        groups: a number for every image; a batch holds images of one number only.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        groups: Sequence[int] | None = None,
    ):
        if length < 1:
            raise ValueError(f"length: expected at least 1 image, got {length}")
        if batch_size % world:
            raise ValueError(f"batch_size: expected a multiple of the {world} processes, got {batch_size}")
        if groups is not None and len(groups) != length:
            raise ValueError(f"groups: expected one number for each of {length} images, got {len(groups)}")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.start, self.rank, self.world, self.groups = start, rank, world, groups

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batches = self._in_order() if self.groups is None else self._in_groups(self.groups)
        for batch in batches:
            yield batch[self.rank :: self.world]

    def _in_order(self) -> Iterator[list[tuple[int, int]]]:
        draws = self._draws(self.start * self.batch_size)
        while True:
            yield [next(draws) for _ in range(self.batch_size)]

    def _in_groups(self, groups: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
        """Which images wait depends on all that came before, so the sequence is counted from its beginning."""
        waiting: dict[int, list[tuple[int, int]]] = {group: [] for group in set(groups)}
        iteration = 0
        for draw in self._draws(0):
            batch = waiting[groups[draw[0]]]
            batch.append(draw)
            if len(batch) == self.batch_size:
                waiting[groups[draw[0]]] = []
                iteration += 1
                if iteration > self.start:
                    yield batch

    def _draws(self, position: int) -> Iterator[tuple[int, int]]:
        """The endless sequence of draws (index, seed) from ``position`` on."""
        while True:
            order = self._order(position // self.length)
            for index in order[position % self.length :]:
                yield index, self.seed * 2**32 + position
                position += 1

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed + epoch * 1_000_003)
        return torch.randperm(self.length, generator=generator).tolist()


def as_lists(batch: list[tuple[torch.Tensor, Target]]) -> tuple[list[torch.Tensor], list[Target]]:
    """Collate a batch the way detectors take it: a list of images and a list of targets."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def _lists_or_error(batch: list[Any]) -> Any:
    """A batch as lists, or the first error in it: collating happens in the process that reads."""
    errors = [item for item in batch if isinstance(item, UserError)]
    if errors:
        return errors[0]
    if get_worker_info() is None:
        return as_lists(batch)
    try:
        return _shared(batch)
    except RuntimeError as error:
        return UserError(f"{_shared_memory()} a batch of {len(batch)} images does not fit ({error}). {FEWER_PROCESSES}")


def _shared(batch: list[tuple[torch.Tensor, Target]]) -> tuple[list[torch.Tensor], list[Target]]:
    """A batch as lists, with its tensors moved to where the other process finds them.

    PyTorch would do so by itself, but in a thread whose errors reach nobody: the other process would wait for ever.
    """
    images, targets = as_lists(batch)
    for image, target in zip(images, targets, strict=True):
        for tensor in (image, *target.values()):
            if isinstance(tensor, torch.Tensor):
                tensor.share_memory_()
    return images, targets


def _shared_memory() -> str:
    """How much memory processes may share, as the beginning of a sentence."""
    total = shared_memory()
    if total is None:
        return "of the memory that processes share"
    return f"/dev/shm has {total / 2**20:.0f} MB for what processes share;"
