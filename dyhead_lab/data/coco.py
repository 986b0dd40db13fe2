"""Data sets in COCO format: one JSON file of annotations beside a folder of images."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from .coco_json import Problem, index_coco, load_coco_json, summarise
from .images import exif_orientation, read_image


class CocoDetection(Dataset):
    """Images and boxes of a COCO file.

    ``dataset[i]`` is ``(image, target)``. The image is a float tensor (3, H, W) in [0, 1]. The target holds

    - ``boxes`` (n, 4) float32, xyxy in pixels, inside the image; n may be 0
    - ``labels`` (n,) int64 in 0..K-1, the places of the categories in ascending order of their ids
    - ``area`` (n,) float32, in square pixels: of the segment where the file has one, else of the box
    - ``iscrowd`` (n,) bool
    - ``image_id`` int, ``size`` (H, W) ints
    - with ``masks``, ``masks`` (n, H, W) uint8, 1 on the pixels of the object

    Crowd annotations mark groups in which nobody counted the objects. They stay in :attr:`coco`, because the
    COCO metric ignores detections inside them, and they are left out of the targets, because a detector must
    not learn one box around a group.

    Args:
        images: folder that the file names of the JSON are relative to.
        annotations: the JSON file.
        crowd: ``"drop"`` leaves crowd annotations out of the targets, ``"keep"`` leaves them in.
        masks: whether the targets hold masks, drawn from the polygons or run lengths of the JSON.

    Attributes:
        masks: as the argument; may be set later.
        categories: K names, in the order of the labels.
        category_ids: K ids of the JSON, in the order of the labels.
        image_ids: id of each image, in the order of the data set.
        coco: pycocotools' ``COCO`` of the mended ground truth, for evaluation.
        problems: what was mended or dropped (see :mod:`dyhead_lab.data.coco_json`); a warning sums it up.

    Raises:
        UserError: the JSON is unusable, or (on access) an image is missing, broken or not of the stated size.
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        crowd: Literal["drop", "keep"] = "drop",
        masks: bool = False,
    ):
        if crowd not in ("drop", "keep"):
            raise ValueError(f"crowd must be 'drop' or 'keep', got {crowd!r}")
        self.images, self.annotations, self.crowd = Path(images), Path(annotations), crowd
        self.masks = masks
        self.problems: list[Problem]
        dataset, self.problems = load_coco_json(annotations)
        self.coco = index_coco(dataset)
        self.image_ids: list[int] = [image["id"] for image in dataset["images"]]
        self.category_ids: list[int] = sorted(self.coco.cats)
        self.categories: list[str] = [self.coco.cats[id]["name"] for id in self.category_ids]
        self._labels = {id: label for label, id in enumerate(self.category_ids)}
        if self.problems:
            warnings.warn(f"{annotations}:\n{summarise(self.problems)}", stacklevel=2)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        record = self.coco.imgs[self.image_ids[index]]
        path = self.images / record["file_name"]
        image = read_image(path)
        _check_size(path, image, record)
        return image, self.target(index)

    def target(self, index: int) -> dict[str, Any]:
        """The target of image ``index``, without reading the image."""
        record = self.coco.imgs[self.image_ids[index]]
        annotations = self.coco.imgToAnns.get(record["id"], [])
        if self.crowd == "drop":
            annotations = [a for a in annotations if not a["iscrowd"]]
        boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(0, record["width"])
        boxes[:, 1::2].clamp_(0, record["height"])
        target = {
            "boxes": boxes,
            "labels": torch.tensor([self._labels[a["category_id"]] for a in annotations], dtype=torch.int64),
            "area": torch.tensor([a["area"] for a in annotations], dtype=torch.float32),
            "iscrowd": torch.tensor([bool(a["iscrowd"]) for a in annotations], dtype=torch.bool),
            "image_id": record["id"],
            "size": (record["height"], record["width"]),
        }
        if self.masks:
            target["masks"] = self._draw_masks(annotations, target["size"])
        return target

    def _draw_masks(self, annotations: list[dict[str, Any]], size: tuple[int, int]) -> Tensor:
        """Masks (n, H, W) of the annotations of one image.

        Raises:
            UserError: one has no segmentation.
        """
        without = [a["id"] for a in annotations if not a.get("segmentation")]
        if without:
            raise UserError(f"{self.annotations}: masks are needed, but annotation {without[0]} has no segmentation")
        drawn = [torch.from_numpy(self.coco.annToMask(a)) for a in annotations]
        return torch.stack(drawn) if drawn else torch.zeros(0, *size, dtype=torch.uint8)


def _check_size(path: Path, image: Tensor, record: dict[str, Any]) -> None:
    """Refuse an image whose boxes were drawn on a picture of another size."""
    stored, stated = tuple(image.shape[1:]), (record["height"], record["width"])
    if stored == stated:
        return
    message = f"{path} is {stored[1]}x{stored[0]}, but the annotations say {stated[1]}x{stated[0]}"
    if stored == stated[::-1] and exif_orientation(path) > 4:
        message += "; its EXIF orientation turns it, so rotate the file itself or box the stored pixels"
    raise UserError(message)


class Split(NamedTuple):
    """Where one split of a data set lies."""

    images: Path
    annotations: Path


def find_splits(folder: str | os.PathLike[str]) -> dict[str, Split]:
    """The splits in a folder, by name.

    Three layouts are known:

    - ``annotations.json`` beside ``images/``: one split, named ``""``
    - folders of that layout, such as ``train/`` and ``val/``: named as the folders
    - COCO's own: ``annotations/instances_NAME.json``, images in ``NAME/`` or ``images/NAME/``; named ``NAME``
    """
    folder = Path(folder)
    splits = {}
    for name, place in [("", folder), *((p.name, p) for p in sorted(folder.glob("*/")))]:
        if (place / "annotations.json").is_file() and (place / "images").is_dir():
            splits[name] = Split(place / "images", place / "annotations.json")
    for file in sorted(folder.glob("annotations/instances_*.json")):
        name = file.stem.removeprefix("instances_")
        for images in (folder / name, folder / "images" / name):
            if images.is_dir():
                splits[name] = Split(images, file)
                break
    return splits


def coco_folder(
    folder: str | os.PathLike[str],
    split: str | None = None,
    crowd: Literal["drop", "keep"] = "drop",
    masks: bool = False,
) -> CocoDetection:
    """Open one split of a folder whose layout :func:`find_splits` knows.

    Args:
        folder: the data set.
        split: its name, with or without the year (``"val"`` finds ``val2017``). None takes the only one.
        crowd, masks: see :class:`CocoDetection`.

    Raises:
        UserError: the folder, or the split in it, is missing or the name fits several.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"data folder not found: {folder}")
    splits = find_splits(folder)
    if not splits:
        raise UserError(
            f"{folder} holds no COCO data set; looked for annotations.json with images/, for folders such as "
            "train/ with both inside, and for annotations/instances_NAME.json with NAME/ or images/NAME/"
        )
    fitting = [name for name in splits if split in (None, name)]
    fitting = fitting or [name for name in splits if split == name.rstrip("0123456789")]
    there = ", ".join(repr(name) if name else "one without a name (annotations.json)" for name in splits)
    if not fitting:
        raise UserError(
            f"{folder} has no split {split!r}; looked for {split}/annotations.json and "
            f"annotations/instances_{split}*.json; it has {there}"
        )
    if len(fitting) > 1:
        raise UserError(f"{folder} has several splits that fit, {there}: name one of them")
    return CocoDetection(*splits[fitting[0]], crowd=crowd, masks=masks)
