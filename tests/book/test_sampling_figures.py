"""The figures of chapter 03 show the shares and the positions that the formula says."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dyhead_book.c03_deformable_convolution.sampling_figures import four_pixels_figure, taps_figure
from dyhead_book.c03_deformable_convolution.travel_figures import Travel, losses_figure, rebuilt_view_figure
from dyhead_lab.views.figures import Picture


def test_sampling_figures_draw():
    image = np.random.default_rng(0).uniform(size=(4, 5))
    weights = [text.get_text() for text in four_pixels_figure(image, 1.25, 2.5).axes[0].texts]
    assert sorted(weights) == ["0.12", "0.12", "0.38", "0.38"]
    with pytest.raises(ValueError, match="expected a position inside"):
        four_pixels_figure(image, 3.5, 0)
    offset = torch.zeros(18, 6, 6)
    offset[8] = 1.0  # dy of the centre tap, in cells of 8 pixels
    figure = taps_figure(torch.rand(3, 48, 48), offset, torch.ones(9, 6, 6), stride=8, cells=[(2, 3), (0, 0)])
    centre = figure.axes[0].collections[0].get_offsets()[4]
    assert centre.tolist() == [3.5 * 8, 3.5 * 8]
    assert Image.open(io.BytesIO(Picture(figure, "taps").png)).size == (640, 320)


def test_travel_is_that_of_the_taps_and_is_drawn_in_pixels():
    travel = Travel((1, 3))
    offset = torch.zeros(2, 18, 14, 14)
    offset[0, 1::2] = 2.5  # dx of all taps where the direction is 1
    offset[:, :, :5] = 100.0  # the border is left out
    travel(0, offset, torch.tensor([1, -1]))
    assert travel.last.tolist() == [[0.0, 2.5], [0.0, 0.0]]
    right = travel.figure().axes[1]
    assert right.get_ylabel() == "offset dx, to the right, pixels"
    assert sorted(line.get_ydata()[0] for line in right.lines if line.get_linestyle() == "--") == [-3, 3]
    assert "(+0.0, +2.5)" in travel.alt()


def test_losses_are_means_of_a_few_steps_and_short_curves_are_refused():
    line = losses_figure({"a": [4.0, 2.0, 1.0]}, window=2).axes[0].lines[0]
    assert line.get_ydata().tolist() == [3.0, 1.5] and line.get_xdata().tolist() == [1, 2]
    with pytest.raises(ValueError, match="a has 3 steps, expected at least 8"):
        losses_figure({"a": [4.0, 2.0, 1.0]})


def test_the_rebuilt_view_has_a_colour_bar_in_pixels():
    picture = torch.rand(3, 6, 8)
    figure = rebuilt_view_figure(picture, picture, picture, torch.full((6, 8), -3.0))
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "the right camera",
        "the left camera",
        "left, read out of right",
    ]
    assert figure.axes[-1].get_ylabel() == "dx, pixels"
