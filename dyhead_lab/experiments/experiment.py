"""Experiments: rows that differ in one thing, each measured with the same seeds.

Every finished run is kept in a folder of its own, so that an experiment that was stopped goes on where it was; the
run that was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..errors import UserError
from ..hardware import computing_device
from ..ops.bench.measure import machine
from ..training import Recipe, train
from ..training.observer import ProgressBar
from ..zoo.datasets import dataset
from ..zoo.registry import current_name
from .record import Machine, Numbers, Record


@dataclass(frozen=True)
class Job:
    """What a row is told about one of its runs.

    Attributes:
        seed: of initialisation, order and transforms.
        folder: where the run may keep its files.
        data: name of a data set or a COCO-format folder, in place of the row's own data; None keeps that.
        changes: further settings for every run, such as ``{"iterations": 20}``.
    """

    seed: int
    folder: Path
    data: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


class Row(Protocol):
    """One row of an experiment."""

    def settings(self, job: Job) -> dict[str, Any]:
        """All that decides the numbers, as values that json can hold: a finished run is kept only while they hold."""

    def measure(self, job: Job) -> Numbers:
        """Do the run."""


@dataclass(frozen=True)
class Training:
    """A row that trains a recipe and keeps the 12 COCO numbers of its validation split.

    Args:
        recipe: what to train.
        changes: its settings in this row, as :meth:`Recipe.with_changes` takes them.
    """

    recipe: Recipe
    changes: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, job: Job) -> dict[str, Any]:
        recipe = self._changed(job)
        return {"recipe": recipe.name, "data": job.data or getattr(recipe.dataset, "__name__", ""), **recipe.settings()}

    def measure(self, job: Job) -> Numbers:
        return train(self._changed(job), out=job.folder, observer=ProgressBar()).numbers

    def _changed(self, job: Job) -> Recipe:
        recipe = self.recipe.with_changes({**self.changes, **job.changes, "seed": job.seed})
        return replace(recipe, dataset=dataset(job.data)) if job.data else recipe


@dataclass(frozen=True)
class Experiment:
    """Rows, each measured with every seed.

    Args:
        name: its name in the zoo.
        summary: one line: what is compared, on what.
        rows: name -> row, in the order of the table.
        baseline: the row that the others are compared with.
        metrics: the numbers that the table shows; the first one is compared.
        seeds: of the runs, unless others are asked for.
        against: row -> the row that it is compared with, where that is not the baseline.
    """

    name: str
    summary: str
    rows: Mapping[str, Row]
    baseline: str
    metrics: tuple[str, ...] = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    seeds: tuple[int, ...] = (0, 1, 2)
    against: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for argument, names in (("baseline", [self.baseline]), ("against", [*self.against, *self.against.values()])):
            if other := next((name for name in names if name not in self.rows), None):
                raise ValueError(f"{argument}: expected one of {', '.join(self.rows)}, got {other!r}")


def run_experiment(
    experiment: Experiment,
    out: Path,
    seeds: Sequence[int] | None = None,
    data: str | None = None,
    changes: Mapping[str, Any] | None = None,
    command: str = "",
    say: Callable[[str], None] = print,
    known: Record | None = None,
) -> Record:
    """Do every run that is missing, and write what was measured after each.

    Args:
        experiment: what to measure.
        out: folder; receives ``ROW/seedN/`` for each run, and ``NAME.json``.
        seeds: others than the experiment's own.
        data: name of a data set, or a COCO-format folder with splits "train" and "val", in place of the recipes' own.
        changes: settings for every run.
        command: what was typed; it is kept in the record.
        say: told what is being done.
        known: runs that were measured elsewhere, such as on another machine. They are kept, and not done again.

    Returns:
        the record, which is also in ``out / NAME.json``. All rows of a seed come before the next seed.

    Raises:
        UserError: a finished run in ``out`` had other settings, or ``known`` is another experiment's.
    """
    seeds = tuple(experiment.seeds if seeds is None else seeds)
    record = Record(
        experiment.name,
        experiment.summary,
        tuple(experiment.rows),
        experiment.baseline,
        experiment.metrics,
        tuple(sorted({*seeds, *known.measured_seeds()})) if known else seeds,
        command,
        experiment.against,
    )
    if known:
        record.take_over(known)
    total = len(record.seeds) * len(experiment.rows)
    for seed in seeds:
        for name, row in experiment.rows.items():
            if seed in record.runs.get(name, {}):
                continue
            done = sum(map(len, record.runs.values()))
            say(f"run {done + 1} of {total}: {name}, seed {seed}")
            job = Job(seed, out / name.replace(" ", "_") / f"seed{seed}", data, changes or {})
            record.add(name, seed, *finished(row, job))
            record.save(out / f"{experiment.name}.json")
    return record


def finished(row: Row, job: Job) -> tuple[Numbers, Machine]:
    """The numbers of a run and where it was measured: those in its folder if it was finished, else it is done now.

    Raises:
        UserError: the finished run had other settings; each difference is named.
    """
    path = job.folder / "result.json"
    settings = _plain(row.settings(job))
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        before = {**_plain(Recipe.defaults()), **kept["settings"]}
        before["recipe"] = current_name(before.get("recipe", ""))
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            pairs = "; ".join(f"{key} was {before.get(key)!r}, is {settings[key]!r}" for key in changed)
            raise UserError(f"{job.folder} holds a finished run with other settings ({pairs}); choose another --out")
        return kept["numbers"], kept["machine"]
    resumed = job.folder.exists()
    started = time.perf_counter()
    numbers = dict(row.measure(job))
    if not resumed:  # else the clock would miss what was done before
        numbers["minutes"] = round((time.perf_counter() - started) / 60, 2)
    job.folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    here = machine(computing_device().type)
    content = {"settings": settings, "machine": here, "numbers": numbers}
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return numbers, here


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as json gives them back."""
    return json.loads(json.dumps(settings, default=repr))
