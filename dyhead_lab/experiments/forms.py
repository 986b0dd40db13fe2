"""The paper describes a block that its released code does not hold: what do the two learn, at one budget?

Rows differ from the paper's block in one thing each, the released one in all that chapter 07 lists.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..zoo.shapes_recipes import FROZEN_ATSS
from .ablation import SHORT
from .attention_order import LEVELS, spatial_first_atss
from .experiment import Experiment
from .trained_rows import COSTS, CurveAndCost

#: Row -> options of the head.
FORMS: dict[str, dict[str, Any]] = {
    "released": {},
    "paper": {"form": "paper", "num_levels": LEVELS},
    "paper, scalar weights": {"form": "paper", "num_levels": LEVELS, "depthwise": True},
}
SPATIAL_FIRST = replace(
    FROZEN_ATSS, detector=spatial_first_atss, model={key: FROZEN_ATSS.model[key] for key in ("min_size", "max_size")}
)

FORMS_EXPERIMENT = Experiment(
    name="forms",
    summary="ATSS on frozen features that have learned Shapes; one Dynamic Head block, as released and as in the paper",
    rows={
        row: CurveAndCost(FROZEN_ATSS, {**SHORT, "model.dyhead": {**FROZEN_ATSS.model["dyhead"], **options}})
        for row, options in FORMS.items()
    }
    | {"paper, spatial first": CurveAndCost(SPATIAL_FIRST, SHORT)},
    baseline="paper",
    metrics=("AP", "AP_small", "AP_medium", "AP_large", "AP after 450", *COSTS),
)
