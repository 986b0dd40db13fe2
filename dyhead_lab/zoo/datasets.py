"""The data sets that recipes name. A recipe calls ``dataset(split)`` with "train" or "val"."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..data.coco import CocoDetection, coco_folder
from ..data.everyday import CLASSES_12, IDS
from ..data.shapes import write_shapes
from ..errors import UserError
from ..notices import notice
from ..paths import coco_path, data_folder

#: split -> (images, seed)
SHAPES_SPLITS = {"train": (3000, 1), "val": (500, 2)}


def shapes(split: str, folder: Path | None = None) -> CocoDetection:
    """The built-in Shapes set at 160 pixels; drawn on first use, about a minute.

    Args:
        split: "train" (3000 images, seed 1) or "val" (500 images, seed 2).
        folder: where the splits are kept (default: ``shapes`` in ``paths.data_folder()``).

    Raises:
        UserError: there is no such split, or the folder cannot be written.
    """
    if split not in SHAPES_SPLITS:
        raise UserError(f"Shapes has the splits {' and '.join(SHAPES_SPLITS)}, not {split!r}")
    images, seed = SHAPES_SPLITS[split]
    folder = folder or data_folder("shapes")
    if not (folder / split / "annotations.json").exists():
        notice(f"drawing {images} images of Shapes into {folder / split} (once, a minute or two)")
        partial = folder / f"{split}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            write_shapes(partial, images, seed)
            shutil.rmtree(folder / split, ignore_errors=True)
            partial.rename(folder / split)
        except OSError as error:
            reason = f"{folder} cannot be written ({error.strerror})"
            raise UserError(f"{reason}: name another folder with the environment variable DYHEAD_DATA") from error
    return coco_folder(folder, split)


def coco(split: str, folder: Path | None = None) -> CocoDetection:
    """COCO 2017: 118,287 training and 5,000 validation images, 80 classes.

    Args:
        split: "train" or "val".
        folder: where ``dyhead-lab data coco`` has put it (default: ``paths.coco_path()``).

    Raises:
        UserError: it is not there.

    Source: Lin et al., "Microsoft COCO", ECCV 2014; https://cocodataset.org (annotations CC BY 4.0).
    """
    folder = folder or coco_path()
    if not folder.is_dir():
        raise UserError(f"COCO is not in {folder}: dyhead-lab data coco --out {folder} downloads it (20 GB)")
    return coco_folder(folder, split)


def everyday(split: str, folder: Path | None = None) -> CocoDetection:
    """Everyday photographs with COCO's 12 supercategories; see :mod:`dyhead_lab.data.everyday`.

    Args:
        split: "train" (1578 photographs) or "val" (236).
        folder: where ``dyhead-lab data everyday`` has put it (default: ``everyday`` in ``paths.data_folder()``).

    Raises:
        UserError: it is not there, has no such split, or lacks pictures.
    """
    folder = folder or data_folder("everyday")
    if not folder.is_dir():
        command = f"dyhead-lab data everyday --coco {coco_path()} --out {folder}"
        raise UserError(f"Everyday is not in {folder}: {command} makes it from COCO")
    if split not in IDS:
        raise UserError(f"Everyday has the splits {' and '.join(IDS)}, not {split!r}")
    dataset = CocoDetection(folder / split / "images", folder / split / CLASSES_12)
    dataset.refuse_missing_images()
    return dataset


#: The data sets that can be named where a folder is expected.
DATASETS: dict[str, Callable[[str], CocoDetection]] = {"shapes": shapes, "coco": coco, "everyday": everyday}


def dataset(name: str) -> Callable[[str], CocoDetection]:
    """The data set of that name in :data:`DATASETS`, else the splits of a folder in COCO format of that name."""
    return DATASETS.get(name) or partial(coco_folder, name)
