"""Chapter 06: the task-aware attention of its cells, inside the shipped detector."""

import pytest
import torch

from dyhead_book.practice.rebuilt import check_same_ap

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("06_task_aware")


def test_the_shipped_detector_has_the_same_ap_on_the_class_of_the_chapter(cells):
    assert check_same_ap("quickstart", TaskAwareAttention=cells["TaskAwareAttention"])


def test_another_order_of_the_four_groups_is_noticed(cells):
    class Wrong(cells["TaskAwareAttention"]):
        """alpha1, alpha2, beta1, beta2: trained weights mean nothing in this order."""

        def forward(self, x):
            y = cells["hardsigmoid"](self.fc2(self.fc1(x.mean((2, 3))).relu()))[:, :, None, None]
            a1, a2, b1, b2 = y.chunk(4, dim=1)
            return torch.maximum(2 * a1 * x + b1 - 0.5, (2 * a2 - 1) * x + b2 - 0.5)

    verdict = check_same_ap("quickstart", 10, TaskAwareAttention=Wrong)
    assert not verdict and "The weights fit, but" in verdict.message
