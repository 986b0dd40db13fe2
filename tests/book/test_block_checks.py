import pytest
import torch

from dyhead_book.c07_dynamic_head.block_checks import (
    BLOCK_MACS_MISTAKES,
    BLOCK_MISTAKES,
    ENERGY_SHARE_MISTAKES,
    UNDECOUPLED_MISTAKES,
    block_macs,
    check_block,
    check_block_macs,
    check_energy_share,
    check_undecoupled,
    dyhead_block,
    energy_share_solution,
    undecoupled_solution,
)
from dyhead_lab.attention import DyHeadBlock
from dyhead_lab.evaluation.dyhead_cost import depth_macs, level_sizes

from .planted import assert_bugs_are_caught


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (check_undecoupled, undecoupled_solution, UNDECOUPLED_MISTAKES),
        (check_block, dyhead_block, BLOCK_MISTAKES),
        (check_block_macs, block_macs, BLOCK_MACS_MISTAKES),
        (check_energy_share, energy_share_solution, ENERGY_SHARE_MISTAKES),
    ],
)
def test_bugs(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_the_block_of_the_lesson_is_the_block_of_the_library():
    torch.manual_seed(0)
    block = DyHeadBlock(16)
    levels = [torch.randn(1, 16, size, size) for size in (8, 4, 2)]
    lesson = dyhead_block(levels, block.spatial, block.scale, block.task)
    for ours, theirs in zip(lesson, block(levels), strict=True):
        assert torch.equal(ours, theirs)


def test_the_count_of_the_lesson_is_21_15_gmac_at_the_published_size():
    counted = block_macs(level_sizes(), 256)
    assert counted / 1e9 == pytest.approx(21.15, abs=0.005)
    # The library also counts the two linear layers of theta and the gates: under 0.01 % of a block.
    assert depth_macs([1])[1] == pytest.approx(counted, rel=1e-4)
