"""What a name or a file means where a recipe would do as well as weights: the detector, or how it is trained."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..errors import UserError
from ..paths import find_weights
from ..published.catalogue import is_published, nearest
from ..training.python_file import is_python_file
from ..training.recipe import Recipe
from .registry import RECIPES, current_name, get, names
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
    if _is_recipe(source):
        number = CLASSES if classes is None else classes
        return get(source).architecture(number), number
    _refuse_unknown(source)
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
    if _is_recipe(source):
        return get(source)
    _refuse_unknown(source)
    return load_trained(source).recipe


def _is_recipe(source: str | Path) -> bool:
    return is_python_file(str(source)) or current_name(str(source)) in RECIPES


def _refuse_unknown(source: str | Path) -> None:
    if find_weights(source) is None and not Path(source).exists() and not is_published(str(source)):
        raise UserError(
            f"no recipe and no weights {str(source)!r}; dyhead-lab zoo and dyhead-lab weights list what there is"
            f"{nearest(str(source), names())}"
        )
