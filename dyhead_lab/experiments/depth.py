"""AP against depth: how many Dynamic Head blocks are worth their cost?

The paper draws depth on COCO for 1 to 10 blocks. Here the question is asked on frozen features that have learned
Shapes, at one budget of steps: a deep head has more to learn, and no more time for it.
"""

from __future__ import annotations

from dataclasses import replace

from ..zoo.shapes_recipes import FROZEN_ATSS
from .ablation import BUDGET
from .experiment import Experiment
from .trained_rows import COSTS, CurveAndCost

#: Row -> blocks. Without a block the predictors read the pyramid itself.
DEPTHS = {"no block": 0, "1 block": 1, "2 blocks": 2, "4 blocks": 4, "6 blocks": 6}
WITHOUT_TOWERS = replace(FROZEN_ATSS, model={**FROZEN_ATSS.model, "tower_convs": 0})

DEPTH = Experiment(
    name="depth",
    summary="ATSS on frozen features that have learned Shapes; 0 to 6 Dynamic Head blocks, no towers",
    rows={
        row: CurveAndCost(WITHOUT_TOWERS, {**BUDGET, "model.dyhead_blocks": blocks}) for row, blocks in DEPTHS.items()
    },
    baseline="1 block",
    metrics=("AP", "AP_small", "AP_medium", "AP_large", "AP after 900", *COSTS),
)
