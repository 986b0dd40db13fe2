"""Figures of chapter 06: what an activation makes of a channel's values, and maps of a channel on one scale."""

import torch
from torch import nn

from dyhead_book.c06_task_aware.channel_maps import channel_maps_figure
from dyhead_book.c06_task_aware.two_tasks import lines_of, two_tasks_figure


def test_curves_hold_the_values_of_one_channel_and_task_in_order():
    x = torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    edges = torch.tensor([True, False, True, False, False, False])
    curves = lines_of({"relu": nn.ReLU()}, x, edges, channels=(2, 6))
    assert list(curves) == [("edges", 2), ("edges", 6), ("parts", 2), ("parts", 6)]
    given, after = curves["parts", 6]["relu"]
    assert torch.equal(given, x[~edges, 6].flatten().sort().values) and torch.equal(after, given.relu())


def test_every_task_and_channel_has_its_panel_beside_the_losses():
    x, edges = torch.randn(4, 8, 3, 3), torch.tensor([True, False, True, False])
    activations = {"task-aware": nn.ReLU(), "fixed lines": nn.ReLU()}
    curves = lines_of(activations, x, edges, channels=(2, 6))
    figure = two_tasks_figure({"task-aware": [1.0, 0.5], "fixed lines": [1.0, 0.9]}, curves)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["", "edges, channel 2", "edges, channel 6", "parts, channel 2", "parts, channel 6"]
    wanted = figure.axes[4].lines[-1]
    assert set(wanted.get_ydata().tolist()) == {0.0}, "channel 6 is wanted off"


def test_maps_share_one_scale_around_zero_and_lie_over_the_whole_photograph():
    maps = {"before": torch.tensor([[-3.0, 1.0]]), "after": torch.tensor([[0.5, 1.0]])}
    figure = channel_maps_figure(torch.rand(3, 50, 100), maps)
    photo, before, after = figure.axes[:3]
    assert [axes.get_title() for axes in (photo, before, after)] == ["photograph", "before", "after"]
    assert before.images[1].get_clim() == after.images[1].get_clim() == (-3, 3)
    assert before.images[1].get_extent() == [0, 100, 50, 0]
