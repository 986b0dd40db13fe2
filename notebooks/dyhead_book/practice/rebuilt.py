"""A shipped detector, rebuilt around the reader's own classes, with its trained weights.

The proof of a chapter is not only that numbers agree on random cases: the detector that the project ships runs on what
the reader wrote, and finds the same boxes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dyhead_lab.errors import UserError
from dyhead_lab.zoo import load_trained

from .drawn_shapes import shapes_ap
from .reader_checks import Verdict

LIBRARY = "dyhead_lab"
#: float32 sums in another order differ by about 1e-6 after a whole detector; a mistake by far more.
SAME_SCORE = 1e-4
#: AP counts matches, so equal detections give equal AP; scores in another order may swap two that are nearly tied.
SAME_AP = 1e-6


@contextmanager
def rebuilt(weights: str, **replacements: Any) -> Iterator[nn.Module]:
    """A trained detector in which the reader's classes and functions stand for the library's of the same names.

    ::

        with rebuilt("quickstart", ScaleAwareAttention=ScaleAwareAttention) as model:
            model([image])

    While the block runs, every module of the library that uses one of these names finds the reader's object in its
    place, and the detector is built anew and filled with the trained weights, strictly: every parameter must be there,
    under its name and with its shape.

    Args:
        weights: what :func:`dyhead_lab.zoo.load_trained` takes.
        replacements: name of a class or function of the library -> the reader's.

    Yields:
        the detector in evaluation mode.

    Raises:
        ValueError: the library has no class or function of that name, or the detector does not use it.
        UserError: the weights do not fit the reader's classes.
    """
    trained = load_trained(weights)  # also imports whatever the detector is made of
    places = [place for name in replacements for place in _users(name)]
    before = [(module, name, getattr(module, name)) for module, name in places]
    try:
        for module, name in places:
            setattr(module, name, replacements[name])
        model = load_trained(trained.path).model
        for name, own in replacements.items():
            if isinstance(own, type) and not any(type(part) is own for part in model.modules()):
                raise ValueError(f"{name}: the detector {weights} is not made of it, so nothing would be proved")
        yield model
    finally:
        for module, name, original in before:
            setattr(module, name, original)


def check_rebuilt(weights: str, images: Sequence[Tensor], **replacements: Any) -> Verdict:
    """Whether a trained detector finds the same on the reader's classes as on the library's.

    Args:
        weights, replacements: as in :func:`rebuilt`.
        images: (3, H, W) in [0, 1].
    """
    names = _in_words(replacements)
    shipped = load_trained(weights).model
    try:
        with torch.no_grad(), rebuilt(weights, **replacements) as model:
            found = model(list(images))
    except UserError as error:  # the weights do not fit
        return _unfit(names, error)
    with torch.no_grad():
        wanted = shipped(list(images))
    for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        if len(mine["boxes"]) != len(theirs["boxes"]) or not torch.equal(mine["labels"], theirs["labels"]):
            counts = f"{len(mine['boxes'])} boxes in place of {len(theirs['boxes'])}, or other classes"
            return Verdict(False, f"Image {number}: on {names} the detector finds {counts}.")
        apart = max((mine["scores"] - theirs["scores"]).abs().tolist(), default=0.0)
        if apart > SAME_SCORE:
            return Verdict(False, f"Image {number}: on {names} a score differs by {apart:.1e}.")
    boxes = sum(len(mine["boxes"]) for mine in found)
    return Verdict(True, f"On {names} the trained detector finds the same {boxes} boxes in {len(images)} images.")


def check_same_ap(weights: str, images: int = 60, **replacements: Any) -> Verdict:
    """Whether a trained detector has the same AP on the reader's classes as on the library's.

    Args:
        weights, replacements: as in :func:`rebuilt`; the detector must have learned Shapes.
        images: pictures of Shapes that it has not seen.
    """
    names = _in_words(replacements)
    try:
        with rebuilt(weights, **replacements) as model:
            mine = shapes_ap(model, images)
    except UserError as error:  # the weights do not fit
        return _unfit(names, error)
    theirs = shapes_ap(load_trained(weights).model, images)
    if abs(mine - theirs) > SAME_AP:
        return Verdict(False, f"The weights fit, but on {names} AP is {mine:.4f} where it should be {theirs:.4f}.")
    return Verdict(True, f"AP on {images} pictures: {mine:.6f} on {names}, {theirs:.6f} on the library's.")


def _in_words(replacements: Mapping[str, Any]) -> str:
    """Whose classes these are: their names, or how many there are if a line cannot hold them."""
    names = " and ".join(replacements)
    return names if len(names) <= 60 else f"your {len(replacements)} classes"


def _unfit(names: str, error: UserError) -> Verdict:
    lines = [line.strip() for line in str(error).splitlines()[1:]]
    return Verdict(False, f"The trained weights do not fit {names}. {' '.join(lines)[:300]}")


def _users(name: str) -> list[tuple[Any, str]]:
    """The library's loaded modules in which ``name`` means one and the same class or function.

    It may be one of another package that the library uses, as torchvision's ``FeaturePyramidNetwork``.

    Raises:
        ValueError: there is none.
    """
    modules = [module for path, module in sys.modules.items() if path.split(".")[0] == LIBRARY and module]
    found = [(module, getattr(module, name)) for module in modules if hasattr(module, name)]
    homes = {thing.__module__ for _, thing in found if hasattr(thing, "__module__")}
    if not homes:
        raise ValueError(f"{name}: the library has no class or function of that name")
    if len(homes) > 1:
        raise ValueError(f"{name}: several things of the library are called so, in {', '.join(sorted(homes))}")
    return [(module, name) for module, thing in found if hasattr(thing, "__module__")]
