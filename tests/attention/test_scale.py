"""Scale-aware attention and the scale ratio, against their equations as loops."""

import pytest
import torch

from dyhead_lab.attention import PaperScaleAwareAttention, ScaleAwareAttention, scale_ratio
from dyhead_lab.trace import trace


def test_released_form_is_the_gated_mean_of_its_branches():
    torch.manual_seed(0)
    attention = ScaleAwareAttention(8)
    torch.nn.init.normal_(attention.gate.weight)
    branches = [torch.randn(2, 8, 3, 5) for _ in range(3)]
    expected = torch.zeros(2, 8, 3, 5)
    for x in branches:
        for b in range(2):
            z = attention.gate.bias[0] + sum(attention.gate.weight[0, c] * x[b, c].mean() for c in range(8))
            gate = min(max(max(z, 0) + 3, 0), 6) / 6
            expected[b] += gate * x[b] / 3
    torch.testing.assert_close(attention(branches), expected)


def test_released_gates_lie_between_a_half_and_one():
    torch.manual_seed(0)
    attention = ScaleAwareAttention(8)
    torch.nn.init.normal_(attention.gate.weight, std=20)
    with trace(attention) as t:
        attention([torch.randn(50, 8, 2, 2) for _ in range(2)])
    [gates] = t["", "scale_weights"]
    assert gates.shape == (50, 2)
    assert gates.min() == 0.5 and gates.max() == 1


def test_paper_form_weighs_levels_as_equation_3():
    torch.manual_seed(0)
    attention = PaperScaleAwareAttention(3)
    F_BLSC = torch.randn(2, 3, 10, 4) + torch.tensor([3.0, -2.0, 0.0])[:, None, None]
    expected = torch.zeros_like(F_BLSC)
    for b in range(2):
        means = [F_BLSC[b, l].mean() for l in range(3)]
        for l in range(3):
            z = attention.f.bias[l] + sum(attention.f.weight[l, m] * means[m] for m in range(3))
            expected[b, l] = max(0, min(1, (z + 1) / 2)) * F_BLSC[b, l]
    torch.testing.assert_close(attention(F_BLSC), expected)


def test_scale_ratio_of_released_gates_is_finest_over_coarsest_branch():
    gates = torch.tensor([[1.0, 0.7, 0.5], [0.5, 0.9, 1.0]])
    assert scale_ratio(gates).tolist() == [2.0, 0.5]
    assert scale_ratio(gates[:, :1]).tolist() == [1.0, 1.0]  # a pyramid of one level


def test_scale_ratio_of_paper_weights_is_mean_of_finer_over_mean_of_coarser():
    weights = torch.tensor([[0.8, 0.6, 0.5, 0.25]])
    assert scale_ratio(weights, 2).item() == pytest.approx(0.7 / 0.25)
    assert scale_ratio(weights, 1).item() == pytest.approx(0.8 / 0.375)
    assert scale_ratio(weights, 0).item() == pytest.approx(0.8 / 0.45)  # the level itself stands in for finer
    assert scale_ratio(weights, 3).item() == pytest.approx(1.9 / 3 / 0.25)


@pytest.mark.parametrize(
    ("weights", "level", "message"), [(torch.ones(3), None, "weights"), (torch.ones(1, 3), 3, "level")]
)
def test_scale_ratio_refuses(weights, level, message):
    with pytest.raises(ValueError, match=message):
        scale_ratio(weights, level)
