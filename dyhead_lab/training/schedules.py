"""Learning-rate schedules: the share of the peak rate at every step.

Each is a linear warm-up times a curve. With n warm-up steps that start from the share w,

    warm(step) = w + (1 - w) * (step + 1) / n        for step < n, then 1
    cosine(step) = (1 + cos(pi * (step - n) / (iterations - n))) / 2        1 during warm-up
    step(step) = gamma ** (number of milestones m <= step)
    constant(step) = 1

Sources: Goyal et al., "Accurate, Large Minibatch SGD", 2017 (warm-up); Loshchilov and Hutter, "SGDR", 2017 (cosine).
"""

from __future__ import annotations

import math

from .recipe import Recipe


def rate_factor(recipe: Recipe, step: int) -> float:
    """Factor on every learning rate of ``recipe`` at ``step`` (0 is the first)."""
    return _warm(recipe, step) * CURVES[recipe.schedule](recipe, step)


def _warm(recipe: Recipe, step: int) -> float:
    if step >= recipe.warmup:
        return 1.0
    return recipe.warmup_factor + (1 - recipe.warmup_factor) * (step + 1) / recipe.warmup


def _cosine(recipe: Recipe, step: int) -> float:
    if step < recipe.warmup:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup) / max(1, recipe.iterations - recipe.warmup)))


def _step(recipe: Recipe, step: int) -> float:
    return recipe.gamma ** sum(milestone <= step for milestone in recipe.milestones)


def _constant(recipe: Recipe, step: int) -> float:
    return 1.0


#: ``Recipe.schedule`` -> the curve after the warm-up.
CURVES = {"cosine": _cosine, "step": _step, "constant": _constant}
