"""Real photographs that packages bring: nothing to download, everything free to show.

One of them, ``"workshop"``, is followed from pixels to boxes through the whole book.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from matplotlib import cbook
from PIL import Image
from torch import Tensor

from ..errors import UserError


@dataclass(frozen=True)
class Photograph:
    """Where a photograph comes from.

    Attributes:
        file: its name in the package.
        shows: what is seen on it, in a few words: also what a figure says to those who cannot see it.
        source: who made it, and under which licence.
    """

    file: str
    shows: str
    source: str


#: Name -> photograph. All but ``grace_hopper`` (matplotlib) come with scikit-image.
PHOTOGRAPHS: dict[str, Photograph] = {
    "workshop": Photograph(
        "motorcycle_left.png",
        "a motorcycle in a workshop, with tools, boxes and a second machine behind it",
        "Middlebury stereo data set 2014 (Scharstein et al.), scikit-image, CC0",
    ),
    "astronaut": Photograph(
        "astronaut.png",
        "the astronaut Eileen Collins before a flag and a model of a space shuttle",
        "NASA, scikit-image, public domain",
    ),
    "cat": Photograph("chelsea.png", "the face of a cat, close up", "Stefan van der Walt, scikit-image, CC0"),
    "coffee": Photograph(
        "coffee.png",
        "a cup of coffee on a saucer with a spoon, on a wooden table",
        "Rachel Michetti, scikit-image, CC0",
    ),
    "rocket": Photograph("rocket.jpg", "a rocket on its launch pad", "SpaceX, scikit-image, CC0"),
    "grace_hopper": Photograph(
        "grace_hopper.jpg", "Rear Admiral Grace Hopper in uniform before a flag", "US Navy, matplotlib, public domain"
    ),
}


def photograph_path(name: str) -> Path:
    """The file of a photograph.

    Raises:
        UserError: there is no photograph of that name; the nearest names are listed.
    """
    if name not in PHOTOGRAPHS:
        near = difflib.get_close_matches(name, PHOTOGRAPHS, 2, 0.4) or list(PHOTOGRAPHS)
        raise UserError(f"no photograph {name!r}; there are {', '.join(PHOTOGRAPHS)}. Nearest: {', '.join(near)}")
    file = PHOTOGRAPHS[name].file
    if name == "grace_hopper":
        return Path(str(cbook.get_sample_data(file, asfileobj=False)))
    return Path(skimage.data.__file__).parent / file


def photograph(name: str = "workshop") -> Tensor:
    """A photograph that comes with a package.

    Args:
        name: one of :data:`PHOTOGRAPHS`.

    Returns:
        (3, H, W) in [0, 1], as detectors take it.

    Raises:
        UserError: there is no photograph of that name.
    """
    with Image.open(photograph_path(name)) as file:
        pixels = np.array(file.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255
