"""Does a Dynamic Head pay on photographs? The detector of everyday things with it, and with towers of the same cost.

One seed, and fewer than half of the recipe's steps: a row takes an hour and a half of a processor core. So this shows a
difference of two runs, and no interval.
"""

from __future__ import annotations

from typing import Any

from ..zoo.registry import RECIPES
from .experiment import Experiment
from .trained_rows import Curve

#: Six times through the photographs.
SITTING: dict[str, Any] = {"iterations": 1200, "evaluate_every": 400}

PHOTOGRAPHS = Experiment(
    name="photographs",
    summary="ATSS on 1,578 photographs and an ImageNet backbone: towers, and two Dynamic Head blocks of their cost",
    rows={
        "towers": Curve(RECIPES["everyday_plain"], SITTING),
        "2 blocks": Curve(RECIPES["everyday"], SITTING),
    },
    baseline="towers",
    metrics=("AP", "AP50", "AP_small", "AP_medium", "AP_large", "AP after 400", "AP after 800"),
    seeds=(0,),
)
