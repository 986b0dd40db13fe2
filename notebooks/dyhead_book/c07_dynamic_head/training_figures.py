"""What training shows: losses of several heads, what each attention adds over all pairs of rows, AP against depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from dyhead_lab.experiments.record import Record
from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, VERMILION, style

COLOURS = (INK, BLUE, VERMILION, GREEN, PURPLE)
DASHES = ("--", "-.", "-", ":", "-")
MARKERS = "os^"


def losses_figure(losses: Mapping[str, Sequence[Sequence[float]]], window: int = 10) -> Figure:
    """The loss of several heads over the steps: a thin line a seed, a thick one for their mean.

    Args:
        losses: head -> losses of each seed, step by step.
        window: steps that are averaged into a point; a single batch says little.
    """
    with style():
        figure = Figure(figsize=(7.5, 3.8), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for number, (name, seeds) in enumerate(losses.items()):
            colour = COLOURS[number % len(COLOURS)]
            smooth = [_running_mean(one, window) for one in seeds]
            steps = np.arange(len(smooth[0])) + min(window, len(seeds[0]))
            for one in smooth:
                axes.plot(steps, one, color=colour, linewidth=0.8, alpha=0.5)
            axes.plot(
                steps,
                np.mean(smooth, 0),
                color=colour,
                linewidth=2.2,
                linestyle=DASHES[number % len(DASHES)],
                label=name,
            )
        axes.set(xlabel="steps of 8 pictures", ylabel=f"loss, mean of {window} steps")
        axes.legend(frameon=False, labelcolor=INK, fontsize=10)
    return figure


def _running_mean(values: Sequence[float], window: int) -> np.ndarray:
    window = min(window, len(values))
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def effects_figure(differences: Mapping[str, Sequence[float]], seeds: int) -> Figure:
    """Every paired difference of each attention as a dot, and their mean.

    Args:
        differences: name of the attention -> AP with it minus AP without it: pair of rows by pair, seed by seed.
        seeds: how many seeds a pair has; each has a marker of its own.
    """
    with style():
        figure = Figure(figsize=(7.5, 0.8 * len(differences) + 1.1), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, linewidth=1)
        for row, (_, values) in enumerate(differences.items()):
            for seed in range(seeds):
                ours = list(values)[seed::seeds]
                axes.plot(
                    ours,
                    [row + 0.14 * (seed - (seeds - 1) / 2)] * len(ours),
                    MARKERS[seed % len(MARKERS)],
                    color=BLUE,
                    alpha=0.7,
                    label=f"seed {seed}" if row == 0 else None,
                )
            mean = fmean(values)
            axes.plot(mean, row, "D", color=ORANGE, markeredgecolor=INK, markersize=9, label=None if row else "mean")
            axes.annotate(f"{mean:+.3f}", (mean, row - 0.3), ha="center", fontsize=10)
        axes.set_yticks(range(len(differences)), list(differences))
        axes.set(ylim=(len(differences) - 0.5, -0.6), xlabel="AP with it minus AP without it, all else equal")
        axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="upper right")
    return figure


def depth_ap_figure(record: Record, macs: Mapping[str, float]) -> Figure:
    """AP of recorded rows against what their heads cost.

    Args:
        record: of the experiment; a row without a run is left out.
        macs: row -> multiply-adds of its head for one picture, in units of 10^6.
    """
    with style():
        figure = Figure(figsize=(7, 3.6), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        means: dict[float, float] = {}
        for row, cost in macs.items():
            runs = [numbers["AP"] for numbers in record.runs.get(row, {}).values()]
            if not runs:
                continue
            means[cost] = fmean(runs)
            axes.plot([cost] * len(runs), runs, "o", color=BLUE, alpha=0.7)
            axes.annotate(row, (cost, max(runs)), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
        axes.plot(list(means), list(means.values()), color=ORANGE, linewidth=2, zorder=0)
        axes.margins(x=0.1, y=0.15)
        axes.set(xlabel="million multiply-adds of the head for a picture", ylabel="AP (a dot: one seed)")
    return figure
