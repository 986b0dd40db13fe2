"""AP against depth: how many Dynamic Head blocks are worth their cost?

The paper draws this on COCO for 1 to 10 blocks. Here the same question is asked on frozen features that have learned
Shapes, at one budget of steps: a deep head has more to learn, and no more time for it.
"""

from __future__ import annotations

from dataclasses import replace

from ..zoo.shapes_recipes import FROZEN_ATSS
from .experiment import Experiment, Training

#: Row -> blocks. Without a block the predictors read the pyramid itself.
DEPTHS = {"no block": 0, "1 block": 1, "2 blocks": 2, "4 blocks": 4}
WITHOUT_TOWERS = replace(
    FROZEN_ATSS, model={**FROZEN_ATSS.model, "dyhead": {"offset_fit": "centres"}, "tower_convs": 0}
)

DEPTH = Experiment(
    name="depth",
    summary="ATSS on frozen features that have learned Shapes; 0 to 4 Dynamic Head blocks, no towers",
    rows={row: Training(WITHOUT_TOWERS, {"model.dyhead_blocks": blocks}) for row, blocks in DEPTHS.items()},
    baseline="1 block",
)
