"""The figures of chapter 03 show the shares and the positions that the formula says."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dyhead_book.c03_deformable_convolution.sampling_figures import four_pixels_figure, taps_figure
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
