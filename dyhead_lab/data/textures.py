"""Textures and backgrounds of the Shapes set: everything that is painted and belongs to no class."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two muted colours of a texture: not so far apart that stripes drown the outline."""
    first = np.clip(rng.uniform(30, 225) + rng.normal(0, 32, 3), 0, 255)
    second = np.clip(first + rng.normal(0, 30) + rng.normal(0, 20, 3), 0, 255)
    return first.astype(np.float32), second.astype(np.float32)


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Noise (size, size) in [0, 1] whose features are about size / cells pixels wide."""
    coarse = Image.fromarray(rng.random((cells, cells), np.float32) * 255)
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) / 255


def _waves(rng: np.random.Generator, size: int) -> np.ndarray:
    """A plane wave (size, size) in [0, 1] of random direction and a period of 4 to 20 pixels."""
    pixel = np.arange(size, dtype=np.float32)
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(4, 20), rng.uniform(0, 6)
    x, y = (float(2 * np.pi / period * share) * pixel for share in (np.cos(angle), np.sin(angle)))
    return 0.5 + 0.5 * np.sin(x + y[:, None] + np.float32(phase))


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A full-image texture (size, size, 3) float in [0, 255]: plain, striped, checked, mottled or graded."""
    first, second = _colours(rng)
    kind = rng.integers(5)
    blend: np.ndarray
    if kind == 0:
        blend = np.zeros((size, size), np.float32)
    elif kind == 1:
        blend = _waves(rng, size)
    elif kind == 2:
        blend = (_waves(rng, size) > 0.5) ^ (_waves(rng, size) > 0.5)
    elif kind == 3:
        blend = _smooth_noise(rng, size, int(rng.integers(8, 40)))
    else:
        blend = _smooth_noise(rng, size, 2)
    # looking 256 blends up is four times faster than blending three channels of every pixel
    palette = first + np.linspace(0, 1, 256, dtype=np.float32)[:, None] * (second - first)
    return palette[(np.clip(blend, 0, 1) * 255).astype(np.uint8)]


def _stone(rng: np.random.Generator, size: int) -> list[tuple[float, float]]:
    """A wobbly closed outline that belongs to no class."""
    corners = int(rng.integers(5, 9))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = np.exp(rng.uniform(np.log(3), np.log(0.25 * size))) * rng.uniform(0.5, 1, corners)
    centre = rng.uniform(0, size, 2)
    return [tuple(p) for p in (centre + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]).tolist()]


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A cluttered background (size, size, 3) float in [0, 255]: mottled ground, stones and scratches."""
    ground = texture(rng, size)
    for cells in (3, 9, 27):
        ground = ground + (_smooth_noise(rng, size, cells)[..., None] - 0.5) * rng.normal(0, 25, 3).astype(np.float32)
    image = np.clip(ground, 0, 255)
    for _ in range(rng.integers(4, 12)):
        mask = Image.new("1", (size, size))
        pen = ImageDraw.Draw(mask)
        if rng.random() < 0.6:
            pen.polygon(_stone(rng, size), fill=1)
        else:
            pen.line(rng.uniform(0, size, 4).tolist(), fill=1, width=int(rng.integers(1, 4)))
        inside = np.asarray(mask)
        image[inside] = texture(rng, size)[inside]
    return image
