"""What a name or a file means where a recipe would do as well as weights: the detector, or how it is trained."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..errors import UserError
from ..published.catalogue import refuse_unknown_source
from ..recipe_names import is_recipe
from ..training.recipe import Recipe
from .registry import get
from .trained import load_trained

#: Classes of a recipe's detector where nobody says how many: COCO's.
CLASSES = 80


def detector_of(source: str | Path, classes: int | None = None) -> tuple[nn.Module, int]:
    """The detector of a recipe with random weights, or of weights; and how many classes it has.

    Args:
        source: a recipe of the zoo or a Python file that defines one; else what
            :func:`~dyhead_lab.zoo.load_trained` takes.
        classes: of a recipe's detector; :data:`CLASSES` by default. Weights have their own.

    Raises:
        UserError: nothing of that name is known; weights have another number of classes; or as ``load_trained``.
    """
    if is_recipe(str(source)):
        number = CLASSES if classes is None else classes
        return get(source).architecture(number), number
    refuse_unknown_source(str(source))
    trained = load_trained(source)
    own = len(trained.categories)
    if classes not in (None, own):
        raise UserError(f"{source} has {own} classes of its own, got {classes}")
    return trained.model, own


def recipe_meant(source: str | Path) -> Recipe:
    """The recipe, or the one that weights were trained with.

    Raises:
        UserError: as :func:`detector_of`.
    """
    if is_recipe(str(source)):
        return get(source)
    refuse_unknown_source(str(source))
    return load_trained(source).recipe
