"""Does a Dynamic Head pay on photographs? The detector of everyday things with it, and with towers of the same cost.

One seed: each row takes hours on a processor core. So this shows a difference of two runs, and no interval.
"""

from __future__ import annotations

from ..zoo.registry import RECIPES
from .experiment import Experiment
from .trained_rows import Curve

PHOTOGRAPHS = Experiment(
    name="photographs",
    summary="ATSS on 1,578 photographs and an ImageNet backbone: towers, and two Dynamic Head blocks of their cost",
    rows={"towers": Curve(RECIPES["everyday_plain"]), "2 blocks": Curve(RECIPES["everyday"])},
    baseline="towers",
    metrics=("AP", "AP50", "AP_small", "AP_medium", "AP_large", "AP after 900", "AP after 1800"),
    seeds=(0,),
)
