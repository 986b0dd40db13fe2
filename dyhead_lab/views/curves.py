"""Curves of a training, from the lines of its log: losses, learning rate, AP, and what attention has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..evaluation.coco_metric import METRICS, UNDEFINED
from .figures import BLUE, DPI, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW, style

Entry = Mapping[str, Any]

#: Colours of lines, most important first. Yellow comes last: it is faint on white.
LINES = (BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, YELLOW)
MOST_LINES = len(LINES)

LOSS, RATE, AP, RATIO, OVERLAP = "Loss", "Learning rate", "AP on validation", "Scale ratio", "DAM overlap"
PANELS = (LOSS, RATE, AP, RATIO, OVERLAP)
SHOWN_METRICS = ("AP", "AP50", "AP75")
NOT_DRAWN = {"iteration", "images_per_second", "waiting", *METRICS} - set(SHOWN_METRICS)


class Curve(NamedTuple):
    """One number over the iterations."""

    iterations: list[int]
    values: list[float]

    def thinned(self, most: int) -> Curve:
        """At most about ``most`` points, evenly chosen; the last one always stays."""
        step = max(1, -(-len(self.values) // most))
        return Curve(self.iterations[::-1][::step][::-1], self.values[::-1][::step][::-1])


def curves(entries: Sequence[Entry]) -> dict[str, dict[str, Curve]]:
    """The curves of a log by panel (see :data:`PANELS`) and name. Panels without numbers are left out.

    Of many parts of a loss, as a detector with losses after every layer has them, the largest are kept.
    """
    panels: dict[str, dict[str, Curve]] = {panel: {} for panel in PANELS}
    for entry in entries:
        for name, value in entry.items():
            if name in NOT_DRAWN or value == UNDEFINED:
                continue
            panel, label = _place(name)
            curve = panels[panel].setdefault(label, Curve([], []))
            curve.iterations.append(entry["iteration"])
            curve.values.append(value)
    panels[LOSS] = _largest(panels[LOSS], MOST_LINES)
    return {panel: lines for panel, lines in panels.items() if lines}


def _place(name: str) -> tuple[str, str]:
    """Panel and label of a number of the log. What is nothing else is a part of the loss."""
    if name == "lr":
        return RATE, "lr"
    if name in SHOWN_METRICS:
        return AP, name
    if name == "dam_overlap":
        return OVERLAP, "share of attention on kept tokens"
    if name.startswith("scale_ratio/"):
        _, block, level = name.split("/")
        return RATIO, f"block {block}, level {level}"
    return LOSS, "sum" if name == "loss" else name


def _largest(lines: dict[str, Curve], most: int) -> dict[str, Curve]:
    """The ``most`` curves with the largest last values, in their old order."""
    chosen = sorted(lines, key=lambda name: -lines[name].values[-1])[:most]
    return {name: curve for name, curve in lines.items() if name in chosen}


def run_figure(entries: Sequence[Entry]) -> Figure:
    """All curves of one run, a panel for each kind.

    Raises:
        ValueError: the log holds nothing to draw.
    """
    panels = curves(entries)
    return _figure(panels)


def comparison_figure(runs: Mapping[str, Sequence[Entry]]) -> Figure:
    """Runs side by side: sum of the losses, AP, AP50 and learning rate, a line for each run.

    Args:
        runs: name -> lines of its log.

    Raises:
        ValueError: the logs hold nothing to draw.
    """
    panels: dict[str, dict[str, Curve]] = {"Loss": {}, "AP": {}, "AP50": {}, "Learning rate": {}}
    sources = {"Loss": (LOSS, "sum"), "AP": (AP, "AP"), "AP50": (AP, "AP50"), "Learning rate": (RATE, "lr")}
    for run, entries in runs.items():
        found = curves(entries)
        for title, (panel, label) in sources.items():
            if label in found.get(panel, {}):
                panels[title][run] = found[panel][label]
    return _figure({title: lines for title, lines in panels.items() if lines})


def _figure(panels: Mapping[str, Mapping[str, Curve]]) -> Figure:
    if not panels:
        raise ValueError("entries: expected a log with losses or AP, got nothing to draw")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with style():
        figure = Figure(figsize=(4.4 * columns, 2.5 * rows), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in grid[len(panels) :]:
            axes.remove()
        for axes, (title, lines) in zip(grid, panels.items(), strict=False):
            _draw(axes, title, lines)
    return figure


def _draw(axes: Axes, title: str, lines: Mapping[str, Curve]) -> None:
    for place, (name, curve) in enumerate(lines.items()):
        mark = "o-" if len(curve.values) < 12 else "-"
        colour = LINES[place % len(LINES)]
        axes.plot(curve.iterations, curve.values, mark, label=name, color=colour, linewidth=1.4, markersize=3)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("iteration", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y", alpha=0.25)
    if len(lines) > 1:
        legend = axes.legend(fontsize=9, frameon=False, labelcolor="linecolor", ncols=1 + (len(lines) > 4))
        for text in legend.get_texts():
            text.set_parse_math(False)  # a folder may be called $a_$
