"""Recipes by name. ``get`` also takes a recipe, or a Python file that defines one."""

from __future__ import annotations

from dataclasses import replace

from ..errors import UserError
from ..recipe_names import FORMER_NAMES, refuse_unknown
from ..training.lookup import find_recipe as get
from ..training.lookup import names_are_found_by
from ..training.recipe import Recipe
from .bccd import BCCD
from .detr_coco import DETR_COCO
from .detr_tiny import DETR_TINY, EFFICIENT_TINY
from .dyhead_coco import DYHEAD_COCO
from .everyday_recipes import EVERYDAY
from .shapes_recipes import FROZEN_ATSS, QUICKSTART, SHAPES_RECIPES

__all__ = ["FORMER_NAMES", "RECIPES", "by_name", "current_name", "get", "names"]

_SMALL: tuple[Recipe, ...] = (QUICKSTART, BCCD, FROZEN_ATSS, *SHAPES_RECIPES.values(), *DETR_TINY, EFFICIENT_TINY)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*_SMALL, *EVERYDAY, *DYHEAD_COCO, *DETR_COCO)}


def names() -> list[str]:
    """Names of all recipes, sorted."""
    return sorted(RECIPES)


def current_name(name: str) -> str:
    """What a recipe is called now; other names come back as they are."""
    return FORMER_NAMES.get(name, name)


def by_name(name: str) -> Recipe:
    """The recipe of that name; under a former name, the recipe as it was called then, so that old runs continue.

    Raises:
        UserError: there is none.
    """
    if name in FORMER_NAMES:
        return replace(RECIPES[current_name(name)], name=name)
    if name not in RECIPES:
        refuse_unknown(name)
        raise UserError(f"no recipe {name!r}; `dyhead-lab zoo` lists what there is")
    return RECIPES[name]


names_are_found_by(by_name)
