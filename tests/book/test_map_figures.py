import numpy as np
import pytest
import torch

from dyhead_book.c14_attention_maps.map_figures import (
    carry_figure,
    maps_figure,
    mean_and_interval,
    shares_figure,
    silenced_figure,
)
from dyhead_lab.views.figures import Picture

IMAGE = torch.full((3, 32, 48), 0.5)


def test_all_maps_have_one_scale_and_a_colour_bar():
    panels = {"weak": (IMAGE, torch.tensor([[0.0, 1.0]])), "strong": (IMAGE, torch.tensor([[0.0, 4.0]]))}
    figure = maps_figure(panels, "weight")
    weak, strong, bar = figure.axes
    assert weak.images[1].get_clim() == strong.images[1].get_clim() == (0, 4)
    assert bar.get_ylabel() == "weight"
    assert maps_figure(panels, "weight", spans=(1, 2)).axes[0].images[1].get_clim() == (1, 2)


def test_a_map_lies_over_its_whole_image_with_its_box():
    box = torch.tensor([1.0, 2.0, 9.0, 12.0])
    axes = maps_figure({"a": (IMAGE, torch.rand(2, 3))}, "weight", boxes={"a": box}).axes[0]
    assert axes.images[1].get_extent() == [0, 48, 32, 0]
    assert axes.lines[0].get_xdata().max() == 9 and axes.lines[0].get_ydata().max() == 12


def test_the_interval_is_twice_the_standard_error():
    mean, half = mean_and_interval(np.array([1.0, 3.0, 1.0, 3.0]))
    assert mean == 2 and half == pytest.approx(2 * (4 / 3) ** 0.5 / 2)  # deviation sqrt(4/3), four values


def test_shares_stand_at_their_means():
    figure = shares_figure({"a": [np.array([0.2, 0.4])], "b": [np.array([0.9, 0.9])]}, ["layer"], "share")
    means = [float(container.lines[0].get_ydata()[0]) for container in figure.axes[0].containers]
    assert means == pytest.approx([0.3, 0.9])
    assert Picture(figure, "shares").png


def test_even_attention_gives_the_diagonal_and_a_single_token_all_at_once():
    curves = {"a, trained": np.ones(4), "a, before": np.array([0, 0, 5.0, 0])}
    even, one, _ = carry_figure(curves).axes[0].lines
    np.testing.assert_allclose(even.get_ydata(), even.get_xdata())
    np.testing.assert_allclose(one.get_ydata(), [0, 1, 1, 1, 1])
    assert even.get_color() == one.get_color() and (even.get_linestyle(), one.get_linestyle()) == ("-", "--")


def test_silenced_objects_have_a_dot_each():
    figure = silenced_figure({"nothing": np.array([0.5, 0.7]), "any": np.array([0.4, 0.6])})
    first, second = figure.axes[0].lines
    np.testing.assert_array_equal(first.get_ydata(), [0.5, 0.7])
    np.testing.assert_array_equal(second.get_ydata(), [0.4, 0.6])
