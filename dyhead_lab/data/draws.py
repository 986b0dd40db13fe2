"""Repeatable randomness: which image comes when, and how it is transformed.

A draw is named by a pair (index, seed). Its transform depends on the seed alone, not on the worker that loads it
or on how many draws came before. That is what lets a killed run continue exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors

from .transforms import Transform

Target = dict[str, Any]


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

    Args:
        dataset: gives (image (3, H, W), target with ``boxes`` (n, 4) xyxy and ``labels`` (n,)).
        transform: a torchvision v2 transform; boxes reach it as ``BoundingBoxes`` of the image's canvas.
    """

    def __init__(self, dataset: Dataset, transform: Transform):
        self.dataset = dataset
        self.transform = transform

    def __getitem__(self, draw: tuple[int, int]) -> tuple[torch.Tensor, Target]:
        index, seed = draw
        image, target = self.dataset[index]
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[-2:])  # type: ignore[call-arg]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            image, target = self.transform(tv_tensors.Image(image), {**target, "boxes": boxes})
        return image.as_subclass(torch.Tensor), {**target, "boxes": target["boxes"].as_subclass(torch.Tensor)}


class EndlessBatches(Sampler):
    """Shuffled batches of draws without end, which can start at any iteration.

    All processes count through one endless shuffled sequence; iteration i takes its positions
    i*batch_size ... (i+1)*batch_size - 1, and process ``rank`` of ``world`` takes every world-th of them.

    Args:
        length: size of the data set, at least 1.
        batch_size: global batch size, a multiple of ``world``.
        seed: of the order and of the draws.
        start: iteration to begin with.
        rank, world: which process of how many.
    """

    def __init__(self, length: int, batch_size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1):
        if length < 1:
            raise ValueError(f"length: expected at least 1 image, got {length}")
        if batch_size % world:
            raise ValueError(f"batch_size: expected a multiple of the {world} processes, got {batch_size}")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.start, self.rank, self.world = start, rank, world

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed + epoch * 1_000_003)
        return torch.randperm(self.length, generator=generator).tolist()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        iteration, epoch, order = self.start, -1, []
        while True:
            first = iteration * self.batch_size + self.rank
            batch = []
            for position in range(first, (iteration + 1) * self.batch_size, self.world):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = self._order(epoch)
                batch.append((order[position % self.length], self.seed * 2**32 + position))
            yield batch
            iteration += 1


def as_lists(batch: list[tuple[torch.Tensor, Target]]) -> tuple[list[torch.Tensor], list[Target]]:
    """Collate a batch the way detectors take it: a list of images and a list of targets."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)
