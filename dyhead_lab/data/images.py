"""Read an image file as the tensor that every detector takes."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ..errors import UserError

#: What Pillow's decoders raise on broken files.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

#: What phones call photographs that Pillow does not read by itself.
HEIC = (".heic", ".heif")
HEIC_HINT = "HEIC is read by no library that this project requires: save the photograph as JPEG"
#: Pillow's modes of one channel with 16 bits. Older files of 16 bits open as the 32-bit mode "I".
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")

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


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read one image.

    Grey-scale images get three equal channels, palettes and CMYK are converted, 16-bit values are divided by
    65535, an alpha channel is ignored, and of an animation the first frame is taken. The pixels come as they
    are stored: an EXIF orientation is not applied, because COCO's boxes refer to the stored pixels.

    Args:
        path: any format that Pillow reads.

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        UserError: the file is missing or broken; the message names it.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            pixels = _rgb(image)
    except FileNotFoundError:
        raise UserError(f"image not found: {path}") from None
    except _DECODING_ERRORS as error:
        hint = f"; {HEIC_HINT}" if path.suffix.lower() in HEIC else ""
        raise UserError(f"cannot read image {path}: {error}{hint}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1]."""
    if image.mode in _DEEP_MODES:
        grey = np.asarray(image, dtype=np.float32) / 65535
        if grey.size and (grey.min() < 0 or grey.max() > 1):
            raise ValueError("its values do not fit in 16 bits")
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("it holds floating-point values of unknown range; store it with 8 or 16 bits")
    if "transparency" in image.info:  # to RGB at once, Pillow warns of some of these
        image = image.convert("RGBA")
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    pixels /= 255  # in place: a photograph of 12 megapixels takes 144 MB
    return pixels


def exif_orientation(path: str | os.PathLike[str]) -> int:
    """EXIF orientation of an image file, 1 (upright) to 8. 1 if the file does not say.

    A damaged EXIF block says nothing either: a warning names the file.

    Raises:
        UserError: the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            orientation = _stated_orientation(image, path)
    except FileNotFoundError:
        raise UserError(f"image not found: {path}") from None
    except _DECODING_ERRORS as error:
        raise UserError(f"cannot read image {path}: {error}") from error
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright(image: Tensor, orientation: int) -> Tensor:
    """Turn an image (3, H, W) as its EXIF orientation, 1 to 8, asks for."""
    swap, flips = _UPRIGHT.get(orientation, (False, ()))
    return (image.transpose(1, 2) if swap else image).flip(flips)


def _stated_orientation(image: Image.Image, path: str | os.PathLike[str]) -> object:
    """What an open image says of its orientation, whatever it is; None if it cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:  # Pillow's parsers of EXIF and XMP raise many kinds on damaged blocks
        warnings.warn(f"{path}: its EXIF block is damaged ({error}); the image is taken as it lies", stacklevel=3)
        return None
