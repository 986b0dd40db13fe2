import numpy as np
import pytest

from dyhead_book.c08_dynamic_head_on_detectors.published import ATSS_R50, DETECTORS, PAPER_GAINS, table
from dyhead_book.c08_dynamic_head_on_detectors.representation_checks import (
    DELTAS_MISTAKES,
    POINTS_MISTAKES,
    SIDES_MISTAKES,
    box_from_deltas,
    box_from_points,
    box_from_sides,
    check_box_from_deltas,
    check_box_from_points,
    check_box_from_sides,
)
from dyhead_lab.zoo import get

from .planted import assert_bugs_are_caught


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (check_box_from_deltas, box_from_deltas, DELTAS_MISTAKES),
        (check_box_from_sides, box_from_sides, SIDES_MISTAKES),
        (check_box_from_points, box_from_points, POINTS_MISTAKES),
    ],
)
def test_bugs(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_the_three_ways_can_write_the_same_box():
    box = np.array([10.0, 20, 50, 80])
    anchor = np.array([20.0, 20, 60, 80])
    assert np.allclose(box_from_deltas(anchor, np.array([-2.5, 0, 0, 0])), box)  # a quarter of the width to the left
    assert np.allclose(box_from_sides(np.array([20.0, 40]), np.array([10.0, 20, 30, 40]) / 8, 8), box)
    offsets = np.zeros((9, 2))
    offsets[0], offsets[1] = (-20 / 8, -10 / 8), (40 / 8, 30 / 8)
    assert np.allclose(box_from_points(np.array([20.0, 40]), offsets, 8), box)


def test_published_numbers_are_those_of_the_recipes():
    with_ = {row.detector: row.with_ for row in DETECTORS}
    recipes = {"ATSS": "atss_r50_dyhead", "RetinaNet": "retinanet_r50_dyhead", "Faster R-CNN": "faster_rcnn_r50_dyhead"}
    for detector, recipe in recipes.items():
        assert get(recipe).published_ap == pytest.approx(with_[detector] / 100)
    assert ATSS_R50["released code"] == with_["ATSS"]
    assert PAPER_GAINS[0] < PAPER_GAINS[1]


def test_the_table_has_every_detector_and_names_its_sources():
    lines = table().splitlines()
    assert len(lines) == 2 + len(DETECTORS)
    for row, line in zip(DETECTORS, lines[2:], strict=True):
        assert row.detector in line and row.source_without in line
        assert (row.with_ is None) == (not row.source_with)
