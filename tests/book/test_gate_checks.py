"""The checks of ratios, paired changes and gates in the chapter on scale ratios: planted bugs are caught by name."""

from dyhead_book.c15_learned_scale_ratios.gate_checks import (
    PAIR_MISTAKES,
    PART_MISTAKES,
    RATIO_MISTAKES,
    check_gate_parts,
    check_paired_interval,
    check_scale_ratios,
)

from .definitions import definitions
from .planted import assert_bugs_are_caught

CELLS = definitions("15_learned_scale_ratios")


def test_bugs_of_the_ratio_are_caught():
    assert_bugs_are_caught(check_scale_ratios, CELLS["scale_ratios"], RATIO_MISTAKES)


def test_bugs_of_the_paired_interval_are_caught():
    assert_bugs_are_caught(check_paired_interval, CELLS["paired_interval"], PAIR_MISTAKES)


def test_bugs_of_the_parts_of_a_change_are_caught():
    assert_bugs_are_caught(check_gate_parts, CELLS["gate_parts"], PART_MISTAKES)
