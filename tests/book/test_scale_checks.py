import pytest
import torch

from dyhead_book.c02_scale_aware import scale_checks as scale
from dyhead_book.c02_scale_aware.scale_checks import check_mean_ratio, check_paper_scale, check_released_fusion

from .planted import assert_bugs_are_caught

TABLES = {
    "released": (check_released_fusion, scale.released_fusion, scale.RELEASED_MISTAKES),
    "paper": (check_paper_scale, scale.paper_scale, scale.PAPER_MISTAKES),
    "slope": (scale.check_gate_slope, scale.gate_slope, scale.SLOPE_MISTAKES),
    "ratio": (check_mean_ratio, scale.mean_ratio, scale.RATIO_MISTAKES),
}


@pytest.mark.parametrize("name", TABLES)
def test_solutions_pass_and_planted_bugs_are_named(name):
    assert_bugs_are_caught(*TABLES[name])


@pytest.mark.parametrize("seed", [1, 2])
def test_the_cases_reach_every_piece_of_the_sigmoids(seed):
    gates = torch.cat([scale._gates(scale._z(*case.arguments)).flatten() for case in scale.released_cases(seed)])
    assert (gates == 0.5).any() and (gates == 1).any() and ((gates > 0.5) & (gates < 1)).any()
    z = [scale._means(F) @ f.T + b for F, f, b in (case.arguments for case in scale.paper_cases(seed))]
    weights = torch.cat([scale._sigma(z_BL).flatten() for z_BL in z])
    assert (weights == 0).any() and (weights == 1).any() and ((weights > 0) & (weights < 1)).any()
