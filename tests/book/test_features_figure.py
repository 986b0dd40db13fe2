import pytest
import torch

from dyhead_book.c01_feature_pyramid.features_figure import features_figure
from dyhead_lab.views.features import energy_share


def test_the_figure_says_the_share_of_each_step_and_level():
    levels = ["P3", "P4", "P5"]
    steps = {name: [torch.rand(2, 4, size, size) for size in (10, 5, 3)] for name in ("before", "after")}
    figure = features_figure(torch.rand(3, 40, 40), steps, levels, index=1)
    titles = {axes.get_title() for axes in figure.axes}
    assert {f"{name}: {float(energy_share(x[1:])):.0%}" for name, maps in steps.items() for x in maps} < titles
    with pytest.raises(ValueError, match="steps: before has 3 maps, expected 2"):
        features_figure(torch.rand(3, 40, 40), steps, levels[:2])
