"""Checks of chapter 13: the two schedules of the recipes, as shares of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..practice.reader_checks import Case, Mistake, Verdict, check

#: Where official recipes drop the rate: Dynamic Head's after 60,000 and 80,000 of 90,000 steps, those of DETR's family
#: after four fifths of the epochs.
OFFICIAL_DROPS = (60 / 90, 80 / 90)
DETR_DROPS = (0.8,)

# Warm-up, then half a cosine


def cosine_formula(step: int, warmup: int, iterations: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return _half_cosine((step - warmup) / (iterations - warmup))


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _cosine_cases(seed: int = 0, count: int = 40) -> Iterator[Case]:
    """The first step, the ends of the warm-up, then steps at random; the last cases have no warm-up."""
    rng = np.random.default_rng(seed)
    for step in (0, 9, 10, 55, 99):
        yield Case(f"step {step} of 100, warm-up 10", (step, 10, 100))
    for number in range(count):
        iterations = int(rng.integers(50, 500))
        warmup = int(rng.integers(5, iterations // 3)) if number < count - 5 else 0
        step = int(rng.integers(0, iterations))
        yield Case(f"step {step} of {iterations}, warm-up {warmup}", (step, warmup, iterations))


def _after_warmup(curve: Callable[[int, int, int], float]) -> Callable[[int, int, int], float]:
    """The right warm-up, and then another curve of (step, warmup, iterations)."""

    def imitate(step: int, warmup: int, iterations: int) -> float:
        return cosine_formula(step, warmup, iterations) if step < warmup else curve(step, warmup, iterations)

    return imitate


def _dropping(drops: Sequence[float]) -> Callable[[int, int, int], float]:
    """A tenth of the rate from each of these shares of all steps on."""
    return _after_warmup(lambda step, warmup, iterations: 0.1 ** sum(step >= d * iterations for d in drops))


def _share(step: int, warmup: int, iterations: int) -> float:
    return (step - warmup) / (iterations - warmup)


COSINE_MISTAKES = (
    Mistake(
        "the first step has rate 0",
        "step 0 is the first: warm up with (step + 1) / warmup.",
        lambda step, warmup, iterations: step / warmup if step < warmup else cosine_formula(step, warmup, iterations),
    ),
    Mistake(
        "the warm-up is forgotten",
        "below `warmup` the rate grows in a straight line.",
        lambda step, warmup, iterations: _half_cosine(max(0.0, _share(step, warmup, iterations))),
    ),
    Mistake(
        "the cosine counts from step 0",
        "it begins when the warm-up ends: (step - warmup) / (iterations - warmup).",
        _after_warmup(lambda step, warmup, iterations: _half_cosine(step / iterations)),
    ),
    Mistake(
        "the cosine falls and rises again",
        "half a cosine: pi, not 2 pi.",
        _after_warmup(lambda *numbers: _half_cosine(2 * _share(*numbers))),
    ),
    Mistake(
        "the rate is twice as high after the warm-up",
        "1 + cos lies in [0, 2]: halve it.",
        _after_warmup(lambda *numbers: 2 * _half_cosine(_share(*numbers))),
    ),
    Mistake(
        "the rate falls in a straight line",
        "use a cosine: slow, then fast, then slow.",
        _after_warmup(lambda *numbers: 1 - _share(*numbers)),
    ),
    Mistake(
        "the rate falls in the steps of the official recipes",
        "those drop to a tenth after 2/3 and 8/9 of the steps; here it is half a cosine.",
        _dropping(OFFICIAL_DROPS),
    ),
)
#: What the check knows besides what the chapter plants.
MORE_COSINE_MISTAKES = (
    *COSINE_MISTAKES,
    Mistake(
        "the rate falls in one step, as in the official recipes of DETR's family",
        "those drop to a tenth after four fifths of the steps; here it is half a cosine.",
        _dropping(DETR_DROPS),
    ),
)


def check_cosine_factor(function: Callable[[int, int, int], float]) -> Verdict:
    """Check the reader's ``cosine_factor(step, warmup, iterations)``: the share of the peak rate."""
    return check(function, cosine_formula, _cosine_cases(), MORE_COSINE_MISTAKES)


# Steps, as the official recipes have them

Steps = Callable[[int, Sequence[int], float, int, float], float]


def step_formula(step: int, milestones: Sequence[int], gamma: float, warmup: int, warmup_factor: float) -> float:
    grown = 1.0 if step >= warmup else warmup_factor + (1 - warmup_factor) * (step + 1) / warmup
    return grown * gamma ** sum(milestone <= step for milestone in milestones)


def _step_cases() -> Iterator[Case]:
    """No warm-up and one drop (Deformable DETR), two drops, then a warm-up from 0 and from a share (Dynamic Head)."""
    for milestones, gamma, warmup, start in (
        ((40,), 0.1, 0, 0.0),
        ((40, 45), 0.1, 0, 0.0),
        ((40, 45), 0.5, 10, 0.0),
        ((40, 45), 0.1, 10, 0.001),
        ((30, 60), 0.1, 20, 0.25),
    ):
        for step in (0, 1, 9, 10, 29, 30, 39, 40, 41, 44, 45, 49, 60):
            words = f"step {step}, drops at {milestones}, gamma {gamma}, warm-up {warmup} steps from {start}"
            yield Case(words, (step, milestones, gamma, warmup, start))


def _step_variant(
    reached: Callable[[int, int, int], bool] = lambda milestone, step, warmup: milestone <= step,
    fall: Callable[[float, int], float] = lambda gamma, drops: gamma**drops,
    start: Callable[[float], float] = lambda factor: factor,
    first: int = 1,
    warm: bool = True,
) -> Steps:
    def imitate(step: int, milestones: Sequence[int], gamma: float, warmup: int, warmup_factor: float) -> float:
        share = start(warmup_factor)
        grown = share + (1 - share) * (step + first) / warmup if warm and step < warmup else 1.0
        return grown * fall(gamma, sum(reached(milestone, step, warmup) for milestone in milestones))

    return imitate


STEP_MISTAKES = (
    Mistake(
        "the rate falls one step late",
        "at step 40 the milestone 40 is reached: milestone <= step.",
        _step_variant(reached=lambda milestone, step, warmup: milestone < step),
    ),
    Mistake(
        "the rate falls once, however many milestones are behind",
        "every milestone multiplies by gamma: gamma to the power of their number.",
        _step_variant(fall=lambda gamma, drops: gamma if drops else 1.0),
    ),
    Mistake(
        "the milestones are counted from the end of the warm-up",
        "they are steps of the whole training.",
        _step_variant(reached=lambda milestone, step, warmup: milestone <= step - warmup),
    ),
    Mistake(
        "the warm-up begins at 0 whatever its first share is",
        "it grows from warmup_factor to 1.",
        _step_variant(start=lambda factor: 0.0),
    ),
    Mistake("the first step of a warm-up has its first share", "step 0 is the first: count (step + 1) / warmup.",
            _step_variant(first=0)),
    Mistake("there is no warm-up", "below `warmup` the rate grows in a straight line.", _step_variant(warm=False)),
    Mistake(
        "gamma is taken off instead of multiplied",
        "0.1 leaves a tenth.",
        _step_variant(fall=lambda gamma, drops: (1 - gamma) ** drops),
    ),
)  # fmt: skip


def check_step_factor(function: Steps) -> Verdict:
    """Check the reader's ``step_factor(step, milestones, gamma, warmup, warmup_factor)``."""
    return check(function, step_formula, _step_cases(), STEP_MISTAKES)
