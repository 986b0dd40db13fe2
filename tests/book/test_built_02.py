"""Chapter 02: the scale-aware attention of its cells, inside the shipped detector."""

import pytest
import torch
from torch import nn

from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_lab.attention import PaperScaleAwareAttention

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("02_scale_aware")


def test_the_shipped_detector_has_the_same_ap_on_the_class_of_the_chapter(cells):
    assert check_same_ap("quickstart", ScaleAwareAttention=cells["ScaleAwareAttention"])


def test_a_gate_that_hears_its_neighbour_is_noticed(cells):
    class Wrong(cells["ScaleAwareAttention"]):
        def forward(self, branches):
            return super().forward([*branches[1:], branches[0]]) + branches[0] / len(branches)

    verdict = check_same_ap("quickstart", 10, ScaleAwareAttention=Wrong)
    assert not verdict and "The weights fit, but" in verdict.message


def test_a_class_with_other_weights_does_not_fit(cells):
    class Wider(cells["ScaleAwareAttention"]):
        def __init__(self, channels):
            super().__init__(channels)
            self.gate = nn.Linear(channels, 2)

    assert "do not fit" in check_same_ap("quickstart", 1, ScaleAwareAttention=Wider).message


def test_the_papers_form_is_the_librarys_with_its_weights(cells):
    library = PaperScaleAwareAttention(4)
    mine = cells["PaperScaleAwareAttention"](4)
    mine.load_state_dict(library.state_dict(), strict=True)
    F_BLSC = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mine(F_BLSC), library(F_BLSC))


def test_the_gate_learns_to_close_as_far_as_its_form_lets_it(cells):
    cells["STEPS"] = 120
    torch.manual_seed(0)
    losses, gates = cells["learn_to_close"](cells["ScaleAwareAttention"](8))
    assert gates[-1][0] > 0.9 and gates[-1][1] == pytest.approx(0.5, abs=1e-5), "open when clear, a half when cloudy"
    open_losses, open_gates = cells["learn_to_close"](cells["OpenScaleAwareAttention"](8))
    assert open_gates[-1][1] < 0.2
    late, start = slice(-20, None), slice(20)
    assert sum(open_losses[late]) < 0.75 * sum(losses[late]) and sum(losses[late]) < 0.8 * sum(losses[start])


def test_constant_gates_are_those_of_the_level_that_calls(cells):
    gates = cells["ConstantGates"]([[1.0, 0.5], [0.0, 1.0]])
    branches = [torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 4.0)]
    assert [float(gates(branches).mean()) for _ in range(3)] == [2.0, 2.0, 2.0]
    branches = [torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 8.0)]
    assert [float(gates(branches).mean()) for _ in range(3)] == [4.0, 3.0, 4.0]
