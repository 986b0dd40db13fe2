"""Schedules against their formulas, step by step."""

import math

import pytest

from dyhead_lab.training.schedules import rate_factor

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


def test_a_milestone_inside_the_warm_up_counts():
    assert factors([4], schedule="step", milestones=(3,)) == pytest.approx([0.5 * 0.1])
