import pytest

from dyhead_book.figures.cost_curves import growth_figure, share_figure
from dyhead_lab.views.figures import Picture


def test_curves_keep_their_looks_in_all_panels_and_axes_are_logarithmic():
    figure = growth_figure([10, 100], {"reads": {"a": [1, 10], "b": [1, 100]}, "ms": {"b": [2, 3]}}, {"stride 8": 50})
    first, second = figure.axes
    assert first.get_xscale() == first.get_yscale() == "log"
    assert first.lines[1].get_color() == second.lines[0].get_color() != first.lines[0].get_color()
    assert first.lines[1].get_marker() == second.lines[0].get_marker() != first.lines[0].get_marker()
    assert any("stride 8" in text.get_text() for text in first.texts)
    assert Picture(figure, "a test").png


def test_a_curve_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="'a' has 3 values, expected 2"):
        growth_figure([10, 100], {"reads": {"a": [1, 2, 3]}})


def test_shares_start_at_zero_so_that_the_share_that_remains_can_be_seen():
    figure = share_figure([0.1, 1.0], [105, 170], {0.1: 105.4}, {"dense": 177})
    (axes,) = figure.axes
    assert axes.get_ylim()[0] == 0 and axes.get_xlim() == (0, 1)
    assert list(axes.lines[1].get_ydata()) == [105.4]
