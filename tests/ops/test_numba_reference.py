"""The literal loops against the formula."""

import pytest
import torch

from .cases import Attention, Conv, answers, answers_of_loops, distance

CONV = Conv(C=12, Co=9, size=(6, 5), kernel=(3, 2), stride=(2, 1), dilation=(1, 2), groups=3, G=2)
ATTENTION = Attention(Q=9, M=2, P=3, D=5)


@pytest.mark.parametrize(
    ("case", "places"),
    [(CONV, places) for places in ("between", "integer", "far")]
    + [(ATTENTION, places) for places in ("between", "border", "far")],
)
def test_loops_agree_with_the_formula(case, places):
    case = type(case)(**{**vars(case), "places": places})
    tensors = case.tensors(torch.float64)
    expected = answers(case, tensors, "formula")
    got = answers_of_loops(case, tensors)
    assert got.keys() == expected.keys() - {"grad_bias"}
    for name in got:
        # Float64 sums in another order: 1e-12.
        assert distance(got[name], expected[name]) < 1e-12, name
