"""Recipes by name."""

from __future__ import annotations

import difflib

from ..errors import UserError
from ..training.recipe import Recipe
from .bccd import BCCD
from .detr_coco import DETR_COCO
from .quickstart import QUICKSTART

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (QUICKSTART, BCCD, *DETR_COCO)}


def names() -> list[str]:
    """Names of all recipes, sorted."""
    return sorted(RECIPES)


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the zoo has {', '.join(names())}"
        raise UserError(f"no recipe {name!r}; {hint}")
    return RECIPES[name]
