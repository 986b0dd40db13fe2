"""The figures of chapter 01: all levels on one scale, and every point in the colour of what it learns."""

import numpy as np
import pytest
import torch

from dyhead_book.c01_feature_pyramid.pyramid_figures import (
    BRIGHTEST,
    assignment_figure,
    features_figure,
    levels_figure,
    normalised,
)
from dyhead_lab.views.features import energy_share


def test_levels_are_drawn_on_one_scale_over_the_photograph():
    image = torch.rand(3, 20, 30)
    maps = {"P3": torch.rand(1, 4, 5, 8), "P4": torch.rand(1, 4, 3, 4)}
    figure = levels_figure(image, maps)
    panels = figure.axes[1:3]
    assert [axes.get_title() for axes in panels] == ["P3: 4 channels, 5 x 8 cells", "P4: 4 channels, 3 x 4 cells"]
    for axes, level in zip(panels, maps.values(), strict=True):
        underneath, shown = axes.images
        assert shown.get_clim() == (0, BRIGHTEST) and underneath.get_clim() == (0, 1)
        relative = shown.get_array()
        assert float(np.mean(relative)) == pytest.approx(1, abs=1e-5)  # float32
        assert relative.shape == level.shape[2:]


def test_points_that_learn_an_object_are_drawn_at_their_places():
    points = {"P3": np.array([[4.0, 4], [12, 4], [20, 4]])}
    chosen = {"P3": np.array([-1, 1, 0])}
    boxes = np.array([[16.0, 0, 24, 8], [8, 0, 16, 8]])
    figure = assignment_figure(torch.rand(3, 20, 30), boxes, ["cup", "spoon"], points, chosen)
    axes = figure.axes[0]
    assert axes.get_title() == "P3: 2 of 3 points learn"
    idle, cup, spoon = (line.get_xydata().tolist() for line in axes.lines)
    assert (idle, cup, spoon) == ([[4, 4]], [[20, 4]], [[12, 4]])
    with pytest.raises(ValueError, match="got 4 objects"):
        assignment_figure(torch.rand(3, 20, 30), np.zeros((4, 4)), list("abcd"), points, chosen)


def test_an_image_is_normalised_channel_by_channel():
    found = normalised(torch.full((3, 2, 2), 0.5), (0.5, 0.25, 0.0), (1.0, 0.5, 0.25))
    assert found.shape == (1, 3, 2, 2) and found[0, :, 0, 0].tolist() == [0.0, 0.5, 2.0]


def test_the_figure_says_the_share_of_each_step_and_level():
    levels = ["3", "4", "5"]
    steps = {name: [torch.rand(1, 4, size, size) for size in (10, 5, 3)] for name in ("C", "P")}
    figure = features_figure(torch.rand(3, 40, 40), steps, levels)
    drawn = {axes.get_title(): axes.images[-1].get_clim() for axes in figure.axes if axes.images}
    for name, maps in steps.items():
        for level, x in zip(levels, maps, strict=True):
            assert drawn[f"{name}{level}: {float(energy_share(x)):.0%}"] == (0, BRIGHTEST)
    with pytest.raises(ValueError, match="steps: C has 3 maps, expected 2"):
        features_figure(torch.rand(3, 40, 40), steps, levels[:2])
