"""Figures of chapter 13: what is drawn is what was given."""

import math

import pytest
import torch

from dyhead_book.c13_training_on_coco.training_figures import batch_figure, divergence_figure, schedules_figure


def test_a_batch_has_the_size_of_its_largest_sides_and_shows_boxes_and_padding():
    images = [torch.rand(3, 40, 60), torch.rand(3, 50, 20)]
    targets = [{"boxes": torch.tensor([[5.0, 5, 15, 25]]), "labels": torch.tensor([1])}] * 2
    figure = batch_figure(images, targets, ["cup", "cat"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["60 x 40 of 60 x 50 pixels", "20 x 50 of 60 x 50 pixels"]
    for axes, image in zip(figure.axes, images, strict=True):
        assert axes.get_xlim() == (0, 60) and axes.get_ylim() == (50, 0)
        [shown] = axes.get_images()
        assert shown.get_extent() == [0, image.shape[2], image.shape[1], 0]
        padding, *boxes = axes.patches
        assert padding.get_hatch() and padding.get_zorder() < shown.get_zorder()
        assert (5, 5) in [box.get_xy() for box in boxes] and [text.get_text() for text in axes.texts] == ["cat"]


def test_a_schedule_spans_the_whole_training():
    figure = schedules_figure({"up": [0.0, 0.5, 1.0], "flat": [1.0, 1.0]})
    up, flat = figure.axes[0].get_lines()
    assert up.get_xydata().tolist() == [[0, 0], [50, 0.5], [100, 1]] and flat.get_xydata().tolist() == [
        [0, 1],
        [100, 1],
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["up", "flat"]


@pytest.mark.parametrize(("losses", "drawn"), [([3.0, 2.0], 2), ([3.0, 90.0, math.nan, 5.0], 2), ([math.inf], 0)])
def test_a_curve_ends_where_the_loss_is_no_number(losses, drawn):
    figure = divergence_figure({"0.1": losses})
    curve, *marks = figure.axes[0].get_lines()
    assert len(curve.get_xdata()) == drawn
    assert bool(marks) == (0 < drawn < len(losses))
    assert [text.get_text() for text in figure.axes[0].texts] == ["not a number"] * len(marks)
