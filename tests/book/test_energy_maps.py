import pytest
import torch

from dyhead_book.c07_dynamic_head.energy_maps import (
    SCALE,
    boxes_and_features_figure,
    contrast,
    density,
    energy_maps_figure,
)
from dyhead_lab.views.figures import Picture

LEVELS = ["P3", "P4", "P5"]


def maps():
    return [torch.rand(1, 4, size, size) for size in (8, 4, 2)]


def test_density_is_one_everywhere_where_energy_is_spread_evenly_whatever_its_size():
    assert torch.allclose(density(7 * torch.ones(2, 3, 4, 5)), torch.ones(2, 4, 5))
    one_place = torch.zeros(1, 1, 2, 2)
    one_place[..., 0, 0] = 3
    assert density(one_place)[0, 0, 0] == 4


def test_contrast_compares_places_inside_and_outside_of_boxes():
    features = torch.ones(1, 1, 4, 4)
    features[:, :, :2, :2] = 2  # energy 4
    assert contrast(features, torch.tensor([[0.0, 0, 20, 20]]), (40, 40)) == 4
    assert contrast(features, torch.tensor([[0.0, 0, 20, 20]]), (80, 80)) < 4  # the box covers a quarter of that


def test_every_map_of_every_step_is_drawn_on_one_scale():
    figure = energy_maps_figure(torch.rand(3, 40, 60), {"in": maps(), "out": maps()}, LEVELS, size=(48, 64))
    panels = [axes for axes in figure.axes if len(axes.images) == 2]
    assert [axes.get_title() for axes in panels] == ["in, P3", "out, P3", "P4", "P4", "P5", "P5"]
    assert all(axes.images[1].norm is SCALE for axes in panels)
    assert all(axes.images[1].get_extent() == [0, 64, 48, 0] and axes.get_xlim() == (0, 60) for axes in panels)
    assert any("mean of its map" in axes.get_ylabel() for axes in figure.axes), "no colour bar"
    assert Picture(figure, "a test").png
    with pytest.raises(ValueError, match="in has 2 maps, expected 3"):
        energy_maps_figure(torch.rand(3, 40, 60), {"in": maps()[:2]}, LEVELS)


def test_every_level_is_drawn_beside_the_boxes():
    found = {"boxes": torch.tensor([[2.0, 2, 20, 20]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
    figure = boxes_and_features_figure(torch.rand(3, 40, 40), found, maps(), LEVELS, ["disc"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "1 boxes of score 0.5 or more" and [title[:3] for title in titles[1:4]] == ["P3:", "P4:", "P5:"]
    assert any(text.get_text() == "disc 0.90" for text in figure.axes[0].texts)
