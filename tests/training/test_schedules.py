"""Schedules against their formulas, step by step."""

import math

import pytest

from dyhead_lab.training.schedules import rate_factor, warmup_steps, why_not_continued
from dyhead_lab.zoo.registry import RECIPES

from .tiny import quick_recipe


def factors(steps, **changes):
    recipe = quick_recipe(iterations=110, warmup=10, **changes)
    return [rate_factor(recipe, step) for step in steps]


def test_cosine_warms_up_and_ends_at_zero():
    got = factors(range(111))
    assert got[0] == 0.1 and got[9] == got[10] == 1.0
    for step in range(10, 111):
        assert got[step] == pytest.approx((1 + math.cos(math.pi * (step - 10) / 100)) / 2)
    assert got[60] == pytest.approx(0.5) and got[110] == pytest.approx(0)


def test_steps_fall_at_their_milestones():
    got = factors([10, 49, 50, 79, 80, 109], schedule="step", milestones=(50, 80), gamma=0.2)
    assert got == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04])


def test_warm_up_starts_from_its_share():
    """Linear from the share before the first step to 1 at the last step of the warm-up."""
    got = factors(range(12), schedule="constant", warmup_factor=0.3)
    assert got == pytest.approx([0.3 + 0.7 * (step + 1) / 10 for step in range(10)] + [1, 1])


def test_without_warm_up_the_first_step_has_the_whole_rate():
    assert rate_factor(quick_recipe(warmup=0), 0) == 1.0


def test_a_run_too_short_for_its_warm_up_leaves_it_after_a_tenth():
    for schedule in ("constant", "cosine"):
        recipe = quick_recipe(iterations=60, warmup=100, schedule=schedule)
        got = [rate_factor(recipe, step) for step in range(60)]
        assert warmup_steps(recipe) == 6 and got[:6] == pytest.approx([(step + 1) / 6 for step in range(6)])
        assert got[6] == 1.0 and (got[59] == 1 if schedule == "constant" else got[59] < 0.01)
    assert warmup_steps(quick_recipe(iterations=100, warmup=100)) == 10
    assert warmup_steps(quick_recipe(iterations=101, warmup=100)) == 100
    assert warmup_steps(quick_recipe(iterations=5, warmup=5)) == 0


def test_every_recipe_of_the_zoo_keeps_its_warm_up():
    assert all(warmup_steps(recipe) == recipe.warmup for recipe in RECIPES.values())


def test_a_milestone_inside_the_warm_up_counts():
    assert factors([4], schedule="step", milestones=(3,)) == pytest.approx([0.5 * 0.1])


@pytest.mark.parametrize(
    ("settings", "before", "done", "reason"),
    [
        ({}, {}, 60, None),
        ({"schedule": "constant", "iterations": 80}, {"iterations": 60}, 60, None),
        ({"schedule": "constant", "iterations": 60}, {"iterations": 80}, 60, None),
        ({"schedule": "constant", "iterations": 60}, {"iterations": 80}, 61, "has done 61 iterations"),
        ({"schedule": "constant", "iterations": 80}, {"iterations": 60, "lr": 1.0}, 60, ""),
        ({"schedule": "step", "iterations": 80, "milestones": (40,)}, {"iterations": 60}, 60, None),
        ({"schedule": "step", "milestones": (60, 70)}, {"milestones": (60,)}, 70, None),
        ({"schedule": "step", "milestones": (60, 70)}, {"milestones": (60,)}, 71, "schedule 'step' would have given"),
        ({"schedule": "cosine", "iterations": 80}, {"iterations": 60}, 60, "schedule 'cosine' would have given"),
        ({"schedule": "cosine", "iterations": 80}, {"iterations": 60}, 0, None),
        # Too short for its warm-up, the run had another one.
        ({"schedule": "constant", "iterations": 200, "warmup": 100}, {"iterations": 60}, 60, "would have given"),
    ],
)
def test_a_run_continues_where_its_past_would_have_been_the_same(settings, before, done, reason):
    told = why_not_continued(quick_recipe(**{"iterations": 100, **settings}), before, done)
    assert told is None if reason is None else told is not None and reason in told
