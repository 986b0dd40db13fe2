"""The figure of AP on the way of a training draws what the record holds."""

import pytest

from dyhead_book.c11_deformable_detr.ap_curves import ap_curves_figure
from dyhead_lab.experiments.record import Record


def record(rows):
    made = Record("toy", "", tuple(rows), rows[0], ("AP",), (0, 1), "")
    for n, row in enumerate(rows):
        for seed in (0, 1):
            ap = 0.1 * (n + 1) + 0.02 * seed
            made.add(row, seed, {"AP after 100": ap, "AP after 200": 2 * ap, "AP_small after 200": ap / 2}, {})
    return made


def test_a_line_a_row_over_epochs_in_a_panel_a_metric():
    figure = ap_curves_figure(record(["slow", "fast"]), steps_in_epoch=50)
    all_sizes, small = figure.axes
    assert [text.get_text() for text in small.get_legend().get_texts()] == ["slow", "fast"]
    slow, fast = (container.lines[0] for container in all_sizes.containers)
    assert list(slow.get_xdata()) == [2, 4] and list(slow.get_ydata()) == pytest.approx([0.11, 0.22])
    assert list(fast.get_ydata()) == pytest.approx([0.21, 0.42])
    assert list(small.containers[1].lines[0].get_ydata()) == pytest.approx([0.105])
    assert all_sizes.get_xscale() == "log" and all_sizes.get_ylim() == small.get_ylim()


def test_rows_can_be_chosen_and_more_than_there_are_colours_for_are_refused():
    rows = list("abcde")
    figure = ap_curves_figure(record(rows), 50, ("AP",), rows[3:])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["d", "e"]
    with pytest.raises(ValueError, match="got 5, expected at most 4"):
        ap_curves_figure(record(rows), 50)
