import numpy as np
import pytest
import torch
from torch import nn

from dyhead_book.c09_self_attention_to_deformable.self_attention_checks import (
    ATTENTION_MISTAKES,
    DEFORM_ATTENTION_MISTAKES,
    MACS_MISTAKES,
    attention,
    attention_macs,
    check_attention,
    check_deform_attention,
    check_macs,
    deform_attention,
)
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.evaluation.efficiency import macs
from dyhead_lab.ops import ms_deform_attn

from .planted import assert_bugs_are_caught

SUITES = [
    (check_attention, attention, ATTENTION_MISTAKES),
    (check_deform_attention, deform_attention, DEFORM_ATTENTION_MISTAKES),
    (check_macs, attention_macs, MACS_MISTAKES),
]


@pytest.mark.parametrize(("check", "solution", "bugs"), SUITES, ids=[suite[0].__name__ for suite in SUITES])
def test_the_solution_passes_and_each_bug_is_caught(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_attention_is_pytorchs():
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(n, 3, 4)) for n in (5, 7, 7))
    q, k, v = (torch.from_numpy(x).transpose(0, 1) for x in (query, key, value))
    theirs = nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1)
    np.testing.assert_allclose(attention(query, key, value), theirs, atol=1e-12)  # float64, another order of sums


def test_deformable_attention_is_the_operator_on_one_level():
    rng = np.random.default_rng(1)
    H, W, Q, M, P, D = 5, 8, 4, 2, 3, 2
    value, offsets, weights = (rng.normal(size=s) for s in ((H, W, M, D), (Q, M, P, 2), (Q, M, P)))
    reference = rng.uniform(size=(Q, 2)) * (W - 1, H - 1)
    locations = (reference[:, None, None] + offsets + 0.5) / (W, H)  # cell centres lie at (i + 0.5) / size
    theirs = ms_deform_attn(
        torch.from_numpy(value).reshape(1, H * W, M, D),
        torch.tensor([[H, W]]),
        torch.tensor([0]),
        torch.from_numpy(locations)[None, :, :, None],
        torch.from_numpy(weights)[None, :, :, None],
    )
    ours = deform_attention(value, reference, offsets, weights).reshape(1, Q, M * D)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)  # float64, another order of sums


def test_the_multiply_adds_are_those_that_are_counted():
    N, C, M, P = 30, 64, 4, 3
    x = torch.randn(1, N, C)
    with torch.no_grad():
        layer = MultiScaleDeformableAttention(C, 1, M, P)
        reference, shape = torch.rand(1, N, 1, 2), torch.tensor([[5, 6]])
        counted = macs(layer, lambda: layer(x, reference, x, shape, torch.tensor([0])))[""]
        dense = nn.MultiheadAttention(C, M, batch_first=True).train()  # its fast path in evaluation is not counted
        counted_dense = macs(dense, lambda: dense(x, x, x))[""]
    assert attention_macs(N, C, M, P) == (counted_dense, counted)
