"""What losses share: the places that belong to objects, and how many objects a sum is divided by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import sigmoid_focal_loss

from .anchors import sides

#: What a matcher writes where no object is: background, and places that are neither one nor the other.
BACKGROUND, IGNORED = -1, -2


class Positives(NamedTuple):
    """The places of a batch that belong to an object, image by image."""

    image: Tensor  #: (n,)
    place: Tensor  #: (n,), in 0..N-1
    boxes: Tensor  #: the objects' boxes, (n, 4)
    labels: Tensor  #: their labels, (n,)
    total: Tensor  #: n, at least 1 in all; the mean over all training processes: what sums are divided by


def find_positives(matched_BN: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> Positives:
    """The positive places, with their objects.

    Args:
        matched_BN: index of the object of each place, (B, N); negative where there is none.
        targets: per image ``boxes`` (n, 4) and ``labels`` (n,); n may be 0.
    """
    image, place = (matched_BN >= 0).nonzero(as_tuple=True)  # the one wait for the device, whatever B is
    object = matched_BN[image, place]
    boxes_BG4, labels_BG = (pad_sequence([t[name] for t in targets], batch_first=True) for name in ("boxes", "labels"))
    boxes, labels = boxes_BG4[image, object], labels_BG[image, object]
    total = mean_over_processes(boxes.new_full((), len(boxes)), least=1)
    return Positives(image, place, boxes, labels, total)


def classification_loss(logits_BNK: Tensor, matched_BN: Tensor, positives: Positives) -> Tensor:
    """Focal loss (alpha 0.25, gamma 2), summed over all places that are not ignored, per positive place.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
    """
    is_class_BNK = ones_at(logits_BNK, positives.image, positives.place, positives.labels)
    focal_BN = sigmoid_focal_loss(logits_BNK, is_class_BNK, alpha=0.25, gamma=2).sum(-1)
    return focal_BN.masked_fill(matched_BN == IGNORED, 0.0).sum() / positives.total


def ones_at(x: Tensor, *index: Tensor) -> Tensor:
    """Zeros like ``x``, with ones at ``index``: an index (n,) into each of its dimensions."""
    # The one is made on the device: ``zeros[index] = 1`` would copy it there, and the host would wait for that.
    return torch.zeros_like(x).index_put_(index, x.new_ones(()))


def mean_over_processes(value: Tensor, least: float | None = None) -> Tensor:
    """The mean of a detached ``value`` over all training processes; ``value`` itself when there is one.

    Args:
        least: what the sum over all processes counts as, where it is smaller.
    """
    processes = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value, processes = value.clone(), torch.distributed.get_world_size()
        torch.distributed.all_reduce(value)
    return (value if least is None else value.clamp(min=least)) / processes


class WholeBatch(NamedTuple):
    """The batch of one step of this process, of which a model may see one part at a time."""

    counts: tuple[int, ...]  #: objects of each of its images
    parts: int  #: equal parts that it comes in


_whole_batch: ContextVar[WholeBatch | None] = ContextVar("whole_batch", default=None)


@contextmanager
def in_parts(counts: Sequence[int], parts: int) -> Iterator[None]:
    """Inside the ``with`` block a model sees a batch in ``parts`` parts, whose losses will be averaged.

    Args:
        counts: objects of each image of the whole batch.
        parts: how many parts.
    """
    token = _whole_batch.set(WholeBatch(tuple(counts), parts))
    try:
        yield
    finally:
        _whole_batch.reset(token)


def whole_batch(counts: Sequence[int]) -> WholeBatch:
    """The batch to which images with ``counts`` objects belong: what :func:`in_parts` said, else they are all of it."""
    return _whole_batch.get() or WholeBatch(tuple(counts), 1)


def share_gradient(x: Tensor, share: float) -> Tensor:
    """``x``, of whose gradient only ``share`` passes."""
    return share * x + (1 - share) * x.detach()


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """How central points (n, 2) lie in boxes (n, 4): 1 at the centre, 0 at the sides, (n,). Points lie
    inside.

        sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))

    Source: Tian et al., "FCOS", ICCV 2019, equation 3.
    """
    left_top, right_bottom = sides(points, boxes).chunk(2, -1)
    ratio = torch.minimum(left_top, right_bottom) / torch.maximum(left_top, right_bottom)
    return ratio.prod(-1).sqrt()
