"""Chapter 02: the scale-aware attention of its cells, inside the shipped detector."""

import pytest
from torch import nn

from dyhead_book.practice.rebuilt import check_same_ap

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
