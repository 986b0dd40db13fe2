"""One table per device: every problem, pass and contender, with its ratio to the peer and to the floor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import native
from . import measure
from .peers import has_deformops
from .problems import BF16, FULL, QUICK, Contender, Problem

Row = dict[str, str | float]
Table = dict[str, Any]

#: What the project ships.
RESULTS = Path(__file__).parents[1] / "results" / "bench_ops.json"

L2 = {"read": "l2_read_bytes_per_second", "atomics of 16 bytes": "l2_add_bytes_per_second"}

#: What a table is kept of.
DEVICES = ("cpu", "cuda")

#: What stands for a device that this file has no measurements of.
NOT_MEASURED = "not measured"


def measured(device: str, quick: bool, say: Callable[[str], None] = print) -> Table:
    """Measure every problem on ``device`` ("cpu" or "cuda") and print rows as they come.

    Args:
        quick: small problems and few rounds: shows that everything runs, not how fast it is.
    Returns:
        ``machine``, the measured ``ceilings`` (see :func:`ceilings_of`), ``rows``, and ``absent``: who could not
        take part in what, and why.
    """
    ceilings = ceilings_of(device, 32 if quick else 256, 512 if quick else 2048)
    table: Table = {"machine": measure.machine(device), "quick": quick, "ceilings": ceilings, "rows": [], "absent": []}
    say(heading(table))
    if has_deformops():
        table["machine"]["deformops"] = version("deformops")
    elif device == "cuda":
        table["absent"].append("deformops: not installed (PyPI, for Python 3.12)")
    for make in QUICK if quick else FULL[device]:
        rows = rows_of(make(device), ceilings, 3 if quick else 15, device, table["absent"].append)
        table["rows"] += rows
        for row in rows:
            say(line(row))
    for reason in table["absent"]:
        say(f"absent: {reason}")
    return table


def ceilings_of(device: str, megabytes: int, size: int) -> dict[str, float]:
    """Bytes per second of a copy, and operations per second of a matrix product by the type of its factors."""
    rates = {}
    with measure.tf32(False):
        rates["float32"] = measure.matrix_rate(device, size)
        rates["bfloat16"] = measure.matrix_rate(device, size, BF16)
    of_cache = {}
    if device == "cuda":
        of_cache = measure.l2_rates() if native.available("cuda") else {}
        with measure.tf32(True):
            rates["tf32"] = measure.matrix_rate(device, size)
    of_matrices = {f"{factors}_operations_per_second": rate for factors, rate in rates.items()}
    return {"copy_bytes_per_second": measure.copy_bandwidth(device, megabytes), **of_cache, **of_matrices}


def rows_of(
    problem: Problem, ceilings: dict[str, float], rounds: int, device: str, absent: Callable[[str], None] = print
) -> list[Row]:
    """Forward, then forward and backward, of every contender. ``absent`` is told who cannot take part, and why.

    The floor is the longer of two times: the bytes that must move at copy bandwidth, and the operations of the
    matrix product at the rate of its factors. A backward pass holds two more such products.
    """
    rows: list[Row] = []
    output = next(iter(problem.contenders.values())).function(*problem.floats)
    passes = {"forward": measure.forward, "forward + backward": measure.forward_and_backward}
    for backward, (name, run) in enumerate(passes.items()):
        runs = _able(problem, name, run, absent)
        seconds = measure.medians(runs, rounds, device)
        moved = problem.bytes_moved(output, bool(backward))
        operations = problem.operations * (1 + 2 * backward)
        floors = {
            who: max(
                moved / ceilings["copy_bytes_per_second"],
                operations / ceilings[f"{problem.factors_of(contender)}_operations_per_second"],
            )
            for who, contender in problem.contenders.items()
        }
        peer = [*runs][min(1, len(runs) - 1)]
        rows += [
            {
                "problem": problem.name,
                "pass": name,
                "who": who,
                "median_ms": median * 1e3,
                "peer": peer,
                "times_faster_than_peer": seconds[peer] / median,
                "gigabytes_per_second": moved / median / 1e9,
                "fraction_of_floor": floors[who] / median,
            }
            for who, median in seconds.items()
        ]
    return rows


def _able(
    problem: Problem, name: str, make: Callable[..., Callable[[], object]], absent: Callable[[str], None]
) -> dict[str, Callable[[], object]]:
    """The runs of the contenders that can do the problem: others may lack a kernel, or memory."""
    runs = {}
    for who, contender in problem.contenders.items():
        try:
            run = _run_of(problem, contender, make)
            run()
            runs[who] = run
        except Exception as error:  # a peer's code may raise anything
            if not runs:  # it is ours
                raise
            reason = str(error).strip().splitlines() or [""]
            absent(f"{who}, {problem.name}, {name}: {type(error).__name__}: {reason[0]}")
    return runs


def _run_of(problem: Problem, contender: Contender, make: Callable[..., Callable[[], object]]) -> Callable[[], object]:
    """One timed run of a contender, with its tensors, its kernels and its precision."""
    run = make(contender.function, problem.floats_of(contender))

    def as_the_contender_wants() -> object:
        with native.use_kernels(contender.kernels), measure.tf32(contender.tf32):
            return run()

    return measure.in_graph(as_the_contender_wants) if contender.graph else as_the_contender_wants


def heading(table: Table) -> str:
    """The machine, the ceilings and the column names."""
    ceilings, machine = table["ceilings"], table["machine"]
    l2 = [f"{name} {ceilings[key] / 1e9:.0f} GB/s" for name, key in L2.items() if key in ceilings]
    return "\n".join(
        (
            ", ".join(f"{key} {value}" for key, value in machine.items()),
            *(["second-level cache: " + ", ".join(l2)] if l2 else []),
            f"copy {ceilings['copy_bytes_per_second'] / 1e9:.0f} GB/s (read and write), "
            f"matrix product {ceilings['float32_operations_per_second'] / 1e9:.0f} GFLOP/s (float32), "
            f"{ceilings['bfloat16_operations_per_second'] / 1e9:.0f} (bfloat16)",
            f"{'problem':45} {'pass':18} {'who':26} {'ms':>9} {'x peer':>7} {'GB/s':>7} {'of floor':>8}",
        )
    )


def line(row: Row) -> str:
    return (
        f"{row['problem']:45} {row['pass']:18} {row['who']:26} {row['median_ms']:9.3f} "
        f"{row['times_faster_than_peer']:6.2f}x {row['gigabytes_per_second']:7.2f} {row['fraction_of_floor']:8.1%}"
    )


def recorded(device: str, file: Path = RESULTS) -> Table | None:
    """The table of ``device`` that the project ships, with its machine and date; None where nothing was measured."""
    table = json.loads(file.read_text(encoding="utf-8")).get(device, NOT_MEASURED)
    return None if table == NOT_MEASURED else table


def store(tables: dict[str, Table], file: Path, devices: Sequence[str] = DEVICES) -> None:
    """Write tables by device. What the file already holds about another device stays; else it is not measured."""
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    merged = {device: tables.get(device, before.get(device, NOT_MEASURED)) for device in devices}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
