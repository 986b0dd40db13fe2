"""Batches in which every image has the padding that it would have alone.

Detectors pad the images of a batch to the largest. Padding takes part in the means and normalisations of a Dynamic
Head, and in the encoder of DETR's family, so what is found in an image would depend on the images beside it: on 120
pictures of five shapes the quickstart detector had AP 0.415 one by one and 0.372 in batches of 8.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache, partial
from typing import TypeVar

import torch
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

Size = tuple[int, int]  # height, width
Item = TypeVar("Item")

#: Images that wait for others of their size, in batches; more would only cost memory.
WAITING = 4


def padded_size(model: nn.Module) -> Callable[[int, int], Size]:
    """The function (H, W) of an image -> (H, W) of the batch that a detector in evaluation mode makes of it alone.

    A detector says so by a method ``padded_size(height, width)``; torchvision's transform, which resizes an image and
    pads it to a multiple, is asked in its place. Of others nothing is known, so that images share a batch only where
    they are of one size from the start.
    """
    if callable(getattr(model, "padded_size", None)):
        return cache(model.padded_size)  # type: ignore[arg-type]  # nn.Module declares every attribute a tensor or module
    transform = getattr(model, "transform", None)
    if isinstance(transform, GeneralizedRCNNTransform):
        return cache(partial(_size_after, transform))
    return lambda height, width: (height, width)


def _size_after(transform: GeneralizedRCNNTransform, height: int, width: int) -> Size:
    """Asked with an image without pixels, so that its formulas stay its own."""
    batch, _ = transform([torch.empty(3, height, width, device="meta")])
    rows, columns = batch.tensors.shape[-2:]
    return rows, columns


def batches_of_one_size(
    items: Iterable[Item], size_of: Callable[[Item], Hashable], batch_size: int
) -> Iterator[list[Item]]:
    """Batches of items of one size, in the order in which they become full.

    Items wait until a batch of their size is complete. Where ``WAITING`` batches of items wait, those of the commonest
    size go on in a smaller batch; those left at the end likewise.

    Args:
        items: in any order.
        size_of: what the items of a batch have in common.
        batch_size: most items of a batch.
    """
    waiting: dict[Hashable, list[Item]] = {}
    for item in items:
        group = waiting.setdefault(size_of(item), [])
        group.append(item)
        if len(group) == batch_size:
            yield waiting.pop(size_of(item))
        elif sum(map(len, waiting.values())) == WAITING * batch_size:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()
