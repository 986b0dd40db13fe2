"""The figure of AP on the way of a training draws the points that it is given."""

import pytest

from dyhead_book.figures.ap_curves import ap_curves_figure
from dyhead_lab.experiments.record import Spread


def points(*means):
    return [(100 * (n + 1), Spread(mean, 0.01, 2)) for n, mean in enumerate(means)]


def test_a_line_a_name_over_epochs_in_every_panel():
    panels = {"AP": {"slow": points(0.1, 0.2), "fast": points(0.2, 0.4)}, "small": {"fast": points(0.1)}}
    figure = ap_curves_figure(panels, steps_in_epoch=50)
    all_sizes, small = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["AP", "small"]
    assert [text.get_text() for text in small.get_legend().get_texts()] == ["slow", "fast"]
    slow, fast = (container.lines[0] for container in all_sizes.containers)
    assert list(slow.get_xdata()) == [2, 4] and list(slow.get_ydata()) == [0.1, 0.2]
    assert list(fast.get_ydata()) == [0.2, 0.4]
    alone = small.containers[1].lines[0]
    assert list(alone.get_ydata()) == [0.1] and alone.get_color() == fast.get_color()
    assert all_sizes.get_xscale() == "log" and all_sizes.get_ylim() == small.get_ylim()


def test_more_names_than_colours_are_refused():
    with pytest.raises(ValueError, match="got 6 names, expected at most 5"):
        ap_curves_figure({"AP": {name: points(0.1) for name in "abcdef"}}, 50)
