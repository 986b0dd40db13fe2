"""Whether published weights do here what their publishers say: numbers of one picture, or AP on COCO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..detectors.detr.set_detector import SetDetector
from ..errors import UserError
from ..published.golden import TOLERANCE, Golden
from .foreign import DETECTION_SIZE
from .trained import Trained


def compare(trained: Trained, golden: Golden, picture: Path) -> dict[str, float]:
    """How far the first predictions for a picture lie from published ones.

    Args:
        trained: published weights of DETR's family.
        golden: the published numbers.
        picture: the file that they belong to.

    Returns:
        ``logits`` and ``boxes``: the largest difference of nine numbers each; :data:`~..published.golden.TOLERANCE`
        is what the publishers allow.

    Raises:
        UserError: the detector has no predictions to compare.
    """
    model = trained.model
    if not isinstance(model, SetDetector):
        raise UserError(f"{trained.recipe.name}: no published numbers for a {type(model).__name__}")
    image = _resized(picture, *(model.detection_size or DETECTION_SIZE))
    with torch.inference_mode():
        found = model.predictions([image])
    pairs = {"logits": (found["pred_logits"], golden.logits), "boxes": (found["pred_boxes"], golden.boxes)}
    return {name: float((ours[0, :3, :3] - torch.tensor(rows)).abs().max()) for name, (ours, rows) in pairs.items()}


def _resized(picture: Path, shorter: int, longest: int) -> Tensor:
    """(3, H, W) in [0, 1], resized by Pillow in whole numbers of 0 to 255, as the published numbers were made."""
    with Image.open(picture) as file:
        pixels = file.convert("RGB")
    scale = min(shorter / min(pixels.size), longest / max(pixels.size))
    width, height = (int(side * scale) for side in pixels.size)
    resized = pixels.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255


def agrees(differences: dict[str, float]) -> bool:
    """Whether all of them are within the published tolerance."""
    return all(difference <= TOLERANCE for difference in differences.values())
