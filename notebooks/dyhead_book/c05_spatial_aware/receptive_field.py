"""The stacked receptive field of a Dynamic Head: all points of the pyramid that one cell reads, through all blocks.

A block lets a cell read nine taps on its own level and nine on each neighbour. The block below lets each of these read
again, and so on. The field lists the points at the bottom, with the product of all masks and gates on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dyhead_lab.trace import Trace
from dyhead_lab.views.figures import BLUE, DPI, GREEN, ORANGE, style

TAPS_Y, TAPS_X = (grid.ravel() for grid in np.mgrid[-1:2, -1:2])
HEAVIEST = 2000  # points that are followed further; a block makes 27 of each
COLOURS = {-1: BLUE, 0: GREEN, 1: ORANGE}  # levels below the cell's own, its own, levels above


class LevelTaps(NamedTuple):
    """What one block did on one level for one image."""

    offset: np.ndarray  #: (18, H, W), (dy, dx) per tap, in cells
    mask: np.ndarray  #: (9, H, W)
    gates: np.ndarray  #: (branches,), fine to coarse


class Field(NamedTuple):
    """Points that a cell reads: level (n,), y and x in cells of that level (n,), weight (n,)."""

    level: np.ndarray
    y: np.ndarray
    x: np.ndarray
    weight: np.ndarray


def taps_of(trace: Trace, image: int = 0) -> list[list[LevelTaps]]:
    """``[block][level]``: offsets, masks and gates of one image in one traced pass of a released Dynamic Head.

    Raises:
        ValueError: offsets, masks or gates are missing.
    """
    columns = [_calls(trace, name, image) for name in ("offsets", "masks", "scale_weights")]
    if not all(columns) or len({len(column) for column in columns}) > 1:
        raise ValueError("trace: expected offsets, masks and scale_weights of a Dynamic Head with all attentions on")
    return [[LevelTaps(*level) for level in zip(*block, strict=True)] for block in zip(*columns, strict=True)]


def _calls(trace: Trace, name: str, image: int) -> list[list[np.ndarray]]:
    calls: dict[str, list[np.ndarray]] = {}
    for path, tensor in trace.find(name):
        calls.setdefault(path, []).append(tensor[image].numpy(force=True))
    return list(calls.values())


def stacked_field(blocks: Sequence[Sequence[LevelTaps]], level: int, cell: tuple[int, int]) -> Field:
    """Follow one cell of the last block's output down to the pyramid below the first block.

    A point between cells takes the offsets of the nearest cell. Only the heaviest points are followed further. Points
    outside a level read zero and are left out.

    Args:
        blocks: of :func:`taps_of`, first block first; ``offset_fit`` must have been "resize" or "upsample".
        level: index, finest first.
        cell: (row, column).
    """
    start = Field(*(np.array([float(n)]) for n in (level, *cell, 1)))
    field = start._replace(level=start.level.astype(int))
    for block in reversed(blocks):
        heaviest = np.argsort(-field.weight)[:HEAVIEST]
        points = zip(*(column[heaviest] for column in field), strict=True)
        read = [part for point in points for part in _read(block, *point)]
        field = Field(*(np.concatenate(columns) for columns in zip(*read, strict=True)))
    return field


def _read(block: Sequence[LevelTaps], level: int, y: float, x: float, weight: float) -> list[Field]:
    """What one point of a block's output reads on each level that meets there."""
    taps = block[level]
    H, W = taps.mask.shape[1:]
    row, column = (min(max(round(p), 0), size - 1) for p, size in ((y, H), (x, W)))
    dy, dx = taps.offset[:, row, column].reshape(9, 2).T
    share = weight * taps.mask[:, row, column] / len(taps.gates)
    neighbours = [l for l in (level - 1, level, level + 1) if 0 <= l < len(block)]
    fields = []
    for gate, l in zip(taps.gates, neighbours, strict=True):
        h, w = block[l].mask.shape[1:]
        if l < level:  # a convolution of stride 2
            at_y, at_x, longer = 2 * y, 2 * x, 1.0
        elif l == level:
            at_y, at_x, longer = y, x, 1.0
        else:  # resized corner on corner; offsets are halved, for cells are twice as wide
            at_y, at_x, longer = y * (h - 1) / max(H - 1, 1), x * (w - 1) / max(W - 1, 1), 0.5
        tap_y, tap_x = at_y + TAPS_Y + longer * dy, at_x + TAPS_X + longer * dx
        inside = (tap_y > -1) & (tap_y < h) & (tap_x > -1) & (tap_x < w)
        fields.append(Field(np.full(inside.sum(), l), tap_y[inside], tap_x[inside], gate * share[inside]))
    return fields


def in_pixels(field: Field, strides: Sequence[int]) -> np.ndarray:
    """The points of a field as (n, 2), (y, x) in pixels of the network's input."""
    stride = np.asarray(strides)[field.level]
    return np.stack([(field.y + 0.5) * stride, (field.x + 0.5) * stride], 1)


def radius(field: Field, strides: Sequence[int]) -> float:
    """Weighted root mean square distance of a field's points from their weighted centre, in pixels."""
    points, weight = in_pixels(field, strides), field.weight / field.weight.sum()
    return float(np.sqrt((weight * ((points - weight @ points) ** 2).sum(1)).sum()))


def receptive_field_figure(
    image: torch.Tensor, fields: Sequence[Field], levels: Sequence[int], boxes: torch.Tensor, strides: Sequence[int]
) -> Figure:
    """Fields on the image, a panel each: a disc per point, its area the weight.

    Blue discs lie on finer levels than the cell, green ones on its own, orange ones on coarser levels.

    Args:
        image: (3, H, W) in [0, 1], at the size that the network saw.
        fields: of :func:`stacked_field`.
        levels: level of the cell that each field belongs to.
        boxes: (n, 4) xyxy in pixels, one for each panel.
        strides: pixels per cell of each level.
    """
    height, width = image.shape[1:]
    with style():
        figure = Figure(figsize=(3 * len(fields), 3.2), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(fields), squeeze=False)[0]
        for axes, field, level, box in zip(panels, fields, levels, boxes.tolist(), strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, width, height, 0), alpha=0.8)
            y, x = in_pixels(field, strides).T
            area = 900 * field.weight / field.weight.sum()
            colours = [COLOURS[int(np.sign(l - level))] for l in field.level]
            axes.scatter(x, y, s=area, c=colours, edgecolors="black", linewidths=0.5)
            x1, y1, x2, y2 = box
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=1.5))
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())
            longest = max(x2 - x1, y2 - y1)
            axes.set_title(f"object {longest:.0f} px, field {radius(field, strides):.0f} px", fontsize=10)
    return figure


def radii_figure(longest: np.ndarray, radii: np.ndarray, assigned: np.ndarray, levels: Sequence[str]) -> Figure:
    """Field radius against object size, a colour and a marker per level.

    Args:
        longest: (n,) longest side of each object, in pixels.
        radii: (n, L) radius of the field in its middle, on each level.
        assigned: (n,) level on which the detector looks for it: this dot is filled.
        levels: names of the L levels, finest first.
    """
    with style():
        figure = Figure(figsize=(6.5, 3.6), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for l, (name, colour, marker) in enumerate(zip(levels, COLOURS.values(), "os^", strict=False)):
            own = assigned == l
            axes.scatter(longest[~own], radii[~own, l], s=14, marker=marker, facecolors="none", edgecolors=colour)
            axes.scatter(longest[own], radii[own, l], s=26, marker=marker, color=colour, label=name)
        axes.set(xlabel="longest side of the object, pixels", ylabel="radius of the field, pixels", ylim=(0, None))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False, title="filled: own")
    return figure
