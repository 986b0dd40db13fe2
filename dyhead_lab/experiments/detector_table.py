"""What a Dynamic Head gives to four detectors: published towers, one block, two, and blocks that cost what towers do.

Every row of a detector has the same backbone, budget, order of pictures and transforms. Four blocks of 64 channels
multiply as often as two towers of four convolutions (154 and 159 million times on a picture of Shapes), and hold
twice the parameters. Faster R-CNN is published without towers: its row with a block says what a head between pyramid
and regions gives, at a cost of its own. RetinaNet's towers are the only ones without GroupNorm, which every block has:
a row of its own tells what that alone gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..zoo.shapes_recipes import SHAPES_RECIPES
from .experiment import Experiment
from .trained_rows import COSTS, CurveAndCost

#: Title -> recipe, the cheapest first: who stops early has as many rows as possible.
DETECTORS = {
    "RetinaNet": "retinanet_shapes",
    "FCOS": "fcos_shapes",
    "ATSS": "atss_shapes",
    "Faster R-CNN": "faster_rcnn_shapes",
}
#: Blocks whose multiply-adds equal those of the towers.
EQUAL_BLOCKS = 4
#: Steps of every row. Without float32 a processor that has no matrix unit for bfloat16 takes longer.
BUDGET: dict[str, Any] = {"iterations": 2400, "warmup": 100, "evaluate_every": 600, "precision": "fp32"}


def variants(title: str) -> dict[str, dict[str, Any]]:
    """Name of each row of a detector -> its settings; the first is the published detector."""
    if "tower_convs" not in SHAPES_RECIPES[DETECTORS[title]].model:
        return {
            f"{title}, plain": {**BUDGET, "model.dyhead_blocks": 0},
            f"{title}, 1 block": {**BUDGET, "model.dyhead_blocks": 1},
        }
    towers = {**BUDGET, "model.dyhead_blocks": 0, "model.tower_convs": 4}
    normed = {"towers with GroupNorm": {**towers, "model.tower_norm": True}} if title == "RetinaNet" else {}
    blocks = {
        "1 block": {**BUDGET, "model.dyhead_blocks": 1},
        "2 blocks": {**BUDGET, "model.dyhead_blocks": 2},
        f"{EQUAL_BLOCKS} blocks": {**BUDGET, "model.dyhead_blocks": EQUAL_BLOCKS},
    }
    return {f"{title}, {row}": changes for row, changes in ({"towers": towers} | normed | blocks).items()}


def _against() -> Iterator[tuple[str, str]]:
    """Each other row, and the published detector that it is compared with."""
    for title in DETECTORS:
        published, *others = variants(title)
        yield from ((row, published) for row in others)


DETECTOR_TABLE = Experiment(
    name="detectors",
    summary="four detectors on a narrow backbone that has learned Shapes: as published, and with Dynamic Head blocks",
    rows={
        row: CurveAndCost(SHAPES_RECIPES[recipe], changes)
        for title, recipe in DETECTORS.items()
        for row, changes in variants(title).items()
    },
    baseline=next(iter(variants("RetinaNet"))),
    against=dict(_against()),
    metrics=("AP", "AP_small", "AP_medium", "AP_large", "AP after 600", "AP after 1200", "AP after 1800", *COSTS),
)
