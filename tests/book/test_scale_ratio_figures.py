import numpy as np

from dyhead_book.c15_learned_scale_ratios.scale_ratios import (
    blocks_figure,
    changes_figure,
    doses_figure,
    relations_figure,
)
from dyhead_lab.views.figures import Picture

LEVELS = ["P3", "P4"]
RATIOS = [np.full(20, 2.0), np.linspace(0.5, 1, 20)]


def test_a_panel_per_block_with_a_dot_per_image_and_the_median():
    ratios = {"trained": np.log2([RATIOS, RATIOS]), "before": np.zeros((2, 2, 20))}
    figure = blocks_figure(ratios, LEVELS)
    assert [axes.get_title() for axes in figure.axes] == ["block 1", "block 2"]
    _, p3, p4, *_ = figure.axes[0].lines
    np.testing.assert_allclose(p3.get_ydata(), 1)  # log2 of 2
    np.testing.assert_allclose(p4.get_ydata(), np.log2(RATIOS[1]))
    assert figure.axes[0].get_ylim()[0] < -1 and figure.axes[0].get_ylim()[1] > 1
    assert Picture(figure, alt="two detectors").png


def test_doses_stand_beside_the_floor_of_their_level():
    moved = np.array([[0.1, 0.2], [0.3, 0.4]])  # two doses, two levels
    figure = doses_figure({"zoomed": ((2, 4), moved)}, np.array([0.05, 0.15]), LEVELS)
    for l, axes in enumerate(figure.axes):
        floor, curve = axes.lines
        assert floor.get_ydata()[0] == (0.05, 0.15)[l]
        np.testing.assert_array_equal(curve.get_ydata(), moved[:, l])
        assert axes.get_xscale() == "log"


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
