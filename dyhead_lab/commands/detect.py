"""``dyhead-lab detect IMAGE...``: draw what a trained model finds on images of your own."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from ..data.images import exif_orientation, read_image
from ..errors import UserError
from ..views.figures import Picture, detections_figure
from ..zoo import Trained, load_trained

SMALLEST_PICTURE = 480  # pixels of the shorter side; smaller images are enlarged so that labels can be read

#: EXIF orientation -> whether to swap rows and columns, and which axes to flip then.
_UPRIGHT: dict[int, tuple[bool, tuple[int, ...]]] = {
    2: (False, (2,)),
    3: (False, (1, 2)),
    4: (False, (1,)),
    5: (True, ()),
    6: (True, (2,)),
    7: (True, (1, 2)),
    8: (True, (1,)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument("--weights", default="quickstart", help="shipped weights or a path (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("detections"), help="folder of the pictures (default: %(default)s)"
    )
    parser.add_argument("--threshold", type=float, default=0.3, help="least score of a box (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write one PNG per image and print one line per image.

    Raises:
        UserError: a file is missing or broken, two images would give the same picture, or the threshold is
            not in [0, 1]. Bad images are named before the model is loaded.
    """
    if not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold: got {args.threshold}, expected a number from 0 to 1")
    images = {path: upright(read_image(path), exif_orientation(path)) for path in args.images}
    pictures = _picture_paths(args.images, args.out)
    trained = load_trained(args.weights)
    args.out.mkdir(parents=True, exist_ok=True)
    for path, image in images.items():
        found = detect(trained, image, args.threshold)
        figure = detections_figure([image], [found], trained.categories, 0, max(SMALLEST_PICTURE, image.shape[1]))
        summary = summarise(found, trained.categories)
        pictures[path].write_bytes(Picture(figure, f"{path.name}: {summary}").png)
        print(f"{path}: {summary} -> {pictures[path]}")
    return 0


def upright(image: Tensor, orientation: int) -> Tensor:
    """Turn an image (3, H, W) as its EXIF orientation, 1 to 8, asks for."""
    swap, flips = _UPRIGHT.get(orientation, (False, ()))
    return (image.transpose(1, 2) if swap else image).flip(flips)


@torch.inference_mode()
def detect(trained: Trained, image: Tensor, threshold: float) -> dict[str, Tensor]:
    """Boxes, scores and labels with a score of at least ``threshold``, best first."""
    (found,) = trained.model([image])
    order = found["scores"].argsort(descending=True)
    order = order[found["scores"][order] >= threshold]
    return {name: tensor[order] for name, tensor in found.items()}


def summarise(found: dict[str, Tensor], names: list[str]) -> str:
    """For example ``2 disc, 1 star; best disc 0.91``."""
    if not len(found["labels"]):
        return "nothing found"
    counts = Counter(names[label] for label in found["labels"].tolist())
    best = f"{names[int(found['labels'][0])]} {float(found['scores'][0]):.2f}"
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) + f"; best {best}"


def _picture_paths(images: list[Path], out: Path) -> dict[Path, Path]:
    """Where each image's picture goes; two images of the same name need two runs."""
    paths = {image: out / f"{image.stem}.png" for image in images}
    for target, count in Counter(paths.values()).items():
        if count > 1:
            raise UserError(f"{count} images would be written to {target}; give them in runs with different --out")
        if target.resolve() in {image.resolve() for image in images}:
            raise UserError(f"--out: {target} would overwrite one of the images; choose another folder")
    return paths
