import pytest

from dyhead_book.c08_dynamic_head_on_detectors.gains import Gain, gains_figure
from dyhead_book.figures.head_cost import depth_figure, parts_figure
from dyhead_lab.evaluation.dyhead_cost import PartCost
from dyhead_lab.views.figures import Picture

PLAIN = [PartCost("backbone", 10, int(60e9)), PartCost("head", 5, int(40e9))]
ATTENDED = [*PLAIN, PartCost("Dynamic Head", 7, int(30e9))]


def test_depth_is_drawn_as_the_difference_from_the_towers():
    figure = depth_figure({1: int(20e9), 6: int(120e9)}, towers=int(100e9), published={6: 21.5})
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["counted here"].get_ydata()) == [-80, 20]
    assert list(lines["published"].get_ydata()) == [21.5]


def test_bars_end_at_the_whole_cost_and_parts_keep_their_colours():
    figure = parts_figure({"one": [PLAIN, ATTENDED]}, ["without", "with"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one, without", "one, with"]
    ends = [patch.get_x() + patch.get_width() for patch in axes.patches]
    assert ends == [60, 100, 60, 100, 130]
    assert axes.patches[0].get_facecolor() == axes.patches[2].get_facecolor() != axes.patches[1].get_facecolor()
    with pytest.raises(ValueError, match="one has 1 variants, expected 2"):
        parts_figure({"one": [PLAIN]}, ["without", "with"])


def test_gains_say_their_difference_and_what_is_not_known():
    assert Gain("a", 39.3, 42.4).text == "+3.1"
    assert Gain("a", 39.3, 38.9, 0.5).text == "-0.4 ± 0.5"
    assert Gain("a", None, 42.4).text == "not known"


def test_a_name_keeps_its_row_in_every_panel():
    panels = {"left": [Gain("a", 1, 2), Gain("b", None, None)], "right": [Gain("b", 3, 2)]}
    figure = gains_figure(panels, "without", "with")
    right = [line.get_ydata()[0] for line in figure.axes[1].get_lines() if len(line.get_ydata())]
    assert set(right) == {1}
    assert Picture(figure, "a test").png
