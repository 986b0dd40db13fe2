"""``dyhead-lab detect IMAGE_OR_FOLDER...``: draw what a trained model finds on images of your own."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import UserError
from .evaluated import add_import_argument, refuse_missing
from .output_paths import output_folder

if TYPE_CHECKING:
    from torch import Tensor

    from ..zoo import Trained

#: Formats that Pillow knows by their endings, but cannot read, or only with another program.
UNREADABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
SMALLEST_PICTURE = 480  # pixels of the shorter side; smaller images are enlarged so that labels can be read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER", help="image files; of a folder, all images in it"
    )
    add_import_argument(parser)
    parser.add_argument(
        "--weights",
        default="quickstart",
        help="a path, or a name of dyhead-lab weights (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("detections"), help="folder of the pictures (default: %(default)s)"
    )
    parser.add_argument("--threshold", type=float, default=0.3, help="least score of a box (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write one PNG per image and print one line per image. Returns 0.

    The detector sees one image at a time, so that none is padded for the sake of another.

    Raises:
        UserError: a file is missing or broken, a folder holds no image, two images would give the same picture, the
            pictures cannot be written, or the threshold is not in [0, 1]. All of it is said before the model is loaded.
    """
    if not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold: got {args.threshold}, expected a number from 0 to 1")
    paths = image_files(args.images)
    pictures = _picture_paths(paths, args.out)
    refuse_missing(args.weights)
    output_folder(args.out)

    from ..data.images import exif_orientation, read_image, upright
    from ..detectors.inference import prepared
    from ..training.checkpoint import write_whole
    from ..views.figures import Picture, detections_figure
    from ..zoo import load_trained

    for path in paths:
        read_image(path)  # and not kept: a folder may hold more than the memory does
    trained = load_trained(args.weights, args.imports)
    trained = replace(trained, model=prepared(trained.model))
    for path in paths:
        image = upright(read_image(path), exif_orientation(path))
        found, not_finite = detect(trained, image, args.threshold)
        figure = detections_figure([image], [found], trained.categories, 0, max(SMALLEST_PICTURE, image.shape[1]))
        summary = summarise(found, trained.categories)
        if not_finite:
            summary += f"; {not_finite} more that are not finite, as of weights that are damaged"
        write_whole(pictures[path], Picture(figure, f"{path.name}: {summary}").png)
        print(f"{path}: {summary} -> {pictures[path]}")
    return 0


def image_files(named: Sequence[Path]) -> list[Path]:
    """The files that were named, and in the place of a folder the images in it, by name.

    Hidden files of a folder are left out: macOS writes ``._photo.jpg`` beside ``photo.jpg``.

    Raises:
        UserError: there is no such file, or a folder holds none that ends as images do.
    """
    kinds = Image.registered_extensions()
    endings = {ending for ending, kind in kinds.items() if kind in Image.OPEN and kind not in UNREADABLE}
    files: list[Path] = []
    for path in named:
        if not path.exists():
            raise UserError(f"image not found: {path}")
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(file for file in path.glob("[!.]*") if file.suffix.lower() in endings and file.is_file())
        if not inside:
            raise UserError(f"{path}: expected images in this folder, such as .jpg or .png, found none")
        files += inside
    return list(dict.fromkeys(files))


def detect(trained: Trained, image: Tensor, threshold: float) -> tuple[dict[str, Tensor], int]:
    """Boxes, scores and labels with a score of at least ``threshold``, best first; and how many were not finite."""
    import torch

    with torch.inference_mode():
        (found,) = trained.model([image])
    finite = found["boxes"].isfinite().all(1) & found["scores"].isfinite()
    kept = finite & (found["scores"] >= threshold)
    order = found["scores"][kept].argsort(descending=True)
    return {name: tensor[kept][order] for name, tensor in found.items()}, int((~finite).sum())


def summarise(found: dict[str, Tensor], names: list[str]) -> str:
    """For example ``2 disc, 1 star; best disc 0.91``."""
    if not len(found["labels"]):
        return "nothing found"
    counts = Counter(names[label] for label in found["labels"].tolist())
    best = f"{names[int(found['labels'][0])]} {float(found['scores'][0]):.2f}"
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) + f"; best {best}"


def _picture_paths(images: list[Path], out: Path) -> dict[Path, Path]:
    """Where each image's picture goes: ``a.png`` for ``a.jpg``, but ``a.jpg.png`` where there is also an ``a.bmp``.

    Raises:
        UserError: two images have one name, or a picture would take the place of an image.
    """
    stems = Counter(image.stem for image in images)
    paths = {image: out / f"{image.stem if stems[image.stem] == 1 else image.name}.png" for image in images}
    for target, count in Counter(paths.values()).items():
        if count > 1:
            raise UserError(f"{count} images would be written to {target}; give them in runs with different --out")
        if target.resolve() in {image.resolve() for image in images}:
            raise UserError(f"--out: {target} would overwrite one of the images; choose another folder")
    return paths
