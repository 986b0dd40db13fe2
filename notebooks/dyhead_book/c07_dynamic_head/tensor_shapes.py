"""What shape the tensor has after each attention: the question that every reader of the paper asks, drawn.

The shapes come from a trace of one Dynamic Head block, not from a formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dyhead_lab.attention.paper import join_levels
from dyhead_lab.trace import Trace
from dyhead_lab.views.figures import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    style,
)

from .block_features import traced_features

LEVEL_COLOURS = (BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE)
ALL_LEVELS = INK  # colour of a map that is a sum over levels
SHEETS = 3  # drawn for the channels of a map
LARGEST = 0.24  # width of the largest map, in columns
SHEET_STEP = 0.018  # columns
COLUMN, WIDEST = 2.4, 9.3  # inches, of a column and of the figure
ROW_GAP, HEADER = 0.2, 0.34  # columns


@dataclass(frozen=True)
class Step:
    """The maps that exist after one step.

    Attributes:
        name: of the step.
        shape: of the tensor, in letters.
        maps: per row the maps that stand in it, (B, C, H, W) each. A row is a level, unless there is only one row.
    """

    name: str
    shape: str
    maps: tuple[tuple[torch.Size, ...], ...]


def released_steps(pyramid: Sequence[torch.Tensor], trace: Trace, block: int = 0) -> list[Step]:
    """The steps of one block of the released form.

    Args:
        pyramid: what went in, (B, C, H, W) each, fine to coarse.
        trace: of the head, during that pass.
        block: which block.
    """
    pyramid_shape = "L maps (B, C, H, W)"
    branches = traced_features(trace, "branches")[block]
    return [
        Step("the pyramid", pyramid_shape, _one_each(pyramid)),
        Step(
            "after spatial",
            "2 or 3 branches per level,\n(B, C, H, W) each",
            tuple(tuple(x.shape for x in level.unbind(1)) for level in branches),
        ),
        Step("after scale", pyramid_shape, _one_each(traced_features(trace, "after_scale")[block])),
        Step("after task", pyramid_shape, _one_each(traced_features(trace, "after_task")[block])),
    ]


def paper_steps(pyramid: Sequence[torch.Tensor], trace: Trace, block: int = 0) -> list[Step]:
    """The steps of one block of the paper's form, with ``levels="residual"`` or ``"collapse"``; arguments as above."""
    spatial = traced_features(trace, "after_spatial")[block]
    collapsed = len(spatial) == 1
    joined_BLSC, size = join_levels(pyramid)
    B, L, _, C = joined_BLSC.shape
    one_tensor = "one tensor (B, L, S, C)"
    after = (
        "(B, 1, S, C):\nthe level axis is gone" if collapsed else "(B, 1, S, C), added to\nevery level: (B, L, S, C)"
    )
    return [
        Step("the pyramid", "L maps (B, C, H, W)", _one_each(pyramid)),
        Step("at the median size", one_tensor, ((torch.Size((B, C, *size)),),) * L),
        Step("after scale", one_tensor, _one_each(traced_features(trace, "after_scale")[block])),
        Step("after spatial", after, _one_each(spatial)),
        Step(
            "after task",
            "(B, 1, S, C)" if collapsed else one_tensor,
            _one_each(traced_features(trace, "after_task")[block]),
        ),
    ]


def shapes_figure(steps: Sequence[Step], levels: Sequence[str]) -> Figure:
    """A column per step, a row per level. Sheets behind each other are channels; numbers are H x W.

    Args:
        steps: as :func:`released_steps` and :func:`paper_steps` give them.
        levels: names of the levels, fine to coarse.
    """
    scale = LARGEST / max(shape[-1] for step in steps for row in step.maps for shape in row)
    by_level = [[row for step in steps if len(step.maps) > l for row in [step.maps[l]]] for l in range(len(levels))]
    heights = [scale * max(shape[-2] for row in rows for shape in row) + ROW_GAP for rows in by_level]
    middles = [sum(heights[:l]) + heights[l] / 2 for l in range(len(levels))]
    with style():
        width = min(COLUMN, WIDEST / len(steps))
        figure = Figure(figsize=(width * len(steps), width * (sum(heights) + HEADER)), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        for column, step in enumerate(steps):
            axes.text(column + 0.5, -HEADER, step.name, ha="center", va="top", fontsize=11)
            axes.text(column + 0.5, -HEADER / 2, step.shape, ha="center", va="center", fontsize=9)
            if column:
                ends = (column + 0.06, -HEADER + 0.04), (column - 0.06, -HEADER + 0.04)
                axes.annotate("", *ends, arrowprops={"arrowstyle": "->", "color": INK})
            if len(step.maps) == len(levels):
                for row, maps in enumerate(step.maps):
                    colour = LEVEL_COLOURS[row % len(LEVEL_COLOURS)]
                    _draw_maps(axes, maps, column + 0.5, middles[row], scale, colour)
            else:
                _draw_maps(axes, step.maps[0], column + 0.5, sum(heights) / 2, scale, ALL_LEVELS)
        for level, middle in zip(levels, middles, strict=True):
            axes.text(0.04, middle, level, va="center", fontsize=10)
        axes.set(xlim=(0, len(steps)), ylim=(sum(heights), -HEADER - 0.04))
        axes.axis("off")
    return figure


def _draw_maps(axes: Axes, maps: Sequence[torch.Size], centre: float, middle: float, scale: float, colour: str) -> None:
    """Maps beside each other, each as a few sheets with its size below; ``scale`` is columns per cell."""
    room = LARGEST + SHEETS * SHEET_STEP
    for place, (_, _, H, W) in enumerate(maps):
        x = centre + (place - (len(maps) - 1) / 2) * (room + 0.01)
        width, height = W * scale, H * scale
        top = middle - height / 2 - SHEETS * SHEET_STEP
        for sheet in reversed(range(SHEETS)):
            corner = (x - width / 2 + sheet * SHEET_STEP, top + (SHEETS - 1 - sheet) * SHEET_STEP)
            axes.add_patch(
                Rectangle(corner, width, height, facecolor=colour, edgecolor="white", linewidth=0.7, alpha=0.9)
            )
        axes.text(x, top + height + SHEETS * SHEET_STEP + 0.01, f"{H} × {W}", ha="center", va="top", fontsize=9)


def _one_each(maps: Sequence[torch.Tensor]) -> tuple[tuple[torch.Size, ...], ...]:
    return tuple((x.shape,) for x in maps)
