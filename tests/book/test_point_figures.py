import torch

from dyhead_book.c10_multi_scale_deformable_attention.point_figures import (
    journey_figure,
    learning_figure,
    pyramid_points_figure,
)
from dyhead_lab.views.figures import Picture

IMAGE = torch.rand(3, 64, 96)


def test_a_level_is_drawn_with_its_own_cells():
    figure = pyramid_points_figure(IMAGE, torch.rand(2, 2, 3, 2), torch.tensor([0.5, 0.25]), (8, 32))
    fine, coarse = figure.axes
    assert fine.get_title() == "stride 8: 12 x 8 cells" and coarse.get_title() == "stride 32: 3 x 2 cells"
    assert fine.images[0].get_array().shape == (8, 12, 3) and coarse.images[0].get_array().shape == (2, 3, 3)
    assert list(fine.lines[-1].get_xydata()[0]) == [48, 16]
    assert Picture(figure, alt="points").png


def test_points_are_as_large_as_they_count():
    where, weights = torch.rand(2, 1, 1, 3, 2), torch.tensor([[[[0.2, 0.3, 0.5]]], [[[1.0, 0.0, 0.0]]]])
    aims = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    before, after = journey_figure(IMAGE, (where, weights), (where, weights), torch.tensor([50.0, 30.0]), aims, 8).axes
    areas = before.collections[0].get_sizes()
    assert areas[2] / areas[0] == 2.5 and len(after.collections) == 2


def test_losses_are_drawn_as_running_means():
    [axes] = learning_figure({"a": [1.0, 0.0] * 20, "b": [0.5] * 40}, window=2).axes
    a, b = axes.lines
    assert set(a.get_ydata()) == {0.5} and set(b.get_ydata()) == {0.5} and len(a.get_xdata()) == 39
