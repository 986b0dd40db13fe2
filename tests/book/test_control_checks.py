"""The checks of taps, rings and tokens in the chapter on attention maps: planted bugs are caught by name."""

from dyhead_book.c14_attention_maps.control_checks import (
    CARRY_MISTAKES,
    RING_MISTAKES,
    TAP_MISTAKES,
    check_carry,
    check_ring_points,
    check_tap_places,
)

from .definitions import definitions
from .planted import assert_bugs_are_caught

CELLS = definitions("14_attention_maps")


def test_bugs_of_the_taps_are_caught():
    assert_bugs_are_caught(check_tap_places, CELLS["tap_places"], TAP_MISTAKES)


def test_bugs_of_the_ring_are_caught():
    assert_bugs_are_caught(check_ring_points, CELLS["ring_points"], RING_MISTAKES)


def test_bugs_of_the_tokens_that_carry_are_caught():
    assert_bugs_are_caught(check_carry, CELLS["tokens_that_carry"], CARRY_MISTAKES)
