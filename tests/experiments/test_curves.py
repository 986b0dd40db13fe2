"""AP on the way of a training, and how long a detector needed to get somewhere."""

import json

import pytest

from dyhead_lab.experiments.curves import curve, iterations_to, numbers_on_the_way
from dyhead_lab.experiments.record import Record, Spread


def rising(*points):
    return [(step, Spread(ap, None, 1)) for step, ap in points]


def test_numbers_of_every_evaluation_are_kept_and_the_end_is_that_of_the_run(tmp_path):
    log = tmp_path / "log.jsonl"
    entries = [
        {"iteration": 20, "loss": 3.0},
        {"iteration": 50, "AP": 0.1, "AP_small": 0.05},
        {"iteration": 100, "AP": 0.3, "AP_small": 0.2},
    ]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    assert numbers_on_the_way(log, {"AP": 0.3001, "AP_small": 0.2001, "AP50": 0.5}, 100) == {
        "AP after 50": 0.1,
        "AP_small after 50": 0.05,
        "AP after 100": 0.3001,
        "AP_small after 100": 0.2001,
    }


def test_a_curve_is_in_the_order_of_steps_over_the_seeds_that_have_it():
    record = Record("toy", "", ("a",), "a", ("AP",), (0, 1), "")
    record.add("a", 0, {"AP": 0.4, "AP after 1000": 0.4, "AP after 200": 0.1, "AP_small after 200": 0.0}, {})
    record.add("a", 1, {"AP": 0.6, "AP after 1000": 0.6}, {})
    points = curve(record, "a")
    assert [step for step, _ in points] == [200, 1000]
    assert points[0][1] == Spread(0.1, None, 1)
    assert points[1][1].mean == pytest.approx(0.5) and points[1][1].seeds == 2
    assert [step for step, _ in curve(record, "a", "AP_small")] == [200]
    assert curve(record, "none") == []


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.05, 50), (0.1, 100), (0.2, 150), (0.25, 175), (0.3, 200), (0.31, None)],
)
def test_time_to_a_level_lies_on_the_line_between_evaluations(level, expected):
    assert iterations_to(rising((100, 0.1), (200, 0.3), (300, 0.2)), level) == (expected and pytest.approx(expected))


def test_a_level_of_zero_is_there_at_once():
    assert iterations_to(rising((100, 0.0)), 0.0) == 100
