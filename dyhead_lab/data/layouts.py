"""Where the tools of the world put the annotations and the images of a data set in COCO format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError

SPLIT = "{split}"


class Split(NamedTuple):
    """Where one split of a data set lies."""

    images: Path
    annotations: Path


class Layout(NamedTuple):
    """One way to lay out a folder; ``{split}`` stands for the name of a split.

    Attributes:
        made_by: whose way it is.
        annotations: the annotation file.
        images: folders for the images, the first that is there counts. One without ``{split}``, where the file has
            it, holds the images of several splits, and counts only if no split has a folder of its own.
        any_name: whether a split may have any name; else only one of :data:`USUAL_NAMES`, so that no other JSON file
            is taken for annotations.
    """

    made_by: str
    annotations: str
    images: tuple[str, ...]
    any_name: bool = True


#: In the order in which they are looked for: where two give a split of one name, the first counts.
LAYOUTS = (
    Layout("one split", "annotations.json", ("images", "JPEGImages")),
    Layout("a folder a split", "{split}/annotations.json", ("{split}/images", "{split}/JPEGImages")),
    Layout("COCO, CVAT, Datumaro", "annotations/instances_{split}.json", ("{split}", "images/{split}", "images")),
    Layout("Roboflow", "{split}/_annotations.coco.json", ("{split}",)),
    Layout("Roboflow, one split", "_annotations.coco.json", (".",)),
    Layout("Label Studio", "result.json", ("images",)),
    Layout("FiftyOne", "labels.json", ("data",)),
    Layout("FiftyOne", "{split}/labels.json", ("{split}/data",)),
    Layout("MMDetection", "annotations/{split}.json", ("{split}", "images/{split}", "images"), any_name=False),
    Layout("flat", "{split}.json", ("{split}", "images/{split}", "images"), any_name=False),
)

#: What each split is also called.
USUAL_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}

_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def find_splits(folder: str | os.PathLike[str]) -> dict[str, Split]:
    """The splits in a folder, by name; ``""`` is the name of one that has none.

    The layouts of :data:`LAYOUTS` are known. Where none of them fits, the only JSON file of the folder and the only
    folder of pictures in it (or pictures beside it) are a split without a name.
    """
    folder = Path(folder)
    splits: dict[str, Split] = {}
    for layout in LAYOUTS:
        for name, split in _splits_of(folder, layout).items():
            splits.setdefault(name, split)
    return splits or _only_pair(folder)


def choose_split(folder: Path, name: str | None) -> Split:
    """One split of a folder.

    Args:
        folder: the data set.
        name: of the split; ``val2017``, ``valid`` and ``validation`` are found as ``val``. None takes the only one.

    Raises:
        UserError: the folder holds no data set, lacks the split, or has several that fit.
    """
    splits = find_splits(folder)
    if not splits:
        raise UserError(_nothing_found(folder))
    fitting = [there for there in splits if name in (None, there)]
    fitting = fitting or [there for there in splits if name == usual_name(there)]
    listed = ", ".join(
        repr(there) if there else f"one without a name ({splits[there].annotations.name})" for there in splits
    )
    if not fitting:
        places = ", ".join(l.annotations.replace(SPLIT, str(name)) for l in LAYOUTS if SPLIT in l.annotations)
        advice = f". Part it: dyhead-lab data split --data {folder} --out DIR" if len(splits) == 1 else ""
        it_has = f"it has {listed}{_without_images(folder)}{advice}"
        raise UserError(f"{folder} has no split {name!r}; looked for {places}; {it_has}")
    if len(fitting) > 1:
        raise UserError(f"{folder} has several splits that fit, {listed}: name one of them")
    return splits[fitting[0]]


def usual_name(split: str) -> str:
    """``val`` for ``val2017``, ``valid`` and the like; other names as they are, without a year."""
    bare = split.rstrip("0123456789").rstrip("_-") or split
    return next((usual for usual, names in USUAL_NAMES.items() if bare.lower() in names), bare)


def _splits_of(folder: Path, layout: Layout) -> dict[str, Split]:
    """The splits of one layout, by name."""
    found: dict[str, Split] = {}
    shared: dict[str, Split] = {}
    for name, file in _annotation_files(folder, layout):
        images = next((i for i in layout.images if (folder / i.replace(SPLIT, name)).is_dir()), None)
        if images is not None:
            has_own = SPLIT in images or SPLIT not in layout.annotations
            (found if has_own else shared)[name] = Split(folder / images.replace(SPLIT, name), file)
    return found or shared


def _annotation_files(folder: Path, layout: Layout) -> Iterator[tuple[str, Path]]:
    """(name of the split, file) of each annotation file that fits a layout."""
    before, has_name, after = layout.annotations.partition(SPLIT)
    for file in sorted(folder.glob(layout.annotations.replace(SPLIT, "*"))):
        path = file.relative_to(folder).as_posix()
        name = path[len(before) : len(path) - len(after)] if has_name else ""
        if file.is_file() and not name.startswith(".") and (layout.any_name or usual_name(name) in USUAL_NAMES):
            yield name, file


def _only_pair(folder: Path) -> dict[str, Split]:
    """The only JSON file with the only folder of pictures, whatever their names are."""
    files = [*folder.glob("[!.]*.json"), *folder.glob("annotations/[!.]*.json")]
    places = [place for place in (folder, *folder.glob("*/")) if _holds_pictures(place)]
    return {"": Split(places[0], files[0])} if len(files) == len(places) == 1 else {}


def _holds_pictures(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(os.path.splitext(entry.name)[1].lower() in _PICTURES for entry in entries)
    except PermissionError:  # such as lost+found
        return False


def _nothing_found(folder: Path) -> str:
    """What was looked for, what is there, and what to do with data of another format."""
    places = [f"{l.annotations} with {' or '.join(f'{i}/' for i in l.images)} ({l.made_by})" for l in LAYOUTS]
    there = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    found = ", ".join(there[:12] + ["..."] * (len(there) > 12)) or "nothing"
    advice = _without_images(folder) + _advice(folder)
    return "\n  ".join([f"{folder} holds no COCO data set; looked for", *places, f"found {found}{advice}"])


def _without_images(folder: Path) -> str:
    """The annotation files that lack a folder of images."""
    for layout in LAYOUTS:
        for name, file in _annotation_files(folder, layout):
            places = [folder / images.replace(SPLIT, name) for images in layout.images]
            if not any(place.is_dir() for place in places):
                return f". {file} is there, but no folder {' or '.join(map(str, places))}"
    return ""


def _advice(folder: Path) -> str:
    """What to do with a folder that is one level too high, or of another format."""
    below = sorted(folder.glob("*/"))
    holders = [place for place in below if find_splits(place)]
    if len(holders) == 1:
        return f". Give the folder {holders[0]} instead"
    for place in (folder, *below):
        if (place / "ImageSets").is_dir() or (place / "Annotations").is_dir():
            return f". It looks like Pascal VOC: dyhead-lab data voc --voc {place} --out DIR"
    if any(folder.glob("*.yaml")) or any((place / "labels").is_dir() for place in (folder, *below)):
        return f". It looks like YOLO: dyhead-lab data yolo --yolo {folder} --out DIR"
    return ""
