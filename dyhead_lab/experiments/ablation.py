"""Which of the three attentions does the work? The paper's ablation, small enough for a reader's machine.

Two things to keep in mind beside the table. The features come from a detector that learned with all three attentions on
top. And the plain towers hold twice the parameters of the block and cost four times its multiply-adds.
"""

from __future__ import annotations

from typing import Any

from ..zoo.shapes_recipes import FROZEN_ATSS
from .experiment import Experiment
from .record import Record
from .trained_rows import COSTS, CurveAndCost

#: Row -> the attentions that are on; the letters are the paper's: L scale, S spatial, C task.
SWITCHES: dict[str, dict[str, bool]] = {
    row: {"scale": "L" in row, "spatial": "S" in row, "task": "C" in row}
    for row in ("all off", "L", "S", "C", "L+S", "L+C", "S+C", "L+S+C")
}
PLAIN = "plain towers"
#: Four times what the recipe trains for: in the last quarter the plain towers gain 0.012, every other row less.
BUDGET: dict[str, Any] = {"iterations": 1800, "evaluate_every": 450, "precision": "fp32"}
#: Half of that, for questions that are asked of one block alone.
SHORT: dict[str, Any] = {**BUDGET, "iterations": 900}


def changes(row: str) -> dict[str, Any]:
    """The settings of a row: which attentions are on, or four convolutions a tower in place of the Dynamic Head."""
    return BUDGET | ({"model.dyhead_blocks": 0} if row == PLAIN else {"model.dyhead": SWITCHES[row]})


ABLATION = Experiment(
    name="ablation",
    summary="ATSS on frozen features that have learned Shapes; one Dynamic Head block, its attentions on and off",
    rows={row: CurveAndCost(FROZEN_ATSS, changes(row)) for row in (PLAIN, *SWITCHES)},
    baseline="all off",
    metrics=("AP", "AP_small", "AP_medium", "AP_large", "AP after 450", "AP after 900", "AP after 1350", *COSTS),
)


def factorial_table(record: Record, metric: str = "AP") -> dict[frozenset[str], list[float]]:
    """The rows of a recorded ablation that differ only in which attentions are on: letters -> a number of each seed."""
    return {
        frozenset(row) & frozenset("LSC"): [record.runs[row][seed][metric] for seed in record.seeds] for row in SWITCHES
    }
