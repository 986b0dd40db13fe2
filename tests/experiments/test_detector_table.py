"""The table of detectors: every row is one detector, with the same budget, and each can be built."""

import pytest

from dyhead_lab.attention import DyHead
from dyhead_lab.experiments.detector_table import BUDGET, DETECTOR_TABLE, DETECTORS


def test_every_detector_stands_there_with_and_without_the_dynamic_head():
    assert set(DETECTOR_TABLE.rows) == {title + suffix for title in DETECTORS for suffix in ("", " plain")}


@pytest.mark.parametrize("title", DETECTOR_TABLE.rows)
def test_rows_differ_in_the_detector_alone(title):
    row = DETECTOR_TABLE.rows[title]
    recipe = row.recipe.with_changes(row.changes)
    baseline = DETECTOR_TABLE.rows["RetinaNet"].recipe.with_changes(BUDGET)
    for setting in ("iterations", "batch_size", "lr", "warmup", "augmentation", "evaluate_every", "precision"):
        assert getattr(recipe, setting) == getattr(baseline, setting)
    model = recipe.build(6)
    assert type(model).__name__.lower() == row.recipe.name.removesuffix("_shapes").replace("_", "")
    assert any(isinstance(m, DyHead) for m in model.modules()) == (not title.endswith(" plain"))
