import pytest

from dyhead_book.c07_dynamic_head.training_figures import depth_ap_figure, effects_figure, losses_figure
from dyhead_lab.experiments.record import Record
from dyhead_lab.views.figures import Picture


def test_losses_are_means_over_a_window_a_line_for_each_seed_and_their_mean():
    figure = losses_figure({"with": [[4, 2, 3, 1], [2, 2, 1, 1]], "without": [[5, 5, 5, 5]]}, window=2)
    lines = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in lines[:3]] == [[3, 2.5, 2], [2, 1.5, 1], [2.5, 2, 1.5]]
    assert list(lines[0].get_xdata()) == [2, 3, 4]
    assert [line.get_label() for line in lines if not line.get_label().startswith("_")] == ["with", "without"]
    assert Picture(losses_figure({"two steps": [[2.0, 1.0]]}), "shorter than the window").png


def test_every_difference_is_a_dot_and_the_mean_is_written():
    figure = effects_figure({"scale": [-1.0, -3.0, 2.0, -2.0], "task": [1.0, 1.0, 1.0, 1.0]}, seeds=2)
    axes = figure.axes[0]
    assert [list(line.get_xdata()) for line in axes.lines[1:4]] == [[-1, 2], [-3, -2], [-1]]
    assert [text.get_text() for text in axes.texts] == ["-1.000", "+1.000"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["scale", "task"]


def test_ap_against_depth_shows_every_run_and_skips_what_was_not_measured():
    record = Record("depth", "", ("none", "1", "4"), "1", ("AP",), (0, 1), "")
    for row, seed, ap in (("none", 0, 0.1), ("1", 0, 0.2), ("1", 1, 0.3)):
        record.add(row, seed, {"AP": ap}, {})
    axes = depth_ap_figure(record, {"none": 0, "1": 30, "4": 120}).axes[0]
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [[0.1], [0.2, 0.3]]
    assert list(axes.lines[-1].get_ydata()) == pytest.approx([0.1, 0.25])
    assert [text.get_text() for text in axes.texts] == ["none", "1"]
