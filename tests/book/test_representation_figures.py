"""Figures of chapter 08: what is drawn is what was given."""

from dataclasses import replace

import pytest
import torch

from dyhead_book.c08_dynamic_head_on_detectors.assignment import assignment_figure
from dyhead_book.c08_dynamic_head_on_detectors.boxes_figure import boxes_figure
from dyhead_book.c08_dynamic_head_on_detectors.loss_curves import parts_over_steps
from dyhead_book.c08_dynamic_head_on_detectors.representations import MOTORCYCLE, representations_figure
from dyhead_lab.data.photographs import photograph
from dyhead_lab.views.figures import Picture

IMAGE = torch.rand(3, 64, 64)


def test_every_panel_has_the_box_and_what_writes_it():
    figure = representations_figure(photograph("workshop"), MOTORCYCLE)
    x1, y1, x2, y2 = MOTORCYCLE.box.tolist()
    assert len(figure.axes) == 4
    for axes in figure.axes:
        assert any(patch.get_xy() == (x1, y1) and patch.get_width() == x2 - x1 for patch in axes.patches)
    by_anchor, by_place, by_points, by_corners = figure.axes
    assert any(patch.get_xy() == tuple(MOTORCYCLE.anchor[:2].tolist()) for patch in by_anchor.patches)
    x, y = MOTORCYCLE.place.tolist()
    assert {text.xy for text in by_place.texts} == {(x1, y), (x, y1), (x2, y), (x, y2)}
    for axes, expected in ((by_points, MOTORCYCLE.points.tolist()), (by_corners, [[x1, y1], [x2, y2]])):
        assert axes.get_lines()[0].get_xydata().tolist() == expected
    assert Picture(figure, "a test").png


def test_the_nine_points_span_the_box():
    low, high = MOTORCYCLE.points.amin(0), MOTORCYCLE.points.amax(0)
    assert torch.cat([low, high]).tolist() == MOTORCYCLE.box.tolist()


def test_a_place_outside_the_box_is_refused():
    with pytest.raises(ValueError, match=r"^place: got \(50.0, 24.0\)"):
        representations_figure(IMAGE, replace(MOTORCYCLE, place=torch.tensor([50.0, 24])))


def test_places_have_the_colour_of_their_object_and_grow_towards_its_centre():
    points = [torch.tensor([[8.0, 8], [16, 16], [40, 40]]), torch.tensor([[0.0, 0]])]
    figure = assignment_figure(IMAGE, torch.tensor([[0.0, 0, 32, 32]]), points, torch.tensor([0, 0, -1, -1]))
    fine, coarse = figure.axes
    mine, others = fine.collections
    assert mine.get_offsets().tolist() == [[8, 8], [16, 16]] and others.get_offsets().tolist() == [[40, 40]]
    assert mine.get_sizes()[0] < mine.get_sizes()[1]
    assert [axes.get_title() for axes in (fine, coarse)] == ["P3: 2 of 3 places", "P4: 0 of 1 places"]
    with pytest.raises(ValueError, match="got 3 places, expected 4"):
        assignment_figure(IMAGE, torch.zeros(0, 4), points, torch.tensor([0, 0, -1]))


def test_boxes_of_low_score_are_left_out():
    found = {
        "boxes": torch.tensor([[2.0, 2, 20, 20], [5, 5, 30, 30]]),
        "scores": torch.tensor([0.9, 0.2]),
        "labels": torch.tensor([0, 1]),
    }
    figure = boxes_figure([IMAGE] * 3, [found] * 3, ["cup", "cat"], least=0.5)
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [["cup 0.90"]] * 3
    places = [axes.get_position() for axes in figure.axes]
    assert all(-1e-9 <= place.x0 and place.x1 <= 1 + 1e-9 and place.y1 <= 1 + 1e-9 for place in places)
    assert places[0].y0 > places[2].y1 and places[0].x1 < places[1].x0  # two above, one below
    assert all(text.get_fontsize() >= 9 for axes in figure.axes for text in axes.texts)
    with pytest.raises(ValueError, match="got 1 for 2 images"):
        boxes_figure([IMAGE] * 2, [found], ["cup", "cat"])


def test_labels_of_two_classes_on_one_box_stand_below_each_other():
    box = [2.0, 2, 20, 20]
    found = {
        "boxes": torch.tensor([box, box, [30.0, 2, 40, 20]]),
        "scores": torch.tensor([0.5, 0.9, 0.7]),
        "labels": torch.tensor([0, 1, 1]),
    }
    [axes] = boxes_figure([IMAGE], [found], ["cup", "cat"], least=0.4).axes
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["cat 0.90"] == heights["cat 0.70"]  # alone at their corners
    assert heights["cup 0.50"] < heights["cat 0.90"] - 9  # a line lower, in points


def test_losses_are_means_of_the_steps_that_end_there():
    curves = {"a": [{"x": float(n), "y": 1.0} for n in range(4)], "b": [{"x": 2.0, "y": 0.0}] * 4}
    figure = parts_over_steps(curves, window=2)
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("x", "y")
    assert left.get_lines()[0].get_xydata().tolist() == [[2, 0.5], [3, 1.5], [4, 2.5]]
    with pytest.raises(ValueError, match="the same parts"):
        parts_over_steps({"a": [{"x": 1.0}], "b": [{"z": 1.0}]})
