"""Pictures of three heights with their targets: a batch in which two are padded."""

from __future__ import annotations

from torch import Tensor

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_lab.detectors.image_batch import normalise_targets


def padded_batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images (3, H, 160) with H of 160, 128 and 96, and the objects that lie whole inside, normalised."""
    data = DrawnShapes(3)
    images = [data.image(i)[:, : 160 - 32 * i] for i in range(3)]
    objects = [data.objects(i) for i in range(3)]
    for target, image in zip(objects, images, strict=True):
        inside = target["boxes"][:, 3] <= image.shape[1]
        target.update({name: value[inside] for name, value in target.items()})
    return images, normalise_targets(objects, images, 6)
