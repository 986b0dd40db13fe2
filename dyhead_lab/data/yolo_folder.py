"""Where the images of a YOLO data set lie, and what its classes are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..errors import UserError
from .coco_values import whole_number
from .coco_writer import SUFFIXES
from .layouts import USUAL_NAMES, usual_name
from .text_files import read_text_file

#: Files of class names, one a line, where there is no yaml file: Label Studio's, darknet's, Roboflow's.
NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "_darknet.labels", "*/_darknet.labels")


class YoloFolder(NamedTuple):
    """What a YOLO data set holds.

    Attributes:
        root: its folder.
        names: number of a class -> its name, by rising number.
        splits: train, val, test, or ``""`` where there are none -> image files, sorted; at least one each.
    """

    root: Path
    names: dict[int, str]
    splits: dict[str, list[Path]]


def read_yolo_folder(path: Path) -> YoloFolder:
    """Find the images and the names of the classes.

    A yaml file says both. Without one, the names stand in one of :data:`NAME_FILES`, and the splits are folders of
    usual names, or folders of such names in ``images/``; else ``images/``, or the folder itself, is the only split.

    Args:
        path: the folder, or the yaml file in it.

    Raises:
        UserError: there is none, it is damaged, or it names images that are not there.
    """
    if not path.exists():
        raise UserError(f"YOLO folder not found: {path}")
    root = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else [*sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))]
    if len(files) > 1:
        raise UserError(f"{root} has several yaml files, {', '.join(file.name for file in files)}: give one of them")
    names, places = _from_yaml(files[0]) if files else (_names_from_lines(root), _folders(root))
    splits = {name: _images(root, of) for name, of in places.items()}
    if not any(splits.values()):
        raise UserError(f"no images in {', '.join(str(p) for of in places.values() for p in of) or root}")
    return YoloFolder(root, dict(sorted(names.items())), {name: images for name, images in splits.items() if images})


def _from_yaml(file: Path) -> tuple[dict[int, str], dict[str, list[Path]]]:
    """Names of the classes, and for each split the folders of images or lists of them."""
    try:
        content = yaml.safe_load(read_text_file(file))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
    if not isinstance(content, dict) or not content.get("names"):
        raise UserError(f"{file} has no 'names' of classes")
    places: dict[str, list[Path]] = {}
    for key, value in content.items():
        split = usual_name(key) if isinstance(key, str) else ""
        if split in USUAL_NAMES and value:
            given = value if isinstance(value, list) else [value]
            found = [_place(file, content.get("path"), str(place), split) for place in given]
            places[split] = [place for place in found if place]
    if not places:
        raise UserError(f"{file} names no images: it has none of {', '.join(USUAL_NAMES)}")
    return _names_from_yaml(file, content["names"]), places


def _names_from_yaml(file: Path, names: Any) -> dict[int, str]:
    """A list of names, or a table of them by number."""
    table = names if isinstance(names, dict) else dict(enumerate(names if isinstance(names, list) else [names]))
    numbered = {whole_number(number): str(name) for number, name in table.items()}
    if None in numbered or len(set(numbered.values())) < len(table):
        raise UserError(f"{file}: expected 'names' that differ, as a list or by number, got {names!r:.200}")
    return {number: name for number, name in numbered.items() if number is not None}


def _place(file: Path, path: Any, place: str, split: str) -> Path | None:
    """The place that the yaml file means, with or without its ``path``. Roboflow puts ``../`` before it without cause.

    None for a test split that is not there: exports name one whether they have it or not.
    """
    below = place
    while below.startswith("../"):
        below = below.removeprefix("../")
    tried = [file.parent / str(path or ".") / place, file.parent / place, file.parent / below]
    found = next((candidate for candidate in tried if candidate.exists()), None)
    if found is None and split != "test":
        raise UserError(f"{file}: {split} is not there; looked for {', '.join(dict.fromkeys(map(str, tried)))}")
    return found


def _names_from_lines(root: Path) -> dict[int, str]:
    files = [file for pattern in NAME_FILES for file in sorted(root.glob(pattern))]
    if not files:
        raise UserError(f"{root} is no YOLO folder: it has no yaml file, and none of {', '.join(NAME_FILES)}")
    lines = read_text_file(files[0]).splitlines()
    return dict(enumerate(line.strip() for line in lines if line.strip()))


def _folders(root: Path) -> dict[str, list[Path]]:
    """Folders of images by split, where no yaml file names them."""
    named = [folder for folder in (*root.glob("*/"), *root.glob("images/*/")) if usual_name(folder.name) in USUAL_NAMES]
    splits: dict[str, list[Path]] = {}
    for folder in sorted(named):
        splits.setdefault(usual_name(folder.name), []).append(folder)
    return splits or {"": [root / "images" if (root / "images").is_dir() else root]}


def _images(root: Path, places: list[Path]) -> list[Path]:
    """The image files of folders, and those that lists of them name.

    Raises:
        UserError: a list names an image that is not there.
    """
    images: set[Path] = set()
    for place in places:
        if place.is_dir():
            images.update(file for file in place.rglob("[!.]*") if file.suffix.lower() in SUFFIXES)
            continue
        for line in filter(None, map(str.strip, read_text_file(place).splitlines())):
            found = next((file for file in (place.parent / line, root / line) if file.is_file()), None)
            if found is None:
                raise UserError(f"{place} names {line}, which is not there")
            images.add(found)
    return sorted(images)
