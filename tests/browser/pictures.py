"""Two pictures, and how much of them differs."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

#: A pixel differs if one of its channels does by more than this share of the full range.
SEEN = 0.1


def share_that_differs(a: bytes, b: bytes) -> float:
    """Share of the pixels of two PNG files that differ visibly; 1 where their sizes differ by more than a pixel."""
    first, second = (np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), float) / 255 for png in (a, b))
    if np.abs(np.subtract(first.shape, second.shape)).max() > 1:
        return 1.0
    rows, columns = (min(sizes) for sizes in zip(first.shape[:2], second.shape[:2], strict=True))
    difference = np.abs(first[:rows, :columns] - second[:rows, :columns]).max(2)
    return float((difference > SEEN).mean())


def is_blank(png: bytes) -> bool:
    """Whether a picture has a single colour."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    return bool((pixels == pixels[0, 0]).all())
