"""Data sets in COCO format: one JSON file of annotations beside a folder of images."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from .coco_checks import refuse_if_most_lack_masks
from .coco_json import index_coco, load_coco_json
from .coco_problems import Problem, summarise
from .image_files import locate_images
from .images import exif_orientation, read_image, upright
from .layouts import choose_split
from .segmentations import check_segmentation


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
        masks: as the argument; may be set later. What has no segmentation is then left out of the targets.
        categories: K names, in the order of the labels.
        category_ids: K ids of the JSON, in the order of the labels.
        image_ids: id of each image, in the order of the data set.
        coco: pycocotools' ``COCO`` of the mended ground truth, for evaluation.
        problems: what was mended or dropped of single annotations (see :mod:`dyhead_lab.data.coco_json`).
        notes: what was mended or looks wrong in the whole; a warning sums up both.

    Raises:
        UserError: the JSON is unusable, masks are wanted and half of the annotations or more have none, or (on
            access) an image is missing, broken or not of the stated size.
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
        file = load_coco_json(annotations)
        self.coco = index_coco(file.dataset)
        self.image_ids: list[int] = [image["id"] for image in file.dataset["images"]]
        self.category_ids: list[int] = sorted(self.coco.cats)
        self.categories: list[str] = [self.coco.cats[id]["name"] for id in self.category_ids]
        self._labels = {id: label for label, id in enumerate(self.category_ids)}
        self._files = locate_images(self.images, (image["file_name"] for image in file.dataset["images"]))
        self.problems, self.notes = file.problems, file.notes + self._files.notes()
        if self.problems or self.notes:
            warnings.warn("\n".join([f"{annotations}:", *self.notes, summarise(self.problems)]).rstrip(), stacklevel=2)
        self._masks = False
        self.masks = masks

    @property
    def masks(self) -> bool:
        """Whether the targets hold masks."""
        return self._masks

    @masks.setter
    def masks(self, wanted: bool) -> None:
        if wanted and not self._masks:
            self._check_segmentations()
        self._masks = wanted

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        record = self.coco.imgs[self.image_ids[index]]
        path = self.image_path(index)
        return self._as_annotated(path, read_image(path), record), self.target(index)

    def image_path(self, index: int) -> Path:
        """The file of image ``index``, which :func:`~.image_files.locate_images` has found.

        Raises:
            UserError: it has not.
        """
        name = self.coco.imgs[self.image_ids[index]]["file_name"]
        if name in self._files.missing:
            raise UserError(self._missing(name))
        return self._files.elsewhere.get(name, self.images / name)

    def _as_annotated(self, path: Path, image: Tensor, record: dict[str, Any]) -> Tensor:
        """The image as its boxes were drawn on it: of the stated size, for which EXIF may have to turn it upright.

        Raises:
            UserError: it has another size.
        """
        stored, stated = tuple(image.shape[1:]), (record["height"], record["width"])
        if stored == stated:
            return image
        orientation = exif_orientation(path) if stored == stated[::-1] else 1
        if orientation <= 4:  # it does not swap the sides
            raise UserError(f"{path} is {stored[1]}x{stored[0]}, but the annotations say {stated[1]}x{stated[0]}")
        warnings.warn(
            f"{self.annotations} states sizes of upright images, so those that EXIF lays on their side are turned. One "
            "that stands on its head, or is mirrored, shows in no size: it is taken as it is stored",
            stacklevel=3,
        )
        return upright(image, orientation)

    def refuse_missing_images(self) -> None:
        """Refuse a data set that would end a training at the first image that is not there.

        Raises:
            UserError: images are missing; it says how many, and names the first.
        """
        if self._files.missing:
            first = next(iter(self._files.missing))
            of = len({image["file_name"] for image in self.coco.imgs.values()})
            raise UserError(f"{len(self._files.missing)} of {of} images are missing: {self._missing(first)}")

    def _missing(self, name: str) -> str:
        why = self._files.missing[name]
        return f"{self.annotations} names {name!r}, which is not in {self.images}" + f"; {why}" * bool(why)

    def target(self, index: int) -> dict[str, Any]:
        """The target of image ``index``, without reading the image."""
        record = self.coco.imgs[self.image_ids[index]]
        annotations = self.coco.imgToAnns.get(record["id"], [])
        annotations = [a for a in annotations if self._is_wanted(a) and not (self.masks and a["segmentation"] is None)]
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

    def _is_wanted(self, annotation: dict[str, Any]) -> bool:
        return self.crowd == "keep" or not annotation["iscrowd"]

    def _check_segmentations(self) -> None:
        """Mend the segmentations in :attr:`coco`, so that pycocotools can draw all that are not None.

        Raises:
            UserError: half of the annotations in targets or more have none.
        """
        problems: list[Problem] = []
        for position, annotation in enumerate(self.coco.dataset["annotations"]):
            image, given = self.coco.imgs[annotation["image_id"]], annotation.get("segmentation")
            annotation["segmentation"], fault = check_segmentation(given, image["height"], image["width"])
            if fault and self._is_wanted(annotation):
                done = "mended" if annotation["segmentation"] else "left out of the targets, which need masks"
                problems.append(Problem(annotation["id"], position, fault, given, done))
        wanted = sum(map(self._is_wanted, self.coco.dataset["annotations"]))
        refuse_if_most_lack_masks(self.annotations, wanted, problems)
        if problems:
            self.problems = [*self.problems, *problems]
            warnings.warn(f"{self.annotations}:\n{summarise(problems)}", stacklevel=3)

    def _draw_masks(self, annotations: list[dict[str, Any]], size: tuple[int, int]) -> Tensor:
        """Masks (n, H, W) of annotations of one image that have checked segmentations."""
        drawn = [torch.from_numpy(self.coco.annToMask(a)) for a in annotations]
        return torch.stack(drawn) if drawn else torch.zeros(0, *size, dtype=torch.uint8)


def coco_folder(
    folder: str | os.PathLike[str],
    split: str | None = None,
    crowd: Literal["drop", "keep"] = "drop",
    masks: bool = False,
) -> CocoDetection:
    """Open one split of a folder whose layout :func:`~.layouts.find_splits` knows.

    Args:
        folder: the data set.
        split: its name, as :func:`~.layouts.choose_split` takes it (``"val"`` finds ``val2017`` and ``valid``).
            None takes the only one.
        crowd, masks: see :class:`CocoDetection`.

    Raises:
        UserError: the folder, the split in it, or an image is missing, the name fits several splits, or the JSON is
            unusable.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"data folder not found: {folder}")
    dataset = CocoDetection(*choose_split(folder, split), crowd=crowd, masks=masks)
    dataset.refuse_missing_images()
    return dataset
