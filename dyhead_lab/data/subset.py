"""A fixed part of a data set, for when the whole takes too long."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import Dataset

from .coco import CocoDetection
from .coco_json import index_coco
from .dataset import DetectionData, place_of


def fraction_of(dataset: DetectionData, fraction: float) -> DetectionData:
    """A fixed share of the images: the same on every machine, and a smaller share lies inside a larger one.

    Args:
        dataset: is not changed.
        fraction: in (0, 1]; of n images, ``round(fraction * n)`` are kept, at least one.

    Raises:
        ValueError: ``fraction`` is out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: expected a share in (0, 1], got {fraction}")
    return dataset if fraction == 1 else fixed_images(dataset, max(1, round(fraction * len(dataset))))


def fixed_images(dataset: DetectionData, images: int) -> DetectionData:
    """The ``images`` images whose ids have the smallest SHA-256, in the order of the data set; all if there are fewer.

    A hash and no random number: which images are chosen depends on no library's generator.
    """
    chosen = set(sorted(dataset.image_ids, key=_digest)[:images])
    if not isinstance(dataset, CocoDetection):
        return Part(dataset, [index for index, image in enumerate(dataset.image_ids) if image in chosen])
    part = copy.copy(dataset)
    part.image_ids = [image for image in dataset.image_ids if image in chosen]
    part.coco = _ground_truth_of(dataset.coco, chosen)
    return part


class Part(Dataset):
    """Some images of any data set, in its order.

    Args:
        dataset: is not changed.
        indices: of the images that are kept.
    """

    def __init__(self, dataset: DetectionData, indices: Sequence[int]):
        self.dataset, self.indices, self.annotations = dataset, indices, place_of(dataset)
        self.categories, self.category_ids = dataset.categories, dataset.category_ids
        self.image_ids = [dataset.image_ids[index] for index in indices]
        self.coco = _ground_truth_of(dataset.coco, set(self.image_ids))

    @property
    def masks(self) -> bool:
        """Whether the targets of the whole set hold masks."""
        return getattr(self.dataset, "masks", False)

    @masks.setter
    def masks(self, wanted: bool) -> None:
        self.dataset.masks = wanted  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.dataset[self.indices[index]]


def _ground_truth_of(coco: COCO, images: set[int]) -> COCO:
    """The ground truth of some images."""
    return index_coco(
        {
            **coco.dataset,
            "images": [record for record in coco.dataset["images"] if record["id"] in images],
            "annotations": [a for a in coco.dataset["annotations"] if a["image_id"] in images],
        }
    )


def _digest(image_id: int) -> str:
    return hashlib.sha256(str(image_id).encode()).hexdigest()
