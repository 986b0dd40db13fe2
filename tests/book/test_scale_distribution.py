import numpy as np
import pytest
import torch
from matplotlib.patches import StepPatch

from dyhead_book.c02_scale_aware.scale_distribution import gate_distribution_figure, ratio_distribution_figure
from dyhead_lab.attention import scale_ratio

LEVELS = ["P3", "P4", "P5"]


def gates(blocks, images=30):
    generator = torch.Generator().manual_seed(0)
    return [[0.5 + torch.rand(images, n, generator=generator) / 2 for n in (2, 3, 2)] for _ in range(blocks)]


def ridges(axes):
    return [patch for patch in axes.patches if isinstance(patch, StepPatch)]


def test_every_branch_has_a_histogram_on_its_line():
    figure = gate_distribution_figure(gates(2), LEVELS)
    panels = np.array(figure.axes).reshape(2, 3)
    assert [axes.get_title() for axes in panels[1]] == ["block 2, P3", "block 2, P4", "block 2, P5"]
    lines = [[patch.get_data().baseline for patch in ridges(axes)] for axes in panels[0]]
    assert lines == [[1, 2], [0, 1, 2], [0, 1]], "P3 has no finer branch, P5 no coarser one"


def test_constant_gates_are_drawn_as_one_bar():
    figure = gate_distribution_figure([[torch.full((4, 1), 0.5)]], ["P3"])
    (ridge,) = ridges(figure.axes[0])
    assert (ridge.get_data().values < 0.999).sum() == 1 and ridge.get_data().values[0] < 0.999


def test_dots_of_the_ratios_stand_at_the_medians_on_a_logarithmic_axis():
    weights = gates(1)
    axes = ratio_distribution_figure(weights, LEVELS).axes[0]
    dots = sorted((line.get_ydata()[0], line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o")
    medians = [float(np.median(scale_ratio(w).log2().numpy())) for w in weights[0]]
    assert [level for level, _ in dots] == [0, 1, 2]
    assert [x for _, x in dots] == pytest.approx(medians)
    assert all(len(ridge.get_data().values) and ridge.get_data().edges[-1] == 1 for ridge in ridges(axes))


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="gates: got none"):
        ratio_distribution_figure([], LEVELS)
    with pytest.raises(ValueError, match="gates: got none"):
        gate_distribution_figure([[]], LEVELS)
