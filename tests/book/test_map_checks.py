"""The chapter on attention maps: solutions pass, planted bugs are caught by name."""

import numpy as np
import pytest

from dyhead_book.c14_attention_maps.map_checks import (
    MORE_HEAT_MISTAKES,
    SHARE_MISTAKES,
    SPREAD_MISTAKES,
    check_heat_map,
    check_share_inside,
    check_spread,
)

from .definitions import definitions
from .planted import assert_bugs_are_caught

CELLS = definitions("14_attention_maps")


def test_bugs_of_the_heat_map_are_caught():
    assert_bugs_are_caught(check_heat_map, CELLS["heat_map"], MORE_HEAT_MISTAKES)


def test_bugs_of_the_spread_are_caught():
    assert_bugs_are_caught(check_spread, CELLS["spread"], SPREAD_MISTAKES)


def test_bugs_of_the_share_inside_a_box_are_caught():
    assert_bugs_are_caught(check_share_inside, CELLS["share_inside"], SHARE_MISTAKES)


def test_the_spread_of_a_cross_is_its_arm():
    cross = np.array([[0.5, 0.4], [0.5, 0.6], [0.4, 0.5], [0.6, 0.5]])
    assert CELLS["spread"](cross, np.full(4, 3.0)) == pytest.approx(0.1)
