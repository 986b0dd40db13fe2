"""What a data set gives to training and evaluation, and a base class that makes one of a few methods.

A set of your own says which classes there are, how many images, and what is in each::

    class Cells(DetectionSet):
        categories = ["round", "long"]

        def __len__(self):
            return 100

        def image(self, index):
            return read_image(f"cells/{index}.png")                     # (3, H, W) floats in [0, 1]

        def objects(self, index):
            return {"boxes": torch.tensor(...), "labels": torch.tensor(...)}   # (n, 4) xyxy in pixels, (n,) from 0

A recipe calls ``dataset(split)``, so ``def cells(split): return Cells(...)`` is its ``dataset``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from .coco_json import index_coco

#: So far beyond [0, 1] the values of an image may reach: resizing with a bicubic filter overshoots at edges.
OVERSHOOT = 0.2


class DetectionData(Protocol):
    """All that training and evaluation ask of a data set. :class:`DetectionSet` and ``CocoDetection`` give it.

    ``dataset[i]`` is ``(image, target)``: the image (3, H, W) in [0, 1]; the target with ``boxes`` (n, 4) xyxy in
    pixels, ``labels`` (n,) in 0..K-1, ``image_id``, and ``masks`` (n, H, W) of 0 and 1 where the detector learns them.
    """

    @property
    def categories(self) -> list[str]:
        """K names, in the order of the labels."""

    @property
    def category_ids(self) -> list[int]:
        """K ids of the ground truth, in the order of the labels."""

    @property
    def image_ids(self) -> list[int]:
        """The id of each image, in the order of the set."""

    @property
    def coco(self) -> COCO:
        """The ground truth as pycocotools holds it: images with sizes, categories, annotations with ids from 1."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]: ...


class DetectionSet(Dataset, ABC):
    """A data set from four things: ``categories``, ``__len__``, :meth:`image` and :meth:`objects`.

    Attributes:
        categories: K names, in the order of the labels.
        masks: whether targets must hold masks; a recipe that learns them sets it.
    """

    categories: Sequence[str]
    masks: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Image ``index``, floats (3, H, W) in [0, 1]."""

    @abstractmethod
    def objects(self, index: int) -> Mapping[str, Any]:
        """What is in image ``index``: ``boxes`` (n, 4) xyxy in pixels and ``labels`` (n,) in 0..K-1; n may be 0.

        ``masks`` (n, H, W) of 0 and 1 and ``area`` (n,), in square pixels, may stand beside them. Crowd regions have
        no place here: for them write COCO's format and open it with ``CocoDetection``.
        """

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of image ``index``. It is asked for every image; override it where that is known without reading."""
        height, width = self.image(index).shape[-2:]
        return int(height), int(width)

    @property
    def category_ids(self) -> list[int]:
        return list(range(1, len(self.categories) + 1))

    @property
    def image_ids(self) -> list[int]:
        return list(range(1, len(self) + 1))

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = self._checked(index, self.image(index))
        return image, self.target(index, (int(image.shape[1]), int(image.shape[2])))

    def _checked(self, index: int, image: Any) -> Tensor:
        """The image in float32, which detectors compute in.

        Raises:
            UserError: it is no tensor of floats (3, H, W), or its values do not lie in [0, 1].
        """
        expected = f"{self._place(index)}: expected a tensor of floats (3, H, W) in [0, 1], got"
        if not isinstance(image, Tensor):
            raise UserError(f"{expected} {type(image).__module__}.{type(image).__name__}")
        if image.ndim != 3 or len(image) != 3 or not image.numel() or not image.is_floating_point():
            raise UserError(f"{expected} {image.dtype} {tuple(image.shape)}")
        least, most = (float(value) for value in image.aminmax())
        if not (least >= -OVERSHOOT and most <= 1 + OVERSHOOT):  # so written that NaN fails it
            raise UserError(f"{expected} values from {least:.3g} to {most:.3g}; detectors normalise images themselves")
        return image.float()

    def target(self, index: int, size: tuple[int, int] | None = None) -> dict[str, Any]:
        """The target of image ``index``: what ``CocoDetection`` gives, made of :meth:`objects`.

        Args:
            size: (H, W) of the image; None asks :meth:`size`.

        Raises:
            UserError: boxes and labels are missing, are no numbers, or do not fit each other, the image or the classes;
                or masks are missing that are needed.
        """
        objects = self.objects(index)
        if not isinstance(objects, Mapping) or not {"boxes", "labels"} <= objects.keys():
            got = list(objects) if isinstance(objects, Mapping) else type(objects).__name__
            raise UserError(f"{self._place(index)}: expected objects() to give a dict with boxes and labels, got {got}")
        given = dict(objects)
        boxes = self._numbers(index, "boxes", given.pop("boxes"), torch.float32, (4,))
        labels = self._numbers(index, "labels", given.pop("labels"), torch.int64, ())
        size = self.size(index) if size is None else size
        self._refuse_boxes(index, boxes, size)
        known = len(self.categories)
        if len(boxes) != len(labels) or any(not 0 <= label < known for label in labels.tolist()):
            raise UserError(
                f"{self._place(index)}: expected a label in 0..{known - 1} for each of {len(boxes)} boxes, "
                f"got {labels.tolist()}"
            )
        if self.masks and "masks" not in given:
            raise UserError(f"{self._place(index)}: masks are needed, but objects() gives none")
        area = given.pop("area", (boxes[:, 2:] - boxes[:, :2]).prod(1))
        return {
            "boxes": boxes,
            "labels": labels,
            "area": torch.as_tensor(area, dtype=torch.float32),
            "iscrowd": torch.zeros(len(boxes), dtype=torch.bool),
            "image_id": self.image_ids[index],
            "size": size,
            **given,
        }

    def _refuse_boxes(self, index: int, boxes: Tensor, size: tuple[int, int]) -> None:
        """Refuse boxes from which nothing could be learned.

        Raises:
            UserError: one is not finite, has no width or height, or lies beside the image; or all of them lie within
                the first pixel, as boxes do that are shares of the image.
        """
        height, width = size
        expected = f"{self._place(index)}: expected boxes x1, y1, x2, y2 in pixels"
        flat = ~boxes.isfinite().all(1) | (boxes[:, 2:] <= boxes[:, :2]).any(1)
        if flat.any():
            got = boxes[flat][0].tolist()
            raise UserError(f"{expected} with x1 < x2 and y1 < y2, got {got}; is that x, y, width, height?")
        outside = (boxes[:, :2] >= boxes.new_tensor([width, height])).any(1) | (boxes[:, 2:] <= 0).any(1)
        if outside.any():
            raise UserError(f"{expected} of an image {width} wide and {height} high, got {boxes[outside][0].tolist()}")
        if len(boxes) and min(size) > 2 and bool((boxes <= 1).all()):
            raise UserError(f"{expected}, got {boxes[0].tolist()}; is that normalised to [0, 1]?")

    def _numbers(self, index: int, name: str, value: Any, dtype: torch.dtype, axes: tuple[int, ...]) -> Tensor:
        """What :meth:`objects` says under ``name``, (n, *axes); n may be 0.

        Raises:
            UserError: it is no numbers, or of another shape.
        """
        try:
            numbers = torch.as_tensor(value, dtype=dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{self._place(index)}: {name}: expected numbers, got {value!r:.80}") from error
        if not numbers.numel():
            return numbers.reshape(0, *axes)
        if numbers.ndim != 1 + len(axes) or numbers.shape[1:] != axes:
            wanted = "(n, 4)" if axes else "(n,)"
            raise UserError(f"{self._place(index)}: {name}: expected {wanted}, got {tuple(numbers.shape)}")
        return numbers

    @cached_property
    def coco(self) -> COCO:
        """The ground truth for the COCO metric, made once."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index, image_id in enumerate(self.image_ids):
            target = self.target(index)
            height, width = target["size"]
            images.append({"id": image_id, "height": height, "width": width, "file_name": str(image_id)})
            rows = zip(*(target[name].tolist() for name in ("boxes", "labels", "area")), strict=True)
            for (x1, y1, x2, y2), label, area in rows:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": self.category_ids[label],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": area,
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.categories, strict=True)]
        return index_coco({"images": images, "annotations": annotations, "categories": categories})

    def _place(self, index: int) -> str:
        return f"{type(self).__name__}, image {index}"


def ask_for_masks(dataset: DetectionData) -> None:
    """Let the targets of a data set hold masks."""
    dataset.masks = True  # type: ignore[attr-defined]  # what gives masks anyway need not ask for this attribute


def place_of(dataset: DetectionData) -> str:
    """Where a data set comes from, for people: its file of annotations, or its class."""
    return str(getattr(dataset, "annotations", f"{type(dataset).__module__}:{type(dataset).__qualname__}"))


def refuse_incomplete(dataset: Any, split: str) -> None:
    """Refuse what is no data set before anything is computed.

    Raises:
        UserError: it names what is missing, or categories that are no names or not distinct.
    """
    needed = ("categories", "category_ids", "image_ids", "coco", "__len__", "__getitem__")
    missing = [name for name in needed if not hasattr(type(dataset), name) and not hasattr(dataset, name)]
    if missing:
        remedy = "build it on dyhead_lab.data.dataset.DetectionSet, which has them"
        if isinstance(dataset, DetectionSet):
            remedy = 'name its classes, such as categories = ["small", "large"]'
        raise UserError(f"the {split} set, a {type(dataset).__name__}, has no {', '.join(missing)}; {remedy}")
    names = dataset.categories or ()
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserError(f"the {split} set: categories: expected a list of different names, got {names!r:.200}")
