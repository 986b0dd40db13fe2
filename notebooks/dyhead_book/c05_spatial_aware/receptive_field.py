"""The stacked receptive field of a Dynamic Head: all points of the pyramid that one cell reads, through all blocks.

A block lets a cell read nine taps on its own level and nine on each neighbour. The block below lets each of these read
again, and so on. The field lists the points at the bottom, with the product of all masks and gates on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from dyhead_lab.attention.spatial import EXACT_FIT
from dyhead_lab.trace import Trace
from dyhead_lab.views.figures import BLUE, DPI, GREEN, ORANGE, style

TAPS_Y, TAPS_X = (grid.ravel() for grid in np.mgrid[-1:2, -1:2])
HEAVIEST = 2000  # points that are followed further; a block makes 27 of each
MARGIN = 0.1  # of the image, that a figure shows around it
#: Ways to fit offsets under which every branch reads where the level points.
FOLLOWED = ("resize", "upsample", "centres", "aligned")
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


def stacked_field(
    blocks: Sequence[Sequence[LevelTaps]], level: int, cell: tuple[int, int], offset_fit: str = EXACT_FIT
) -> Field:
    """Follow one cell of the last block's output down to the pyramid below the first block.

    A point between cells takes the offsets of the nearest cell. Only the heaviest points are followed further. Points
    outside a level read zero and are left out.

    Args:
        blocks: of :func:`taps_of`, first block first.
        level: index, finest first.
        cell: (row, column).
        offset_fit: how the head fits its offsets to the neighbours.

    Raises:
        ValueError: with this ``offset_fit`` the points cannot be told from the offsets of the level.
    """
    if offset_fit not in FOLLOWED:
        raise ValueError(f"offset_fit: expected one of {', '.join(FOLLOWED)}, got {offset_fit!r}")
    start = Field(*(np.array([float(n)]) for n in (level, *cell, 1)))
    field = start._replace(level=start.level.astype(int))
    for block in reversed(blocks):
        heaviest = np.argsort(-field.weight)[:HEAVIEST]
        points = zip(*(column[heaviest] for column in field), strict=True)
        read = [part for point in points for part in _read(block, offset_fit, *point)]
        field = Field(*(np.concatenate(columns) for columns in zip(*read, strict=True)))
    return field


def _read(block: Sequence[LevelTaps], offset_fit: str, level: int, y: float, x: float, weight: float) -> list[Field]:
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
        (at_y, at_x), longer = _on_level(l - level, (y, x), (H, W), (h, w), offset_fit)
        tap_y, tap_x = at_y + TAPS_Y + longer * dy, at_x + TAPS_X + longer * dx
        inside = (tap_y > -1) & (tap_y < h) & (tap_x > -1) & (tap_x < w)
        fields.append(Field(np.full(inside.sum(), l), tap_y[inside], tap_x[inside], gate * share[inside]))
    return fields


def _on_level(
    up: int, point: tuple[float, float], size: tuple[int, int], other: tuple[int, int], offset_fit: str
) -> tuple[tuple[float, float], float]:
    """Where the convolution of a branch stands for a point of the level, and how long its offsets are there.

    Args:
        up: -1 for the finer neighbour, 0 for the level, 1 for the coarser neighbour.
        point: (y, x) in cells of the level, which has ``size``.
        other: size of the neighbour.
        offset_fit: as in :func:`stacked_field`.
    """
    y, x = point
    if up == 0:
        return (y, x), 1.0
    if up < 0:  # a convolution of stride 2 stands on every other cell
        return ((2 * y + 0.5, 2 * x + 0.5), 2.0) if offset_fit == "aligned" else ((2 * y, 2 * x), 1.0)
    if offset_fit == "upsample" or offset_fit == "resize":  # corner on corner
        at = [p * (n - 1) / max(N - 1, 1) for p, n, N in zip(point, other, size, strict=True)]
    else:
        at = [(p + 0.5) / 2 - 0.5 for p in point]
    return (at[0], at[1]), 0.5  # cells are twice as wide


def in_pixels(field: Field, strides: Sequence[int]) -> np.ndarray:
    """The points of a field as (n, 2), (y, x) in pixels of the network's input."""
    stride = np.asarray(strides)[field.level]
    return np.stack([(field.y + 0.5) * stride, (field.x + 0.5) * stride], 1)


def radius(field: Field, strides: Sequence[int]) -> float:
    """Weighted root mean square distance of a field's points from their weighted centre, in pixels."""
    points, weight = in_pixels(field, strides), field.weight / field.weight.sum()
    return float(np.sqrt((weight * ((points - weight @ points) ** 2).sum(1)).sum()))


def share_inside(field: Field, box: Sequence[float], strides: Sequence[int]) -> float:
    """Which share of a field's weight lies in a box, xyxy in pixels of the network's input."""
    y, x = in_pixels(field, strides).T
    x1, y1, x2, y2 = box
    inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    return float(field.weight[inside].sum() / field.weight.sum())


def receptive_field_figure(
    image: torch.Tensor, kinds: Mapping[str, Sequence[Field]], boxes: torch.Tensor, levels: Sequence[int],
    names: Sequence[str], strides: Sequence[int],
) -> Figure:  # fmt: skip
    """Fields on cuts of the image: a row per object, a column per kind of field, a disc per point.

    Blue discs lie on finer levels than the object's, green ones on its own, orange ones on coarser levels. A disc's
    area is its weight, on a scale of its own in each panel.

    Args:
        image: (3, H, W) in [0, 1], at the size that the network saw.
        kinds: what the fields of a column are -> a field of each object.
        boxes: (n, 4) xyxy in pixels.
        levels: index of each object's level.
        names: of the objects.
        strides: pixels per cell of each level.

    Raises:
        ValueError: there is no object.
    """
    if not len(boxes):
        raise ValueError("boxes: got none, expected at least one object to look at")
    height, width = image.shape[1:]
    with style():
        figure = Figure(figsize=(2.9 * len(kinds), 2.4 * len(boxes) + 0.4), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(boxes), len(kinds), squeeze=False)
        for panels, (kind, fields) in zip(grid.T, kinds.items(), strict=True):
            for axes, field, level, box in zip(panels, fields, levels, boxes.tolist(), strict=True):
                axes.imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, width, height, 0), alpha=0.8)
                _draw_field(axes, field, level, strides)
                x1, y1, x2, y2 = box
                axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=1.5))
                half = 0.8 * max(x2 - x1, y2 - y1, 6 * strides[level])
                x, y = (x1 + x2) / 2, (y1 + y2) / 2
                left, right = max(x - half, -MARGIN * width), min(x + half, (1 + MARGIN) * width)
                top, bottom = max(y - half, -MARGIN * height), min(y + half, (1 + MARGIN) * height)
                axes.set(xlim=(left, right), ylim=(bottom, top), xticks=(), yticks=())
                axes.spines[:].set_visible(False)
                axes.set_title(f"{kind}: {share_inside(field, box, strides):.0%} inside", fontsize=10)
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name, fontsize=10)
        dots = [Line2D([], [], marker="o", linestyle="", color=colour) for colour in COLOURS.values()]
        words = ["on a finer level", "on the object's level", "on a coarser level"]
        figure.legend(dots, words, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_field(axes: Axes, field: Field, level: int, strides: Sequence[int]) -> None:
    y, x = in_pixels(field, strides).T
    largest = min(70.0, 6000 / len(x))
    colours = [COLOURS[int(np.sign(l - level))] for l in field.level]
    edge = 0.5 if largest > 20 else 0.0
    axes.scatter(x, y, s=largest * field.weight / field.weight.max(), c=colours, edgecolors="black", linewidths=edge)


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
