"""``dyhead-lab zoo``: what can be trained, with the AP to expect, and what can be measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..paths import WEIGHTS
from ..recipe_names import refuse_unknown

if TYPE_CHECKING:
    from ..data.dataset import DetectionData
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
    from ..experiments.catalogue import EXPERIMENTS
    from ..zoo.registry import RECIPES

    if args.name:
        print(description(zoo.get(args.name)))
        return 0
    width = max(map(len, RECIPES))
    by_data: dict[Callable[[str], DetectionData], list[Recipe]] = {}
    for recipe in RECIPES.values():
        by_data.setdefault(recipe.dataset, []).append(recipe)
    for dataset, group in by_data.items():
        published = " (AP: published)" if any(recipe.published_ap is not None for recipe in group) else ""
        print(f"recipes on {getattr(dataset, '__name__', 'other data')}{published}")
        for recipe in group:
            ap = "" if recipe.published_ap is None else f"{recipe.published_ap:.3f}"
            mark = "*" if (WEIGHTS / f"{recipe.name}.pt").is_file() else " "
            print(f"{mark} {recipe.name:<{width}}  {ap:>5}  {recipe.summary}")
    print("* weights are here: dyhead-lab detect IMAGE --weights NAME")
    print("experiments (dyhead-lab experiment NAME)")
    for name, experiment in sorted(EXPERIMENTS.items()):
        print(f"  {name:<{width}}  {'':>5}  {experiment.summary}")
    return 0


def description(recipe: Recipe) -> str:
    """Every setting of a recipe, one a line."""
    words = {"summary": recipe.summary, "source": recipe.source, "expect": recipe.expected or "no figure yet"}
    detector = f"{recipe.detector.__module__}.{getattr(recipe.detector, '__name__', '')}"
    lines = {**words, "detector": detector, **recipe.settings()}
    return "\n".join([recipe.name, *(f"  {name:<25}{value}" for name, value in lines.items())])
