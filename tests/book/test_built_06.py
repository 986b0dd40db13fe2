"""Chapter 06: the task-aware attention of its cells, inside the shipped detector."""

import pytest
import torch

from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_lab.attention import PaperTaskAwareAttention

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


def test_the_papers_form_is_the_librarys_with_its_weights(cells):
    library = PaperTaskAwareAttention(16)
    torch.nn.init.normal_(library.norm.weight)
    mine = cells["PaperTaskAwareAttention"](16)
    mine.load_state_dict(library.state_dict(), strict=True)
    F_BLSC = torch.randn(2, 4, 9, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mine(F_BLSC), library(F_BLSC), rtol=1e-5, atol=1e-5)  # float32, another order


def test_what_a_fresh_module_starts_as(cells):
    x = torch.randn(2, 16, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    fresh = cells["TaskAwareAttention"](16)
    with torch.no_grad():
        off = float((fresh(x) - x.relu()).norm() / x.relu().norm())
    assert 0.01 < off < 0.5, "near ReLU, and not ReLU"
    for channels, usual in ((8, 0.217), (64, 0.074), (256, 0.040)):
        x = torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            made = [cells["TaskAwareAttention"](channels)(x) for _ in range(10)]
        off = sum(float((y - x.relu()).norm() / x.relu().norm()) for y in made) / len(made)
        assert off == pytest.approx(usual, rel=0.2), "one start differs by a tenth or so from the next"
    F_BLSC = x.flatten(2).mT[:, None]
    assert torch.equal(cells["PaperTaskAwareAttention"](256)(F_BLSC), F_BLSC.relu())


def test_one_activation_learns_two_tasks_that_fixed_lines_cannot(cells):
    cells["STEPS"] = 200
    torch.manual_seed(0)
    mine, fixed = (cells["learn_two_tasks"](cells[name](8)) for name in ("TaskAwareAttention", "FixedLines"))
    assert sum(mine[-10:]) / 10 < 0.05 < 0.15 < sum(fixed[-10:]) / 10
