"""What a Dynamic Head costs: depth against multiply-adds, and the parts of whole detectors with and without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dyhead_lab.evaluation.dyhead_cost import PartCost
from dyhead_lab.views.figures import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    ink_on,
    style,
)

GIGA = 1e9
PART_COLOURS = {"backbone": SKY, "FPN": GREEN, "Dynamic Head": ORANGE, "head": PURPLE}


def depth_figure(blocks: Mapping[int, int], towers: int, published: Mapping[int, float]) -> Figure:
    """Cost of a Dynamic Head by its number of blocks, compared with the towers that it replaces.

    Args:
        blocks: number of blocks -> multiply-adds.
        towers: multiply-adds of the towers.
        published: number of blocks -> published difference from the towers, in units of 10^9.
    """
    depths = list(blocks)
    more = [(cost - towers) / GIGA for cost in blocks.values()]
    with style():
        figure = Figure(figsize=(6.5, 3.8), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=INK, linewidth=1)
        axes.annotate("the towers", (depths[0], 0), xytext=(2, 4), textcoords="offset points", fontsize=9)
        axes.plot(depths, more, "o-", color=BLUE, label="counted here")
        axes.plot(
            *zip(*published.items(), strict=True), "D", color=VERMILION, label="published", markersize=9, zorder=0
        )
        for depth, value in zip(depths, more, strict=True):
            above: Any = {"xytext": (0, 7), "textcoords": "offset points", "ha": "right", "fontsize": 9}
            axes.annotate(f"{value:+.1f}", (depth, value), **above)
        axes.margins(x=0.1, y=0.1)
        axes.set(xlabel="blocks", ylabel="GMAC more than the towers", xticks=depths)
        axes.legend(frameon=False, labelcolor=INK, loc="lower right")
    return figure


def parts_figure(detectors: Mapping[str, Sequence[Sequence[PartCost]]], labels: Sequence[str]) -> Figure:
    """Multiply-adds of whole detectors as stacked bars, a group per detector.

    Args:
        detectors: name -> costs of its variants, each as ``part_costs`` gives them.
        labels: of the variants, such as "without" and "with".

    Raises:
        ValueError: a detector has another number of variants than there are labels.
    """
    with style():
        figure = Figure(figsize=(9, 0.32 * len(detectors) * (len(labels) + 1) + 0.8), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        ticks: dict[float, str] = {}
        for place, (name, variants) in enumerate(detectors.items()):
            if len(variants) != len(labels):
                raise ValueError(f"detectors: {name} has {len(variants)} variants, expected {len(labels)}")
            for row, (label, parts) in enumerate(zip(labels, variants, strict=True)):
                y = place * (len(labels) + 1) + row
                ticks[y] = f"{name}, {label}"
                left = 0.0
                for part in parts:
                    width, colour = part.macs / GIGA, PART_COLOURS[part.name]
                    axes.barh(y, width, left=left, color=colour, label=part.name if not (place or row) else None)
                    if width > 25:
                        middle = left + width / 2
                        axes.text(middle, y, f"{width:.0f}", ha="center", va="center", color=ink_on(colour), fontsize=9)
                    left += width
                axes.text(left, y, f" {left:.0f}", va="center", fontsize=9)
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.set_xlabel("GMAC")
        axes.invert_yaxis()
        figure.legend(loc="outside upper center", ncols=4, frameon=False, labelcolor=INK)
    return figure
