"""What each hand-written part of the CPU path buys: the operators with all parts, and without one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..cpu import parts
from . import measure
from .problems import Makers, Problem, attention, convolution
from .table import Row, Table

WHOLE = "all parts"

#: The sizes of the book's chapters and tiny models, then those of COCO.
FULL: Makers = [
    lambda device: convolution("deform_conv2d book 1x64x20x20", 1, 64, 20, 20, device),
    lambda device: convolution("deform_conv2d book 16x64x20x20", 16, 64, 20, 20, device),
    lambda device: _tiny("ms_deform_attn book encoder 160x160", 1, None),
    lambda device: _tiny("ms_deform_attn book encoder 16 of 160x160", 16, None),
    lambda device: _tiny("ms_deform_attn book decoder 50 of 160x160", 1, 50),
    lambda device: convolution("deform_conv2d COCO P3 1x256x100x168", 1, 256, 100, 168, device),
    lambda device: convolution("deform_conv2d COCO P5 1x256x25x42", 1, 256, 25, 42, device),
    lambda device: attention("ms_deform_attn COCO encoder 800x1333", 1, (800, 1333), None, device),
    lambda device: attention("ms_deform_attn COCO decoder 300 of 800x1333", 1, (800, 1333), 300, device),
]
QUICK: Makers = [
    lambda device: convolution("deform_conv2d 1x64x20x20", 1, 64, 20, 20, device),
    lambda device: _tiny("ms_deform_attn encoder 160x160", 1, None),
]


def _tiny(name: str, B: int, Q: int | None) -> Problem:
    """An attention of ``deformable_detr_tiny`` on Shapes."""
    return attention(name, B, (160, 160), Q, "cpu", heads=4, channels=16, strides=(8, 16, 32))


def measured(quick: bool, say: Callable[[str], None] = print) -> Table:
    """Measure every problem, forward and forward + backward, and print rows as they come.

    Args:
        quick: small problems and few rounds: shows that everything runs, not how fast it is.
    Returns:
        ``machine``, ``parts`` (what stands in for each), and ``rows``: one for every problem, pass and part left out.
    """
    table: Table = {"machine": measure.machine("cpu"), "quick": quick, "parts": parts.PARTS, "rows": []}
    say(", ".join(f"{key} {value}" for key, value in table["machine"].items()))
    say(f"{'problem':45} {'pass':18} {'without':12} {'instead':>9} {'ms':>9} {'buys':>6}")
    for make in QUICK if quick else FULL:
        rows = rows_of(make("cpu"), 3 if quick else 15)
        table["rows"] += rows
        for row in rows:
            say(line(row))
    return table


def rows_of(problem: Problem, rounds: int) -> list[Row]:
    """Both passes of a problem, without each part: how many times faster the whole is tells what the part buys."""
    function = next(iter(problem.contenders.values())).function
    rows: list[Row] = []
    for name, make in {"forward": measure.forward, "forward + backward": measure.forward_and_backward}.items():
        run = make(function, problem.floats)
        runs = {WHOLE: run} | {part: _without(part, run) for part in parts.PARTS}
        seconds = measure.medians(runs, rounds, "cpu")
        rows += [
            {
                "problem": problem.name,
                "pass": name,
                "without": part,
                "milliseconds": seconds[part] * 1e3,
                "whole_milliseconds": seconds[WHOLE] * 1e3,
                "times_faster_with_it": seconds[part] / seconds[WHOLE],
            }
            for part in parts.PARTS
        ]
    return rows


def _without(part: str, run: Callable[[], object]) -> Callable[[], object]:
    def without() -> Any:
        with parts.without(part):
            return run()

    return without


def line(row: Row) -> str:
    return (
        f"{row['problem']:45} {row['pass']:18} {row['without']:12} {row['milliseconds']:9.3f} "
        f"{row['whole_milliseconds']:9.3f} {row['times_faster_with_it']:5.2f}x"
    )
