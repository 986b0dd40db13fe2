"""A recorded experiment as a table that a notebook shows: rows, mean and spread, and the difference to the baseline."""

from __future__ import annotations

from collections.abc import Iterator

from IPython.display import Markdown

from dyhead_lab.errors import UserError
from dyhead_lab.experiments.catalogue import recorded
from dyhead_lab.experiments.record import Record


def recorded_table(name: str) -> Markdown:
    """The recorded result of an experiment, or how to measure it where nothing is recorded."""
    try:
        record = recorded(name)
    except UserError as error:
        return Markdown(str(error))
    columns = [*record.metrics, f"{record.metrics[0]} minus {'its baseline' if record.against else record.baseline}"]
    header = f"| | {' | '.join(columns)} |\n|{' --- |' * (1 + len(columns))}"
    rows = "\n".join(f"| {row} | {' | '.join(_cells(record, row))} |" for row in record.rows)
    return Markdown(f"{header}\n{rows}\n\n{' '.join(_notes(record))}")


def _cells(record: Record, row: str) -> Iterator[str]:
    for metric in record.metrics:
        spread = record.spread(row, metric)
        yield spread.text() if spread else ""
    difference = None if row == record.compared_with(row) else record.difference(row, record.metrics[0])
    if difference is None:
        yield ""
    else:
        yield difference.change() + ("" if difference.interval() else ", one seed")


def _notes(record: Record) -> Iterator[str]:
    if len(record.seeds) == 1:
        yield f"Seed {record.seeds[0]} only, so no spread."
    else:
        seeds = ", ".join(map(str, record.seeds))
        yield f"Mean ± standard deviation over seeds {seeds}; differences seed by seed, with 95 % intervals:"
        yield "one that holds 0 decides nothing."
    machines = [machine for by_seed in record.machines.values() for machine in by_seed.values()]
    where = dict.fromkeys(f"{machine['device']}, {machine['date']}" for machine in machines)
    yield f"Measured with `{record.command}` on {'; '.join(where)}."
    if missing := list(record.missing()):
        yield f"Not measured: {'; '.join(missing)}."
