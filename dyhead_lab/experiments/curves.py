"""AP on the way of a training: how a record holds it, and how long a detector needed to get somewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..training.checkpoint import RunLog
from .record import Numbers, Record, Spread

#: Numbers that are kept on the way.
KEPT = ("AP", "AP_small")


def after(metric: str, iterations: int) -> str:
    """The name of a number on the way: ``AP after 600``."""
    return f"{metric} after {iterations}"


def numbers_on_the_way(log: Path, last: Numbers, iterations: int) -> dict[str, float]:
    """AP and AP_small wherever a run was evaluated, the end included.

    Args:
        log: ``log.jsonl`` of the run.
        last: the numbers at its end, of more digits than the log's.
        iterations: of the whole run.
    """
    evaluated: dict[int, Mapping[str, float]] = {
        entry["iteration"]: entry for entry in RunLog.entries(log) if "AP" in entry and entry["iteration"] < iterations
    }
    return {
        after(metric, step): numbers[metric]
        for step, numbers in {**evaluated, iterations: last}.items()
        for metric in KEPT
        if metric in numbers
    }


def curve(record: Record, row: str, metric: str = "AP") -> list[tuple[int, Spread]]:
    """The iterations at which a row was evaluated and its metric there, over the seeds that have it; in order."""
    found = re.compile(re.escape(metric) + r" after (\d+)")
    names = {name for numbers in record.runs.get(row, {}).values() for name in numbers}
    steps = sorted(int(match[1]) for name in names if (match := found.fullmatch(name)))
    return [(step, spread) for step in steps if (spread := record.spread(row, after(metric, step))) is not None]


def iterations_to(points: Sequence[tuple[int, Spread]], level: float) -> float | None:
    """Iterations until the mean of a curve first reached ``level``, straight between evaluations; None if never.

    Before the first evaluation the curve is taken to rise from zero.
    """
    before, low = 0, 0.0
    for step, spread in points:
        if spread.mean >= level:
            return before + (step - before) * (level - low) / (spread.mean - low) if spread.mean > low else float(step)
        before, low = step, spread.mean
    return None
