"""The race of kernels: times beside the floor that no kernel can pass, and the roofline of a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dyhead_lab.views.figures import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    style,
)

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
MARKERS = "osD^v"


def race_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Milliseconds of every contender on a logarithmic axis, a group per problem; grey ticks are the floors.

    Args:
        rows: of one pass, as :func:`dyhead_lab.ops.bench.table.rows_of` gives them.
    """
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    entrants = [row["who"].removesuffix(" fp32") for row in rows]  # a peer without halves is the same peer
    names = list(dict.fromkeys(entrants))
    with style():
        figure = Figure(figsize=(8, 0.55 * len(problems) + 1.2), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        for number, who in enumerate(names):
            mine = [row for row, entrant in zip(rows, entrants, strict=True) if entrant == who]
            x, y = [row["median_ms"] for row in mine], [problems.index(row["problem"]) for row in mine]
            marker, colour = MARKERS[number % len(MARKERS)], COLOURS[number % len(COLOURS)]
            axes.plot(x, y, marker, color=colour, label=who, markersize=7)
        floors = [next(row for row in rows if row["problem"] == problem) for problem in problems]  # of ours
        x = [row["median_ms"] * row["fraction_of_floor"] for row in floors]
        axes.plot(x, range(len(problems)), "|", color=INK, markersize=16, markeredgewidth=2, label="floor")
        axes.set_xscale("log")
        axes.set_yticks(range(len(problems)), problems)
        axes.set(xlabel="milliseconds", ylim=(len(problems) - 0.5, -0.5))
        axes.grid(axis="x", color=INK, alpha=0.3)
        figure.legend(loc="outside upper center", ncols=len(names) + 1, frameon=False, fontsize=9)
    return figure


def roofline_figure(bandwidth: float, rate: float, points: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Operations per second over operations per byte: what the machine allows, and what contenders reach.

    Args:
        bandwidth: bytes per second.
        rate: operations per second.
        points: contender -> (problem -> (operations per byte, operations per second)).

    Source: Williams, Waterman, Patterson, "Roofline", 2009.
    """
    with style():
        figure = Figure(figsize=(7, 3.6), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        intensity = np.geomspace(0.5, 2000, 200)
        axes.loglog(intensity, np.minimum(intensity * bandwidth, rate) / 1e9, color=INK, linewidth=2, label="roof")
        for number, (who, of_problem) in enumerate(points.items()):
            x, y = np.array(list(of_problem.values())).T
            marker, colour = MARKERS[number % len(MARKERS)], COLOURS[number % len(COLOURS)]
            axes.plot(x, y / 1e9, marker, color=colour, label=who, markersize=6, linestyle="none")
        axes.axvline(rate / bandwidth, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate("memory decides", (rate / bandwidth, 1), (-6, 0), textcoords="offset points", ha="right")
        axes.annotate("arithmetic decides", (rate / bandwidth, 1), (6, 0), textcoords="offset points")
        axes.set(xlabel="operations per byte", ylabel="GFLOP/s", ylim=(0.7, 2 * rate / 1e9))
        figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure


def shares_figure(seconds: Mapping[str, float]) -> Figure:
    """Milliseconds of the steps of an operator as one bar, with their shares."""
    whole = sum(seconds.values())
    with style():
        figure = Figure(figsize=(8, 1.5), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        start = 0.0
        for colour, (name, time) in zip(COLOURS, seconds.items(), strict=False):
            axes.barh([0], [1e3 * time], left=[1e3 * start], color=colour, label=f"{name}, {time / whole:.0%}")
            start += time
        axes.set(yticks=(), xlabel="milliseconds")
        figure.legend(loc="outside upper center", ncols=len(seconds), frameon=False, fontsize=9)
    return figure
