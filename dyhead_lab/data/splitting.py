"""Part a data set that has one split, as annotation tools export it, into one to train on and one to evaluate on."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..errors import UserError
from .coco import CocoDetection, coco_folder
from .coco_writer import WrittenSplit, store_image
from .subset import fixed_images


def split_folder(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], val: float = 0.2
) -> dict[str, WrittenSplit]:
    """Write ``out/train`` and ``out/val``, each with ``annotations.json`` and ``images/``.

    Which images go to ``val`` depends on their ids alone, as in :func:`~.subset.fixed_images`: it is the same on every
    machine. Images are hard links where the file system allows it, copies elsewhere.

    Args:
        folder: a data set that :func:`~.coco.coco_folder` opens, with one split.
        out: where the splits go; files of an earlier call are replaced.
        val: share of the images in ``val``, in (0, 1); each split gets one image at least.

    Returns:
        What was written, by split.

    Raises:
        UserError: the share is out of range, or the data set is unusable or has other than one split or one image.
    """
    if not 0 < val < 1:
        raise UserError(f"val: expected a share between 0 and 1, got {val}")
    dataset = coco_folder(folder)
    if len(dataset) < 2:
        raise UserError(f"{dataset.annotations} has {len(dataset)} image(s): two splits need two")
    count = min(max(1, round(val * len(dataset))), len(dataset) - 1)
    in_val = set(fixed_images(dataset, count).image_ids)
    return {
        "train": _write(dataset, set(dataset.image_ids) - in_val, Path(out) / "train"),
        "val": _write(dataset, in_val, Path(out) / "val"),
    }


def _write(dataset: CocoDetection, ids: set[int], out: Path) -> WrittenSplit:
    """Write some images of a data set, with all that its file says of them."""
    images = []
    for index, id in enumerate(dataset.image_ids):
        if id in ids:
            source = dataset.image_path(index)
            name = Path(os.path.relpath(source, dataset.images)).as_posix()
            store_image(source, out / "images" / name)
            images.append({**dataset.coco.imgs[id], "file_name": name})
    annotations = [a for a in dataset.coco.dataset["annotations"] if a["image_id"] in ids]
    content = {**dataset.coco.dataset, "images": images, "annotations": annotations}
    (out / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return WrittenSplit(len(images), len(annotations))
