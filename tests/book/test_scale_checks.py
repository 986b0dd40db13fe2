"""The checks of chapter 02: right answers of several styles pass, and every mistake is named."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dyhead_book.c02_scale_aware import scale_checks as scale
from dyhead_book.practice.reader_checks import check
from dyhead_lab.attention.scale import PaperScaleAwareAttention, ScaleAwareAttention

from .planted import assert_bugs_are_caught


def check_released_fusion(fusion):
    return check(fusion, scale.released_formula, scale.released_cases(), scale.RELEASED_MISTAKES)


def check_paper_function(function):
    return check(function, scale.paper_formula, scale.paper_cases(), scale.PAPER_MISTAKES)


def gate_slope(z_B):
    return torch.where((z_B > 0) & (z_B < 3), 1 / 6, 0.0)


TABLES = {
    "released": (check_released_fusion, scale.released_formula, scale.RELEASED_MISTAKES),
    "paper": (check_paper_function, scale.paper_formula, scale.PAPER_MISTAKES),
    "slope": (scale.check_gate_slope, gate_slope, scale.SLOPE_MISTAKES),
}


@pytest.mark.parametrize("name", TABLES)
def test_solutions_pass_and_planted_bugs_are_named(name):
    assert_bugs_are_caught(*TABLES[name])


class Loops(nn.Module):
    """One branch after the other, with PyTorch's own hard sigmoid."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Linear(channels, 1)

    def forward(self, branches):
        total = torch.zeros_like(branches[0])
        for X in branches:
            g = F.hardsigmoid(F.relu(self.gate(F.adaptive_avg_pool2d(X, 1).flatten(1))))
            total += X * g[..., None, None]
        return total / len(branches)


def test_modules_of_other_styles_are_right():
    assert scale.check_released(ScaleAwareAttention) and scale.check_released(Loops)
    assert scale.check_paper_scale(PaperScaleAwareAttention)


def test_mistakes_of_modules_are_named():
    class WithoutInnerRelu(Loops):
        def forward(self, branches):
            gates = [F.hardsigmoid(self.gate(X.mean((2, 3)))) for X in branches]
            return sum(g[..., None, None] * X for g, X in zip(gates, branches, strict=True)) / len(branches)

    class Smooth(PaperScaleAwareAttention):
        def forward(self, F_BLSC):
            return self.f(F_BLSC.mean((2, 3))).sigmoid()[:, :, None, None] * F_BLSC

    assert "when the inner ReLU is missing." in scale.check_released(WithoutInnerRelu).message
    assert "when the sigmoid is the smooth one." in scale.check_paper_scale(Smooth).message


def test_a_mean_over_other_axes_is_named_although_its_numbers_do_not_fit_into_the_layer():
    class OverChannels(Loops):
        def forward(self, branches):
            z_Bn = self.gate(torch.stack([X.mean((1, 2, 3)) for X in branches], 1))
            return sum(z_Bn.relu()[..., None, None] * X for X in branches)

    class OverOne(PaperScaleAwareAttention):
        def __init__(self, levels, axis):
            super().__init__(levels)
            self.axis = axis

        def forward(self, F_BLSC):
            return self.f(F_BLSC.mean(self.axis))

    class ElseWrong(Loops):
        def forward(self, branches):
            return self.gate(branches[0])

    assert "when the mean runs over the channels as well." in scale.check_released(OverChannels).message
    for axis, name in ((2, "positions"), (3, "channels")):
        verdict = scale.check_paper_scale(lambda levels, axis=axis: OverOne(levels, axis))
        assert f"when the mean runs over the {name} only." in verdict.message
    message = scale.check_released(ElseWrong).message
    assert "Your code raises" in message and "This is what comes out" not in message


def test_other_names_of_parameters_are_told():
    class Named(nn.Module):
        def __init__(self, count):
            super().__init__()
            self.layer = nn.Linear(count, 1)

    assert "no place for gate.weight of shape (1, 4)" in scale.check_released(Named).message
    assert "no place for f.weight of shape (3, 3)" in scale.check_paper_scale(Named).message


@pytest.mark.parametrize("seed", [1, 2])
def test_the_cases_reach_every_piece_of_the_sigmoids(seed):
    gates = torch.cat([scale._gates(scale._z(*case.arguments)).flatten() for case in scale.released_cases(seed)])
    assert (gates == 0.5).any() and (gates == 1).any() and ((gates > 0.5) & (gates < 1)).any()
    z = [scale._means(F) @ f.T + b for F, f, b in (case.arguments for case in scale.paper_cases(seed))]
    weights = torch.cat([scale._sigma(z_BL).flatten() for z_BL in z])
    assert (weights == 0).any() and (weights == 1).any() and ((weights > 0) & (weights < 1)).any()
