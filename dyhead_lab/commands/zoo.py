"""``dyhead-lab zoo``: what can be trained, with the AP to expect, and what can be measured."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..paths import WEIGHTS
from ..recipe_names import listed, refuse_unknown

if TYPE_CHECKING:
    from ..training.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        help="a recipe, or a file that defines RECIPE: print all that is known of it (default: list everything)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the list, or one recipe. Returns 0."""
    if args.name:
        refuse_unknown(args.name)
        from .. import zoo

        print(description(zoo.get(args.name)))
    else:
        _list()
    return 0


def _list() -> None:
    recipes = listed("recipe")
    width = max(len(recipe.name) for recipe in recipes)
    for data in dict.fromkeys(recipe.data for recipe in recipes):
        group = [recipe for recipe in recipes if recipe.data == data]
        published = " (AP: published)" if any(recipe.published_ap for recipe in group) else ""
        print(f"recipes on {data}{published}")
        for recipe in group:
            mark = "*" if (WEIGHTS / f"{recipe.name}.pt").is_file() else " "
            print(f"{mark} {recipe.name:<{width}}  {recipe.published_ap:>5}  {recipe.summary}")
    print("* weights are here: dyhead-lab detect IMAGE --weights NAME")
    print("experiments (dyhead-lab experiment NAME)")
    for experiment in listed("experiment"):
        print(f"  {experiment.name:<{width}}  {'':>5}  {experiment.summary}")


def description(recipe: Recipe) -> str:
    """Every setting of a recipe, one a line."""
    words = {"summary": recipe.summary, "source": recipe.source, "expect": recipe.expected or "no figure yet"}
    detector = f"{recipe.detector.__module__}.{getattr(recipe.detector, '__name__', '')}"
    lines = {**words, "detector": detector, **recipe.settings()}
    return "\n".join([recipe.name, *(f"  {name:<25}{value}" for name, value in lines.items())])
