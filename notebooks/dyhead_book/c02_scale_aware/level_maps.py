"""Which level of a pyramid sees which object: a score for every cell of every level, on the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dyhead_lab.views.figures import BLUE, DPI, VERMILION, style


def best_levels(scores: Mapping[str, torch.Tensor], boxes: torch.Tensor) -> list[int]:
    """For each box (n, 4), xyxy in pixels: the level with the highest score in the middle half of the box.

    Args:
        scores: "P3" and so on -> (h, w), whose cells have 2^3 pixels and so on.
        boxes: in pixels of the network's input.
    """
    best = []
    for x1, y1, x2, y2 in boxes.tolist():
        highest = []
        for name, level in scores.items():
            stride = _stride(name)
            top, bottom = (int((y1 + share * (y2 - y1)) // stride) for share in (0.25, 0.75))
            left, right = (int((x1 + share * (x2 - x1)) // stride) for share in (0.25, 0.75))
            part = level[max(top, 0) : bottom + 1, max(left, 0) : right + 1]
            highest.append(float(part.max()) if part.numel() else 0.0)
        best.append(highest.index(max(highest)))
    return best


def _stride(level: str) -> int:
    """Pixels per cell: 8 for "P3"."""
    return 2 ** int(level.removeprefix("P"))


def level_scores_figure(
    image: torch.Tensor,
    scores: Mapping[str, torch.Tensor],
    boxes: torch.Tensor,
    best: Sequence[int],
    names: Sequence[str],
) -> Figure:
    """A panel for each level: its scores over the image, all on one scale, and the boxes that it sees best.

    Args:
        image: (3, H, W) in [0, 1], at the size that the network saw.
        scores: name of the level -> (h, w) in [0, 1]; it may reach over the image, where the batch was padded.
        boxes: (n, 4) xyxy in pixels.
        best: which level sees each box best, (n,), as its number among the levels.
        names: of the boxes.
    """
    height, width = image.shape[1:]
    top = max(float(level.max()) for level in scores.values())
    columns = 3
    rows = -(-(len(scores) + 1) // columns)
    with style():
        figure = Figure(figsize=(9, 2.0 * rows + 0.2), dpi=DPI, layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in panels:
            axes.imshow(image.permute(1, 2, 0).numpy(force=True), extent=(0, width, height, 0))
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())
        panels[0].set_title("all boxes", fontsize=10)
        for number, (axes, (name, level)) in enumerate(zip(panels[1:], scores.items(), strict=False)):
            reach = (0, level.shape[1] * _stride(name), level.shape[0] * _stride(name), 0)
            drawn = axes.imshow(
                level.numpy(force=True),
                extent=reach,
                cmap="magma",
                vmin=0,
                vmax=top,
                alpha=0.65,
                interpolation="nearest",
            )
            axes.set(title=f"{name}: {level.shape[0]} x {level.shape[1]} cells", xlim=(0, width), ylim=(height, 0))
            axes.title.set_fontsize(10)
            for box, mine, word in zip(boxes.tolist(), best, names, strict=True):
                for where in (panels[0], axes) if mine == number else ():
                    _draw_box(where, box, word)
        figure.colorbar(drawn, ax=panels, label="highest score of a class", shrink=0.7)
    return figure


def _draw_box(axes: Axes, box: Sequence[float], word: str) -> None:
    x1, y1, x2, y2 = box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=1.6))
    right = x1 > 0.75 * axes.get_xlim()[1]  # the word stays inside the panel
    axes.text(x2 - 3 if right else x1 + 3, y1 + 3, word, color="black", fontsize=9, va="top",
              ha="right" if right else "left",
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8})  # fmt: skip


def closing_figure(losses: Mapping[str, Sequence[float]], gates: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """The laboratory of cloudy images: the loss of each form, and what its gate does on clear and on cloudy images.

    Args:
        losses: name of the form -> loss of each step.
        gates: name of the form -> (gate on clear images, gate on cloudy ones) of each step.
    """
    with style():
        figure = Figure(figsize=(8.4, 3.6), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        for (name, values), colour in zip(losses.items(), (VERMILION, BLUE), strict=False):
            left.plot(values, color=colour, label=f"{name}, loss")
            clear, cloudy = np.asarray(gates[name]).T
            right.plot(clear, color=colour, linewidth=2, label=f"{name}, clear")
            right.plot(cloudy, "--", color=colour, label=f"{name}, cloudy")
        left.set(xlabel="step", ylabel="loss", ylim=(0, None))
        right.set(xlabel="step", ylabel="gate of the coarser branch", ylim=(-0.04, 1.04))
        handles = [pair for axes in (left, right) for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
        figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=3, frameon=False)
    return figure
