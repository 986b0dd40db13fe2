"""Learning-rate schedules: the share of the peak rate at every step.

Each is a linear warm-up times a curve. With n warm-up steps that start from the share w,

    warm(step) = w + (1 - w) * (step + 1) / n        for step < n, then 1
    cosine(step) = (1 + cos(pi * (step - n) / (iterations - n))) / 2        1 during warm-up
    step(step) = gamma ** (number of milestones m <= step)
    constant(step) = 1

n is the recipe's ``warmup``. A run that would end before its warm-up does would never learn at its rate: there n is a
tenth of its iterations.

Sources: Goyal et al., "Accurate, Large Minibatch SGD", 2017 (warm-up); Loshchilov and Hutter, "SGDR", 2017 (cosine).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .recipe import Recipe


def rate_factor(recipe: Recipe, step: int) -> float:
    """Factor on every learning rate of ``recipe`` at ``step`` (0 is the first)."""
    return _warm(recipe, step) * CURVES[recipe.schedule](recipe, step)


def warmup_steps(recipe: Recipe) -> int:
    """Steps of warm-up: those of the recipe, or a tenth of a run that would not outlast them."""
    return recipe.warmup if recipe.warmup < recipe.iterations else recipe.iterations // 10


def why_not_continued(recipe: Recipe, before: Mapping[str, Any], done: int) -> str | None:
    """Why a run cannot go on with ``recipe``, as the end of a sentence; None where it can.

    It may become longer or shorter, as long as every step that it has done would have had the same rate: under
    schedules "constant" and "step", but not under "cosine", which looks ahead to the end.

    Args:
        recipe: what the run is asked for now.
        before: the settings that were others when it began, with their values.
        done: its steps so far.
    """
    if not before:
        return None
    if not before.keys() <= {"iterations", "milestones"}:
        return ""
    if done > recipe.iterations:
        return f" that has done {done} iterations"
    began = replace(recipe, **before)
    if any(rate_factor(began, step) != rate_factor(recipe, step) for step in range(done)):
        return f", whose schedule {recipe.schedule!r} would have given other rates to the steps that are done"
    return None


def _warm(recipe: Recipe, step: int) -> float:
    steps = warmup_steps(recipe)
    if step >= steps:
        return 1.0
    return recipe.warmup_factor + (1 - recipe.warmup_factor) * (step + 1) / steps


def _cosine(recipe: Recipe, step: int) -> float:
    steps = warmup_steps(recipe)
    if step < steps:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - steps) / max(1, recipe.iterations - steps)))


def _step(recipe: Recipe, step: int) -> float:
    return recipe.gamma ** sum(milestone <= step for milestone in recipe.milestones)


def _constant(recipe: Recipe, step: int) -> float:
    return 1.0


#: ``Recipe.schedule`` -> the curve after the warm-up.
CURVES = {"cosine": _cosine, "step": _step, "constant": _constant}
