"""The data sets that recipes name. A recipe calls ``dataset(split)`` with "train" or "val"."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ..data.coco import CocoDetection, coco_folder
from ..data.shapes import write_shapes
from ..paths import DATA

#: split -> (images, seed)
SHAPES_SPLITS = {"train": (3000, 1), "val": (500, 2)}


def shapes(split: str, folder: Path = DATA / "shapes") -> CocoDetection:
    """The built-in Shapes set at 160 pixels; drawn on first use, about a minute.

    Args:
        split: "train" (3000 images, seed 1) or "val" (500 images, seed 2).
        folder: where the splits are kept.
    """
    images, seed = SHAPES_SPLITS[split]
    if not (folder / split / "annotations.json").exists():
        print(f"drawing {images} images of Shapes into {folder / split} (once)", file=sys.stderr)
        partial = folder / f"{split}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        write_shapes(partial, images, seed)
        shutil.rmtree(folder / split, ignore_errors=True)
        partial.rename(folder / split)
    return coco_folder(folder, split)
