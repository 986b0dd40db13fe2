"""Which of the three attentions does the work? The paper's ablation, small enough for a reader's machine."""

from __future__ import annotations

from typing import Any

from .experiment import Experiment, Training
from .shapes import SHAPES_RECIPES

#: Row -> the attentions that are on; the letters are the paper's: L scale, S spatial, C task.
SWITCHES: dict[str, dict[str, bool]] = {
    row: {"scale": "L" in row, "spatial": "S" in row, "task": "C" in row}
    for row in ("all off", "L", "S", "C", "L+S", "L+C", "S+C", "L+S+C")
}
PLAIN = "plain towers"

#: What a run of the ablation takes: three minutes on one core.
BUDGET: dict[str, Any] = {"iterations": 600, "evaluate_every": 600, "model.min_size": 128, "model.max_size": 256}


def switched(row: str) -> dict[str, Any]:
    """The settings of a row: which attentions are on, or four convolutions a tower and no Dynamic Head."""
    if row == PLAIN:
        return {"model.dyhead_blocks": 0, "model.tower_convs": 4}
    return {"model.dyhead": SWITCHES[row]}


ABLATION = Experiment(
    name="ablation",
    summary="ATSS on a narrow backbone that has learned Shapes; one Dynamic Head block, its attentions on and off",
    rows={row: Training(SHAPES_RECIPES["atss_shapes"], {**BUDGET, **switched(row)}) for row in (PLAIN, *SWITCHES)},
    baseline="all off",
)
