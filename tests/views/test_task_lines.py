import pytest
import torch
from torch import nn

from dyhead_lab.attention import DyHead
from dyhead_lab.trace import trace
from dyhead_lab.views.task_lines import (
    RELU,
    coefficients_of,
    lines_figure,
    strangest_channels,
)


def relu_coefficients(images=3, channels=8):
    return torch.tensor(RELU)[None, :, None].repeat(images, 1, channels)


@pytest.mark.parametrize(("options", "entries"), [({}, 2), ({"form": "paper", "num_levels": 2}, 1)])
def test_coefficients_come_by_block_and_level(options, entries):
    head = DyHead(16, blocks=2, **options)
    with torch.no_grad(), trace(head) as seen:
        head([torch.randn(2, 16, size, size) for size in (6, 3)])
    found = coefficients_of(seen)
    assert [[tuple(x.shape) for x in block] for block in found] == [[(2, 4, 16)] * entries] * 2
    with trace(nn.Identity()) as nothing, pytest.raises(ValueError, match="no task_coefficients"):
        coefficients_of(nothing)


def test_strangest_channels_are_those_far_from_relu():
    coefficients = relu_coefficients()
    coefficients[:, 2, 5] = 0.9
    coefficients[:, 0, 2] = 1.3
    assert strangest_channels(coefficients, 2) == [5, 2]


def test_the_drawn_curve_is_the_larger_line():
    coefficients = relu_coefficients()
    coefficients[:, :, 1] = torch.tensor([1.5, -0.2, 0.5, 0.1])
    axes = lines_figure(coefficients, [0, 1], reach=2.0).axes
    by_label = [{line.get_label(): torch.tensor(line.get_xydata()) for line in ax.get_lines()} for ax in axes[:2]]
    larger = "the larger (thin: one image)"
    x, drawn = by_label[1][larger].T
    # Coefficients are float32.
    torch.testing.assert_close(drawn, torch.maximum(1.5 * x - 0.2, 0.5 * x + 0.1), rtol=0, atol=1e-6)
    assert torch.equal(by_label[0][larger], by_label[0]["ReLU"])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"^coefficients_B4C: got shape \(2, 3, 8\)"):
        lines_figure(torch.ones(2, 3, 8), [0])
