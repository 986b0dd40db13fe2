import pytest
import torch

from dyhead_book.c06_task_aware.coefficients import coefficients_figure
from dyhead_lab.views.figures import Picture
from dyhead_lab.views.task_lines import RELU


def relu_coefficients(images=3, channels=8):
    return torch.tensor(RELU)[None, :, None].repeat(images, 1, channels)


def test_every_level_and_coefficient_has_its_axes():
    figure = coefficients_figure([relu_coefficients()] * 2, ["P3", "P4"])
    assert [axes.get_title() for axes in figure.axes] == [
        f"{l}: {n}" for l in ("P3", "P4") for n in "a1 b1 a2 b2".split()
    ]
    assert Picture(figure, "a test").png


def test_other_levels_and_shapes_are_refused():
    with pytest.raises(ValueError, match=r"^per_level: got 1, expected 2: P3, P4"):
        coefficients_figure([relu_coefficients()], ["P3", "P4"])
    with pytest.raises(ValueError, match=r"^coefficients_B4C: got shape \(2, 3, 8\)"):
        coefficients_figure([torch.ones(2, 3, 8)], ["P3"])
