"""The table of detectors: rows of one budget; blocks in the place of towers cost what the towers cost."""

import pytest
from torch import nn

from dyhead_lab.attention import DyHead
from dyhead_lab.evaluation.dyhead_cost import depth_macs, tower_macs
from dyhead_lab.experiments.detector_table import BUDGET, DETECTOR_TABLE, DETECTORS, EQUAL_BLOCKS
from dyhead_lab.experiments.trained_rows import SIZE


def blocks_of(row):
    model = row.recipe.with_changes(row.changes).build(6)
    return sum(len(module.blocks) for module in model.modules() if isinstance(module, DyHead))


BLOCKS = {
    "RetinaNet": [0, 0, 1, 2, EQUAL_BLOCKS],
    "FCOS": [0, 1, 2, EQUAL_BLOCKS],
    "ATSS": [0, 1, 2, EQUAL_BLOCKS],
    "Faster R-CNN": [0, 1],
}


def test_every_detector_is_compared_with_itself_as_published():
    rows = list(DETECTOR_TABLE.rows)
    assert list(BLOCKS) == list(DETECTORS)
    for title, blocks in BLOCKS.items():
        published, *others = [row for row in rows if row.startswith(f"{title}, ")]
        assert [blocks_of(DETECTOR_TABLE.rows[row]) for row in (published, *others)] == blocks
        assert [DETECTOR_TABLE.against.get(row) for row in (published, *others)] == [None, *[published] * len(others)]


def test_towers_with_group_norm_differ_in_it_alone():
    published, normed = (DETECTOR_TABLE.rows[f"RetinaNet, {row}"] for row in ("towers", "towers with GroupNorm"))
    norms = [
        sum(isinstance(m, nn.GroupNorm) for m in row.recipe.with_changes(row.changes).build(6).head.modules())
        for row in (published, normed)
    ]
    assert norms == [0, 8]  # one a convolution of both towers
    assert {**published.changes, "model.tower_norm": True} == normed.changes


@pytest.mark.parametrize("title", ["RetinaNet", "FCOS", "ATSS"])
def test_published_towers_have_four_convolutions(title):
    changes = DETECTOR_TABLE.rows[f"{title}, towers"].changes
    assert (changes["model.tower_convs"], changes["model.dyhead_blocks"]) == (4, 0)


def test_blocks_cost_what_towers_cost():
    towers = tower_macs(SIZE, channels=64)
    blocks = depth_macs((EQUAL_BLOCKS - 1, EQUAL_BLOCKS, EQUAL_BLOCKS + 1), SIZE, channels=64)
    assert min(blocks, key=lambda depth: abs(blocks[depth] - towers)) == EQUAL_BLOCKS
    assert blocks[EQUAL_BLOCKS] == pytest.approx(towers, rel=0.05)  # 3.2 % apart


@pytest.mark.parametrize("title", DETECTOR_TABLE.rows)
def test_rows_differ_in_the_detector_alone(title):
    row = DETECTOR_TABLE.rows[title]
    recipe = row.recipe.with_changes(row.changes)
    first = DETECTOR_TABLE.rows[DETECTOR_TABLE.baseline].recipe.with_changes(BUDGET)
    for setting in ("iterations", "batch_size", "lr", "warmup", "augmentation", "evaluate_every", "precision"):
        assert getattr(recipe, setting) == getattr(first, setting)
