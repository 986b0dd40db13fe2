import numpy as np

from dyhead_book.c15_learned_scale_ratios.scale_ratios import changes_figure, levels_figure, relations_figure
from dyhead_lab.views.figures import Picture

LEVELS = ["P3", "P4"]
RATIOS = [np.full(20, 2.0), np.linspace(0.5, 1, 20)]


def test_a_ratio_and_its_inverse_lie_equally_far_from_one():
    figure = levels_figure({"a": RATIOS, "b": [1 / r for r in RATIOS]}, LEVELS)
    _, a, b = figure.axes[0].lines
    np.testing.assert_allclose(a.get_ydata(), -b.get_ydata())
    assert a.get_ydata()[0] == 1  # log2 of 2
    assert figure.axes[0].get_ylim()[0] < -1 and figure.axes[0].get_ylim()[1] > 1
    assert Picture(figure, alt="two detectors").png


def test_a_dot_per_image_and_a_panel_per_level():
    sizes = np.linspace(8, 150, 20)
    figure = relations_figure(sizes, RATIOS, LEVELS, ["none", "strong"], "size")
    assert [axes.get_title() for axes in figure.axes] == ["P3: none", "P4: strong"]
    for axes, ratio in zip(figure.axes, RATIOS, strict=True):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([sizes, np.log2(ratio)], 1))
    assert Picture(figure, alt="dots").png


def test_changes_show_their_median():
    figure = changes_figure({"larger": [np.zeros(5), np.arange(5.0)], "darker": [np.zeros(5), np.ones(5)]}, LEVELS)
    assert [axes.get_title() for axes in figure.axes] == ["larger", "darker"]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), [0, 2])
    assert Picture(figure, alt="changes").png
