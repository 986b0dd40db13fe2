"""Features of each step of a Dynamic Head, as they were traced, and their figure."""

import pytest
import torch

from dyhead_book.c07_dynamic_head.block_features import STEPS, sparsity_figure, traced_features
from dyhead_lab.attention import DyHead
from dyhead_lab.trace import trace
from dyhead_lab.views.features import energy_share
from dyhead_lab.views.figures import Picture

LEVELS = ["P3", "P4", "P5"]


@pytest.fixture(scope="module")
def seen():
    torch.manual_seed(0)
    head = DyHead(16, blocks=2)
    with torch.no_grad(), trace(head) as t:
        head([torch.randn(2, 16, size, size) for size in (10, 5, 3)])
    return t


def test_features_come_by_block_and_level(seen):
    for name in STEPS:
        found = traced_features(seen, name)
        assert [[tuple(x.shape[2:]) for x in block] for block in found] == [[(10, 10), (5, 5), (3, 3)]] * 2
    assert torch.equal(traced_features(seen, "after_task")[1][0], seen["blocks.1", "after_task"][0])
    with trace(torch.nn.Identity()) as nothing, pytest.raises(ValueError, match="no after_scale"):
        traced_features(nothing, "after_scale")


def test_the_figure_has_a_dot_for_each_image_step_and_level(seen):
    shares = {name: [energy_share(x) for x in traced_features(seen, name)[0]] for name in STEPS}
    figure = sparsity_figure(shares, LEVELS)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == LEVELS
    dots = [line.get_xdata() for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2][:-1]
    assert [list(x) for x in dots] == [shares[name][l].tolist() for l in range(3) for name in STEPS]
    assert Picture(figure, "a test").png
