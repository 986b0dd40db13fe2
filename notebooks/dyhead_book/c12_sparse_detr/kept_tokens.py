"""Figures of Sparse DETR: maps over its tokens, which of them it keeps, and what it finds with few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from dyhead_lab.views.figures import BLUE, DPI, INK, ORANGE, SKY, VERMILION, style

SMALL = 9  # points


def _outline(axes: Axes, boxes: Tensor | None, colour: str) -> None:
    for x1, y1, x2, y2 in [] if boxes is None else boxes.tolist():
        axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, linewidth=1)


def maps_figure(image: Tensor, rows: Sequence[tuple[str, Mapping[str, Tensor]]], boxes: Tensor | None = None) -> Figure:
    """Maps over tokens on their image, one row for each quantity, with one scale and one colour bar a row.

    Args:
        image: (3, H, W) in [0, 1].
        rows: name of a quantity -> (title of a picture -> (h, w) of any resolution).
        boxes: (n, 4) xyxy in pixels to outline.
    """
    H, W = image.shape[1:]
    columns = max(len(maps) for _, maps in rows)
    grey = image.mean(0).numpy(force=True)
    with style():
        figure = Figure(figsize=(2.1 * columns + 1, 2.3 * len(rows) * H / W), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for line, (quantity, maps) in zip(grid, rows, strict=True):
            highest = max(float(values.max()) for values in maps.values())
            for axes, (title, values) in zip(line, maps.items(), strict=True):
                axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(0, W, H, 0))
                shown = axes.imshow(
                    values.numpy(force=True), cmap="inferno", vmin=0, vmax=highest, alpha=0.75, extent=(0, W, H, 0)
                )
                _outline(axes, boxes, SKY)
                axes.set(xlim=(0, W), ylim=(H, 0), xticks=(), yticks=())
                axes.set_title(title, fontsize=SMALL)
            bar = figure.colorbar(shown, ax=list(line), shrink=0.9)
            bar.set_label(quantity, fontsize=SMALL)
    return figure


def kept_figure(image: Tensor, kept: Mapping[str, Sequence[Tensor]], boxes: Tensor | None = None) -> Figure:
    """Which tokens are kept, per level: the image shows through where a token is kept, and is dark elsewhere.

    Args:
        image: (3, H, W) in [0, 1].
        kept: title of a row -> per level (h, w) bool, fine to coarse; every row has the same levels.
        boxes: (n, 4) xyxy in pixels to outline.
    """
    H, W = image.shape[1:]
    levels = len(next(iter(kept.values())))
    with style():
        figure = Figure(
            figsize=(2.9 * levels, 2.9 * len(kept) * H / W + 0.25 * len(kept)), dpi=DPI, layout="constrained"
        )
        grid = figure.subplots(len(kept), levels, squeeze=False)
        for row, (title, masks) in zip(grid, kept.items(), strict=True):
            for level, (axes, mask_HW) in enumerate(zip(row, masks, strict=True)):
                big = torch.nn.functional.interpolate(mask_HW[None, None].float(), (H, W))[0, 0]
                seen = (image.cpu() * (0.18 + 0.82 * big.cpu())).clamp(0, 1)  # resized images may pass 1 by rounding
                axes.imshow(seen.permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0))
                _outline(axes, boxes, VERMILION)
                share = float(mask_HW.float().mean())
                axes.set_title(f"{title}, level {level}: {share:.0%}", fontsize=SMALL)
                axes.set(xlim=(0, W), ylim=(H, 0), xticks=(), yticks=())
    return figure


def scorer_figure(losses: Sequence[float], corr: Sequence[float], chance: float) -> Figure:
    """What the scorer loses and what its choice catches, step by step.

    Args:
        losses: the scorer's loss, one per step.
        corr: the share of the decoder's attention on kept tokens, one per step.
        chance: what Corr would be for tokens kept at random.
    """
    with style():
        figure = Figure(figsize=(6.4, 3), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.plot(range(1, len(corr) + 1), corr, color=BLUE, linewidth=1.4, label="Corr")
        axes.plot(range(1, len(losses) + 1), losses, color=ORANGE, linewidth=1.4, label="scorer's loss")
        axes.axhline(chance, color=INK, linewidth=1, linestyle="--", label="Corr by chance")
        axes.set(xlabel="step of training", ylabel="Corr; loss", ylim=(0, 1))
        axes.grid(color=INK, alpha=0.25, linewidth=0.5)
        axes.legend(frameon=False, labelcolor=INK, ncols=3, loc="upper right")
    return figure


def share_ap_figure(ap: Mapping[float, float], trained_with: float, pictures: int) -> Figure:
    """AP against the share of refined tokens, on a logarithmic axis.

    Args:
        ap: rho -> AP, by growing rho.
        trained_with: the rho of the training, to mark.
        pictures: how many were measured on, for the label.
    """
    with style():
        figure = Figure(figsize=(6, 3.4), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.semilogx(list(ap), list(ap.values()), "o-", color=BLUE, markersize=6)
        axes.axvline(trained_with, color=INK, linewidth=1, linestyle="--")
        axes.annotate(
            "trained with", (trained_with, 0), (-4, 6), textcoords="offset points", ha="right", fontsize=SMALL
        )
        axes.set(xlabel="share of refined tokens, rho", ylabel=f"AP on {pictures} pictures", ylim=(0, None))
        axes.set_xticks(list(ap), [f"{rho:g}" for rho in ap])
        axes.minorticks_off()
        axes.grid(color=INK, alpha=0.25, linewidth=0.5)
    return figure
