"""What a detector gives back, held against the form of CONTRIBUTING.md: one of your own may still miss it somewhere.

Training and evaluation ask these functions, so that a detector of any origin is refused in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import UserError

#: What the log calls its other numbers; a loss of that name would be taken for one of them.
TAKEN = ("iteration", "lr", "images_per_second", "waiting", "AP")
#: Parts of what is found in an image -> their axes after the first, which counts the boxes.
DETECTIONS = {"boxes": (4,), "scores": (), "labels": ()}


def check_losses(losses: Any) -> None:
    """Refuse what is no dict of losses. Values are not looked at: a GPU would be waited for.

    Args:
        losses: what ``model(images, targets)`` gave in training mode.

    Raises:
        UserError: it is no dict, is empty, a loss is no tensor with one number, or has a name that the log needs.
    """
    expected = "the detector's losses: expected a dict of tensors without axes, such as {'class': tensor(0.7)}"
    if not isinstance(losses, Mapping) or not losses:
        raise UserError(f"{expected}, got {type(losses).__name__}{' without entries' if losses == {} else ''}")
    for name, loss in losses.items():
        if name in TAKEN or not isinstance(name, str):
            raise UserError(f"the detector's losses: {name!r} is a name that the log needs itself; choose another")
        if not isinstance(loss, Tensor) or loss.dim():
            raise UserError(f"{expected}, got {_kind(loss)} for {name!r}")


def check_detections(found: Any, images: int, classes: int) -> None:
    """Refuse what is no list of detections.

    Args:
        found: what ``model(images)`` gave in evaluation mode.
        images: how many it was given.
        classes: labels lie in 0..classes-1.

    Raises:
        UserError: it is no list with a dict for each image; ``boxes``, ``scores`` or ``labels`` are missing or of
            other shapes; or a label is no class.
    """
    if not isinstance(found, Sequence) or len(found) != images:
        got = f"{len(found)} of them" if isinstance(found, Sequence) else _kind(found)
        raise UserError(f"the detector's results: expected a list with one dict for each of {images} images, got {got}")
    for i, one in enumerate(found):
        place = f"the detector's results for image {i} of {images}"
        if not isinstance(one, Mapping):
            raise UserError(f"{place}: expected a dict with {', '.join(DETECTIONS)}, got {_kind(one)}")
        boxes = one.get("boxes")
        count = len(boxes) if isinstance(boxes, Tensor) and boxes.dim() else 0
        for name, rest in DETECTIONS.items():
            part = one.get(name)
            if not isinstance(part, Tensor) or part.shape != (count, *rest):
                wanted = "(n, 4)" if name == "boxes" else f"({count},)"
                raise UserError(f"{place}: expected a tensor {wanted} for {name!r}, got {_kind(part)}")
        labels = one["labels"].tolist()
        if any(not 0 <= label < classes for label in labels):
            raise UserError(f"{place}: labels must lie in 0..{classes - 1}, got {sorted(set(labels))}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"
