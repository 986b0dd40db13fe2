"""Task-aware attention: exactly ReLU at zero, and its equation as loops."""

import pytest
import torch
from torch import nn

from dyhead_lab.attention import PaperTaskAwareAttention, TaskAwareAttention
from dyhead_lab.trace import trace


def zeroed(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


@pytest.mark.parametrize(
    ("attention", "shape"),
    [(TaskAwareAttention(8), (2, 8, 3, 5)), (PaperTaskAwareAttention(8), (2, 3, 15, 8))],
)
def test_zero_weights_are_exactly_relu(attention, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(zeroed(attention)(x), x.relu())


def test_paper_form_starts_as_relu_and_learns_from_there():
    torch.manual_seed(0)
    attention = PaperTaskAwareAttention(8)
    x = torch.randn(2, 3, 15, 8)
    y = attention(x)
    assert torch.equal(y, x.relu())
    y.square().sum().backward()
    assert attention.norm.weight.grad.isfinite().all() and attention.norm.weight.grad.any()


def test_released_form_is_dynamic_relu():
    torch.manual_seed(0)
    attention = TaskAwareAttention(8)
    x = torch.randn(2, 8, 3, 5)
    with trace(attention) as t:
        y = attention(x)
    [coefficients] = t["", "task_coefficients"]
    for b in range(2):
        mean = x[b].mean((1, 2))
        hidden = (attention.fc1.weight @ mean + attention.fc1.bias).relu()
        h = ((attention.fc2.weight @ hidden + attention.fc2.bias) + 3).clamp(0, 6) / 6
        for c in range(8):
            a1, b1, a2, b2 = 2 * h[c], h[8 + c] - 0.5, 2 * h[16 + c] - 1, h[24 + c] - 0.5
            torch.testing.assert_close(coefficients[b, :, c], torch.stack([a1, b1, a2, b2]))
            torch.testing.assert_close(y[b, c], torch.maximum(a1 * x[b, c] + b1, a2 * x[b, c] + b2))


def test_paper_form_is_equation_5():
    torch.manual_seed(0)
    attention = PaperTaskAwareAttention(4)
    nn.init.normal_(attention.norm.weight)
    F_BLSC = torch.randn(2, 3, 6, 4)
    y = attention(F_BLSC)
    for b in range(2):
        mean = F_BLSC[b].mean((0, 1))
        hidden = (attention.fc1.weight @ mean + attention.fc1.bias).relu()
        theta = attention.fc2.weight @ hidden + attention.fc2.bias
        normal = (theta - theta.mean()) / (theta.var(unbiased=False) + 1e-5).sqrt()
        d = 2 * (attention.norm.weight * normal + attention.norm.bias).sigmoid() - 1
        for c in range(4):
            x = F_BLSC[b, :, :, c]
            lines = (1 + d[c]) * x + 0.5 * d[4 + c], d[8 + c] * x + 0.5 * d[12 + c]
            torch.testing.assert_close(y[b, :, :, c], torch.maximum(*lines))
