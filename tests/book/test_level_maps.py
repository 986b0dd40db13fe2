"""Figures of chapter 02: every level has a panel on the one scale, every box stands where it is seen best."""

import torch
from matplotlib.patches import Rectangle

from dyhead_book.c02_scale_aware.level_maps import best_levels, closing_figure, level_scores_figure


def boxes_in(axes):
    return [patch.get_xy() for patch in axes.patches if isinstance(patch, Rectangle)]


def test_every_level_has_a_panel_on_one_scale_with_the_boxes_that_it_sees_best():
    scores = {"P3": torch.full((8, 12), 0.2), "P4": torch.full((4, 6), 0.6)}
    boxes = torch.tensor([[5.0, 6, 20, 20], [50.0, 10, 90, 60]])
    figure = level_scores_figure(torch.rand(3, 64, 96), scores, boxes, [1, 0], ["cup", "table"])
    everything, P3, P4 = figure.axes[:3]
    assert [axes.get_title() for axes in (everything, P3, P4)] == ["all boxes", "P3: 8 x 12 cells", "P4: 4 x 6 cells"]
    assert (len(boxes_in(everything)), boxes_in(P3), boxes_in(P4)) == (2, [(50, 10)], [(5, 6)])
    assert P3.images[1].get_clim() == P4.images[1].get_clim() == (0, float(scores["P4"].max()))
    assert P4.images[1].get_extent() == [0, 96, 64, 0]


def test_losses_and_gates_of_both_forms_are_drawn():
    figure = closing_figure({"a": [1.0, 0.5], "b": [1.0, 0.2]}, {"a": [[0.5, 0.5]] * 2, "b": [[0.6, 0.1]] * 2})
    losses, gates = figure.axes
    assert len(losses.lines) == 2 and len(gates.lines) == 4
    assert list(gates.lines[3].get_ydata()) == [0.1, 0.1]


def test_a_box_belongs_to_the_level_with_the_highest_score_in_its_middle():
    scores = {"P3": torch.zeros(8, 8), "P4": torch.full((4, 4), 0.1)}
    scores["P3"][3, 3] = 0.9  # pixels 24 to 32
    boxes = torch.tensor([[16.0, 16, 40, 40], [24.0, 0, 64, 64], [0.0, 0, 8, 8]])
    assert best_levels(scores, boxes) == [0, 1, 1], "the second box holds that cell only at its edge"
