import numpy as np
import pytest
import torch

from dyhead_book.c08_dynamic_head_on_detectors.representations import representations_figure
from dyhead_lab.views.figures import Picture

BOX = np.array([10.0, 12, 40, 44])
ANCHOR = np.array([20.0, 20, 52, 52])
POINTS = np.array([[10.0, 30], [40, 20], [25, 12], [26, 44]])


def test_every_panel_has_the_box_and_what_writes_it():
    figure = representations_figure(torch.rand(3, 64, 64), BOX, ANCHOR, np.array([24.0, 24]), POINTS)
    for axes in figure.axes:
        assert any(patch.get_xy() == (10, 12) and patch.get_width() == 30 for patch in axes.patches)
    assert any(patch.get_xy() == (20, 20) for patch in figure.axes[0].patches)
    assert sorted(text.xy for text in figure.axes[1].texts) == [(10, 24), (24, 12), (24, 44), (40, 24)]
    drawn = [tuple(xy) for line in figure.axes[2].get_lines() for xy in line.get_xydata()]
    assert {tuple(point) for point in POINTS} <= set(drawn)
    assert Picture(figure, "a test").png


def test_a_place_outside_the_box_is_refused():
    with pytest.raises(ValueError, match=r"^place: got \(50.0, 24.0\)"):
        representations_figure(torch.rand(3, 64, 64), BOX, ANCHOR, np.array([50.0, 24]), POINTS)
