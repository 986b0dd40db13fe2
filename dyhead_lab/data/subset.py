"""A fixed part of a data set, for when the whole takes too long."""

from __future__ import annotations

import copy
import hashlib

from .coco import CocoDetection
from .coco_json import index_coco


def fraction_of(dataset: CocoDetection, fraction: float) -> CocoDetection:
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


def fixed_images(dataset: CocoDetection, images: int) -> CocoDetection:
    """The ``images`` images whose ids have the smallest SHA-256, in the order of the data set; all if there are fewer.

    A hash and no random number: which images are chosen depends on no library's generator.
    """
    chosen = set(sorted(dataset.image_ids, key=_digest)[:images])
    part = copy.copy(dataset)
    part.image_ids = [image for image in dataset.image_ids if image in chosen]
    part.coco = index_coco(
        {
            **dataset.coco.dataset,
            "images": [record for record in dataset.coco.dataset["images"] if record["id"] in chosen],
            "annotations": [a for a in dataset.coco.dataset["annotations"] if a["image_id"] in chosen],
        }
    )
    return part


def _digest(image_id: int) -> str:
    return hashlib.sha256(str(image_id).encode()).hexdigest()
