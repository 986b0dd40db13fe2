import pytest
import torch

from dyhead_book.c09_self_attention_to_deformable.attention_figures import (
    dense_and_sampled_figure,
    found_figure,
    learning_figure,
    positions_figure,
    weights_figure,
)
from dyhead_lab.detectors.detr.positions import sine_positions
from dyhead_lab.views.figures import Picture

IMAGE = torch.rand(3, 20, 30)


def test_maps_that_are_compared_have_one_scale_and_a_colour_bar():
    maps = {"weak": torch.full((2, 3), 0.1), "strong": torch.full((2, 3), 0.4)}
    figure = weights_figure(IMAGE, maps, "weight", boxes={"weak": torch.tensor([1.0, 2.0, 8.0, 9.0])})
    weak, strong, bar = figure.axes
    assert [axes.images[-1].get_clim() for axes in (weak, strong)] == [(0, pytest.approx(0.4))] * 2
    assert bar.get_ylabel() == "weight" and len(weak.lines) == 1 and not strong.lines
    assert Picture(figure, alt="two maps").png


def test_dense_and_sampled_say_how_much_each_reads():
    dense = torch.rand(4, 6)
    figure = dense_and_sampled_figure(IMAGE, dense, torch.rand(8, 2), torch.full((8,), 0.25), (10.0, 10.0))
    assert figure.axes[0].get_title() == "dense: 24 weights" and figure.axes[1].get_title().startswith("deformable: 8")
    assert figure.axes[0].images[-1].get_clim()[1] == pytest.approx(float(dense.flatten().sort().values[-2]))


def test_a_position_is_most_like_itself():
    positions = sine_positions(torch.zeros(1, 6, 8, dtype=torch.bool), 32, centred=False)[0]
    drawn = positions_figure(positions, [(2, 5)]).axes[0].images[0].get_array()
    assert divmod(int(drawn.argmax()), 8) == (2, 5)


def test_the_loss_and_the_ap_stand_on_two_axes():
    left, right = learning_figure([3.0, 2.0, 1.0], {0: 0.0, 2: 0.5}).axes
    assert left.get_yscale() == "log" and list(right.lines[0].get_ydata()) == [0.0, 0.5]


def test_true_boxes_are_dashed_and_unsure_boxes_are_left_out():
    boxes = torch.tensor([[1.0, 1.0, 9.0, 9.0], [3.0, 3.0, 12.0, 12.0]])
    truth = {"boxes": boxes, "labels": torch.tensor([0, 1])}
    found = {**truth, "scores": torch.tensor([0.9, 0.1])}
    [axes] = found_figure([IMAGE], [truth], [found], ["disc", "star"]).axes
    assert [text.get_text() for text in axes.texts] == ["disc 0.90"]
    assert [line.get_linestyle() for line in axes.lines] == ["--", "--"]
