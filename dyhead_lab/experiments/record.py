"""The numbers of an experiment: every run of every row, and the table that says which differences mean something."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy.stats import t as student

from ..errors import UserError

FORMAT = "dyhead_lab experiment 2"

#: What one run measured: name of a number -> its value.
Numbers = Mapping[str, float]
#: Device, threads, date and versions.
Machine = Mapping[str, Any]


class Spread(NamedTuple):
    """Mean of a number over seeds and how far it is known.

    Attributes:
        mean: of the seeds.
        deviation: standard deviation, with n - 1 in its divisor; None with a single seed.
        seeds: n.
    """

    mean: float
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Where the mean over all seeds there could be lies, by Student's t; None with a single seed.

        Few seeds know little: of two the interval is 9 deviations to either side, of three 2.5, of ten 0.7.
        """
        if self.deviation is None:
            return None
        reach = student.ppf((1 + confidence) / 2, self.seeds - 1) * self.deviation / math.sqrt(self.seeds)
        return self.mean - reach, self.mean + reach

    def text(self, sign: str = "") -> str:
        """``0.421 ± 0.006``, with ``sign="+"`` also the sign of the mean; three figures behind the point below ten.

        A deviation of exactly zero is not written.
        """
        mean = f"{self.mean:{sign}.{self.figures}f}"
        # What no seed changes, such as a number of parameters, has no spread to tell.
        return f"{mean} ± {self.deviation:.{self.figures}f}" if self.deviation else mean

    def change(self) -> str:
        """``+0.050 [+0.023, +0.078]``: a difference with its interval; the mean alone of a single seed."""
        mean, *ends = (f"{number:+.{self.figures}f}" for number in (self.mean, *(self.interval() or ())))
        return f"{mean} [{', '.join(ends)}]" if ends else mean

    @property
    def figures(self) -> int:
        """How many are shown behind the point."""
        return 3 if abs(self.mean) < 10 else 1 if abs(self.mean) < 1000 else 0


@dataclass(frozen=True)
class Record:
    """What an experiment measured.

    Args:
        name, summary: of the experiment.
        rows: names of its rows, in the order of the table.
        baseline: the row that the others are compared with.
        metrics: the numbers that the table shows; the first one is compared.
        seeds: those that were asked for.
        command: what to type to measure it again.
        against: row -> the row that it is compared with, where that is not the baseline.
        runs: row -> seed -> numbers, of the runs that were measured.
        machines: row -> seed -> where that run was measured; an experiment may go on on another machine.
    """

    name: str
    summary: str
    rows: tuple[str, ...]
    baseline: str
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    command: str
    against: Mapping[str, str] = field(default_factory=dict)
    runs: dict[str, dict[int, Numbers]] = field(default_factory=dict)
    machines: dict[str, dict[int, Machine]] = field(default_factory=dict)

    def add(self, row: str, seed: int, numbers: Numbers, machine: Machine) -> None:
        """Put in what a run measured, and where."""
        self.runs.setdefault(row, {})[seed] = dict(numbers)
        self.machines.setdefault(row, {})[seed] = dict(machine)

    def take_over(self, other: Record) -> None:
        """Put in the runs of another record of the same experiment, made elsewhere.

        Raises:
            UserError: the other one has other rows or numbers, or was measured with other settings.
        """
        for what in ("name", "rows", "baseline", "metrics"):
            if getattr(other, what) != getattr(self, what):
                raise UserError(f"record: expected {what} {getattr(self, what)!r}, got {getattr(other, what)!r}")
        if _without_seeds(other.command) != _without_seeds(self.command):
            raise UserError(f"record: it was measured with {other.command!r}, this one with {self.command!r}")
        for row, by_seed in other.runs.items():
            for seed, numbers in by_seed.items():
                self.add(row, seed, numbers, other.machines[row][seed])

    def measured_seeds(self) -> set[int]:
        """Those that at least one row was measured with."""
        return {seed for by_seed in self.runs.values() for seed in by_seed}

    def spread(self, row: str, metric: str) -> Spread | None:
        """Mean and deviation of a number over the seeds of a row; None if no run has it."""
        values = [numbers[metric] for numbers in self.runs.get(row, {}).values() if metric in numbers]
        return Spread.of(values) if values else None

    def compared_with(self, row: str) -> str:
        """The row that ``row`` is compared with: itself, if it is a baseline."""
        return self.against.get(row, row if row in self.against.values() else self.baseline)

    def difference(self, row: str, metric: str, other: str | None = None) -> Spread | None:
        """Mean, deviation and interval of row minus ``other``, seed by seed; None without a seed that both have.

        Pairs share their data order and transforms, so that what a seed does to both falls out.

        Args:
            row: of the table.
            metric: name of a number.
            other: another row; None takes the one that ``row`` is compared with.
        """
        ours, theirs = self.runs.get(row, {}), self.runs.get(other or self.compared_with(row), {})
        both = [seed for seed in ours if seed in theirs and metric in ours[seed] and metric in theirs[seed]]
        return Spread.of([ours[seed][metric] - theirs[seed][metric] for seed in both]) if both else None

    def missing(self) -> Iterator[str]:
        """Runs that were asked for and not measured: ``ROW seed N``."""
        for row in self.rows:
            yield from (f"{row} seed {seed}" for seed in self.seeds if seed not in self.runs.get(row, {}))

    def table(self) -> str:
        """Mean ± deviation of every row, its difference to the baseline, and what the reader should know of them."""
        first = self.metrics[0]
        cells = [["", *self.metrics, f"{first} - {'own baseline' if self.against else self.baseline}", ""]]
        for row in self.rows:
            difference = None if row == self.compared_with(row) else self.difference(row, first)
            texts = (_text(self.spread(row, metric)) for metric in self.metrics)
            cells.append([row, *texts, difference.change() if difference else "–", _verdict(difference)])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        return "\n".join(line.rstrip() for line in [*self._heading(), "", *lines, "", *self._notes()])

    def _heading(self) -> Iterator[str]:
        yield f"{self.name}: {self.summary}"
        all_machines = self._all_machines()
        for machine in (distinct := _distinct(all_machines)):
            count = all_machines.count(machine)
            runs = "" if len(distinct) == 1 else "1 run: " if count == 1 else f"{count} runs: "
            yield runs + _words({key: machine[key] for key in _WHERE if key in machine})
            yield "  " + _words({key: value for key, value in machine.items() if key not in _WHERE})
        yield f"measured with: {self.command}"

    def _all_machines(self) -> list[Machine]:
        """One for each run, in the order of the file."""
        return [machine for by_seed in self.machines.values() for machine in by_seed.values()]

    def _notes(self) -> Iterator[str]:
        if len(self.seeds) > 1:
            seeds = ", ".join(map(str, self.seeds))
            yield f"seeds {seeds}; ±: standard deviation over seeds; differences are row minus baseline, seed by seed,"
            yield f"with their 95 % intervals; {_UNDECIDED}: the interval holds 0"
        else:
            yield f"seed {self.seeds[0]} only, so no spread; differences are row minus baseline"
        if minutes := [n["minutes"] for runs in self.runs.values() for n in runs.values() if "minutes" in n]:
            yield f"a run took {min(minutes):.1f} to {max(minutes):.1f} minutes"
        if missing := list(self.missing()):
            yield f"not measured: {'; '.join(missing)}"

    def save(self, path: Path) -> None:
        """Write as json, with a line for every run."""
        machines = _distinct(self._all_machines())
        runs = [
            {"row": row, "seed": seed, "machine": machines.index(self.machines[row][seed]), **run}
            for row, by_seed in self.runs.items()
            for seed, run in by_seed.items()
        ]
        listed = ",\n".join(f"  {json.dumps(run)}" for run in runs)
        plain = {"format": FORMAT, **{name: getattr(self, name) for name in _PLAIN}}
        plain |= {"against": self.against} if self.against else {}
        plain |= {"machines": machines}
        parts = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in plain.items()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{\n" + ",\n".join([*parts, f' "runs": [\n{listed}\n ]']) + "\n}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: the file is missing or is something else.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(f"{path}: expected a json file of format {FORMAT!r}")
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v := content[name], list) else v for name in _PLAIN}
        record = cls(**plain, against=content.get("against", {}))
        for run in content["runs"]:
            record.add(run.pop("row"), run.pop("seed"), machine=content["machines"][run.pop("machine")], numbers=run)
        return record


#: Fields that are stored as they are.
_PLAIN = ("name", "summary", "rows", "baseline", "metrics", "seeds", "command")


_UNDECIDED = "undecided"

#: The seeds in what was typed.
_SEEDS = re.compile(r" --seeds( -?\d+)+")


def _without_seeds(command: str) -> str:
    return _SEEDS.sub("", command)


#: What tells machines apart at first sight; the rest are versions.
_WHERE = ("device", "threads", "date")


def _words(machine: Machine) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items())


def _distinct(machines: Sequence[Machine]) -> list[Machine]:
    """Each machine once, in the order of first use."""
    return [machine for i, machine in enumerate(machines) if machine not in machines[:i]]


def _text(spread: Spread | None) -> str:
    return "–" if spread is None else spread.text()


def _verdict(difference: Spread | None) -> str:
    """What a difference is worth."""
    if difference is None:
        return ""
    ends = difference.interval()
    if ends is None:
        return "one seed"
    return _UNDECIDED if ends[0] <= 0 <= ends[1] else ""
