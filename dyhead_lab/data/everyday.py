"""Everyday: a small part of COCO, for machines without a GPU.

1,578 photographs to learn from and 236 to evaluate on, shrunk to 512 pixels, with COCO's 80 classes and with its 12
supercategories (person, vehicle, animal, ...). Most of them are pictures of val2017 that show people, so a model that
has learned them must never be scored against COCO val2017.

The project ships the ids of the images, not the photographs: :func:`build_everyday` makes the set from COCO.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError
from .coco_json import load_coco_json
from .layouts import find_splits

#: split -> ids of its images, which are COCO's.
IDS: dict[str, list[int]] = json.loads((Path(__file__).parent / "everyday_ids.json").read_text(encoding="utf-8"))
#: Longest side of an image in pixels.
LONGEST = 512
#: The two ground truths of each split.
CLASSES_80, CLASSES_12 = "annotations.json", "annotations_12.json"


def build_everyday(coco: Path, out: Path) -> dict[str, int]:
    """Write the set: ``out/SPLIT/images/`` with ``annotations.json`` (80 classes) and ``annotations_12.json``.

    Args:
        coco: COCO 2017 with its training and validation pictures; other splits do no harm.
        out: folder to write; pictures that are there already are kept.

    Returns:
        split -> number of pictures.

    Raises:
        UserError: COCO is not there, or lacks pictures, or one is broken; the first one is named.
    """
    found = _images_by_id(coco)
    missing = [id for ids in IDS.values() for id in ids if id not in found]
    if missing:
        raise UserError(
            f"{coco} lacks {len(missing)} of the {sum(map(len, IDS.values()))} pictures, such as {missing[0]}; both "
            "train2017 and val2017 are needed: dyhead-lab data coco downloads them"
        )
    for split, ids in IDS.items():
        _write_split(out / split, [found[id] for id in ids])
    return {split: len(ids) for split, ids in IDS.items()}


def _images_by_id(coco: Path) -> dict[int, dict[str, Any]]:
    """The pictures of Everyday in all splits of a COCO folder.

    Raises:
        UserError: the folder holds no COCO data set.
    """
    splits = find_splits(coco) if coco.is_dir() else {}
    if not splits:
        raise UserError(f"{coco} holds no COCO data set: dyhead-lab data coco --out {coco} downloads it")
    wanted = {id for ids in IDS.values() for id in ids}
    found: dict[int, dict[str, Any]] = {}
    for images, truth in splits.values():
        dataset = load_coco_json(truth).dataset
        for record in dataset["images"]:
            if record["id"] in wanted and (images / record["file_name"]).is_file():
                found[record["id"]] = {
                    "record": record,
                    "path": images / record["file_name"],
                    "annotations": [],
                    "categories": dataset["categories"],
                }
        for annotation in dataset["annotations"]:
            if annotation["image_id"] in found:
                found[annotation["image_id"]]["annotations"].append(annotation)
    return found


def _write_split(folder: Path, sources: list[dict[str, Any]]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for source in sources:
        record, scale = _shrunk(source["record"])
        path = folder / "images" / record["file_name"]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _shrink(source["path"], path, (record["width"], record["height"]))
        images.append(record)
        annotations += [_scaled(a, scale, len(annotations) + n) for n, a in enumerate(source["annotations"], 1)]
    categories = sources[0]["categories"]
    for name, truth in (
        (CLASSES_80, {"images": images, "annotations": annotations, "categories": categories}),
        (CLASSES_12, with_supercategories({"images": images, "annotations": annotations, "categories": categories})),
    ):
        (folder / name).write_text(json.dumps(truth), encoding="utf-8")


def _shrunk(record: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[float, float]]:
    """The record of the smaller picture, and the factors of x and y."""
    width, height = record["width"], record["height"]
    factor = min(1.0, LONGEST / max(width, height))
    small = max(1, round(width * factor)), max(1, round(height * factor))
    kept = {key: record[key] for key in ("id", "license", "flickr_url", "coco_url") if key in record}
    name = Path(record["file_name"]).name
    return {**kept, "file_name": name, "width": small[0], "height": small[1]}, (small[0] / width, small[1] / height)


def _shrink(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Written beside its place first, so that a picture that is there is whole.

    Raises:
        UserError: the source is broken.
    """
    partial = target.with_suffix(".partial")
    try:
        with Image.open(source) as picture:
            small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    except OSError as error:  # also what Pillow raises at a file that is broken
        raise UserError(f"cannot read image {source}: {error}") from error
    small.save(partial, "JPEG", quality=90)
    partial.replace(target)


def _scaled(annotation: Mapping[str, Any], scale: tuple[float, float], id: int) -> dict[str, Any]:
    (sx, sy), (x, y, w, h) = scale, annotation["bbox"]
    kept = {key: annotation[key] for key in ("image_id", "category_id", "iscrowd")}
    bbox = [round(x * sx, 2), round(y * sy, 2), round(w * sx, 2), round(h * sy, 2)]
    return {**kept, "id": id, "bbox": bbox, "area": round(annotation["area"] * sx * sy, 2)}


def with_supercategories(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The same ground truth with supercategories in place of categories, numbered from 1 as they appear."""
    names = list(dict.fromkeys(category["supercategory"] for category in dataset["categories"]))
    number = {name: n for n, name in enumerate(names, 1)}
    above = {category["id"]: number[category["supercategory"]] for category in dataset["categories"]}
    return {
        **dataset,
        "annotations": [{**a, "category_id": above[a["category_id"]]} for a in dataset["annotations"]],
        "categories": [{"id": id, "name": name, "supercategory": name} for name, id in number.items()],
    }
