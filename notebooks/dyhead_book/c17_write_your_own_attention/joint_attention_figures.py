"""Joint attention: how finders learn, and what one place reads on all levels of a small pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

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
from dyhead_lab.views.token_maps import levels_of

LINES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def learning_figure(
    steps: Sequence[int], shares: Mapping[str, Sequence[Sequence[float]]], chance: float, ylabel: str = "solved"
) -> Figure:
    """A row of an ablation is a thick line, the mean over its seeds, with a thin one for each seed.

    Args:
        steps: when the shares were measured, the same for all rows.
        shares: name -> for each seed a share in [0, 1] for each of ``steps``.
        chance: what guessing gives, drawn as a grey line.
    """
    with style():
        figure = Figure(figsize=(8.5, 3.4), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        axes.axhline(chance, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate("guessing", (steps[-1], chance), (0, -15), textcoords="offset points", ha="right", fontsize=9)
        for number, (name, seeds) in enumerate(shares.items()):
            colour, dash = LINES[number % len(LINES)], DASHES[number % len(DASHES)]
            for values in seeds:
                axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.5)
            mean = [fmean(at_step) for at_step in zip(*seeds, strict=True)]
            axes.plot(steps, mean, color=colour, linestyle=dash, marker="o", markersize=4, linewidth=2, label=name)
        axes.set(xlabel="steps of 16 images", ylabel=ylabel, ylim=(0, 1.04))
        figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure


def joint_map_figure(
    weights_N: Tensor,
    sizes: Sequence[tuple[int, int]],
    levels: Sequence[str],
    marks: Mapping[str, Sequence[tuple[int, int]]],
) -> Figure:
    """What one place reads: its weights on every level, and marked cells.

    Args:
        weights_N: the row of an attention map; sums to 1 over the N places of all levels.
        sizes: (H, W) of the levels, fine to coarse.
        levels: their names.
        marks: what is marked -> (level, cell) of each, at most three kinds: cross, ring, square.
    """
    with style():
        figure = Figure(figsize=(2.5 * len(sizes), 3.1), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(sizes), squeeze=False)[0]
        brightest = float(weights_N.max())
        for axes, name, map_HW in zip(grid, levels, levels_of(weights_N, sizes), strict=True):
            picture = axes.imshow(map_HW.numpy(force=True), cmap="cividis", vmin=0, vmax=brightest)
            axes.set(xticks=(), yticks=())
            axes.set_title(f"{name}: {float(map_HW.sum()):.0%}", fontsize=10)
        for (kind, cells), marker, colour in zip(marks.items(), "Xos", ("white", VERMILION, "white"), strict=False):
            for l, cell in cells:
                y, x = divmod(cell, sizes[l][1])
                face = colour if marker == "X" else "none"
                grid[l].scatter(x, y, 90, face, marker, edgecolors="black" if marker == "X" else colour, linewidths=1.5)
            figure_marker = {"X": "cross", "o": "ring", "s": "square"}[marker]
            grid[0].plot([], [], " ", label=f"{figure_marker}: {kind}")
        figure.legend(loc="outside lower center", ncols=len(marks), frameon=False, fontsize=9, handlelength=0)
        figure.colorbar(picture, ax=grid, shrink=0.75, label="weight")
    return figure


def photo_map_figure(
    image: Tensor,
    weights_N: Tensor,
    sizes: Sequence[tuple[int, int]],
    levels: Sequence[str],
    asked: tuple[float, float],
) -> Figure:
    """What one place of a photograph reads on every level, as multiples of even weights, on one scale.

    Args:
        image: (3, H, W) in [0, 1], as large as what the levels cover.
        weights_N: the row of an attention map; sums to 1 over the N places of all levels.
        sizes: (H, W) of the levels, fine to coarse.
        levels: names of those that are drawn, fine to coarse; further ones are left out.
        asked: (x, y) in pixels of the place that reads; marked with a cross.
    """
    H, W = image.shape[1:]
    grey = image.mean(0).mul(15).round().div(15).clamp(0, 1).numpy(force=True)
    with style():
        figure = Figure(figsize=(2.1 * len(levels) + 0.9, 2.1 * H / W + 0.45), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(levels), squeeze=False)[0]
        for axes, name, map_HW in zip(grid, levels, levels_of(weights_N, sizes), strict=False):
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(0, W, H, 0), interpolation="nearest")
            times = (map_HW * len(weights_N)).numpy(force=True)
            drawn = axes.imshow(
                times, cmap="inferno", norm=LogNorm(1 / 8, 32), alpha=0.65, extent=(0, W, H, 0), interpolation="nearest"
            )
            axes.plot(*asked, "X", color="white", markersize=9, markeredgecolor="black")
            axes.set(xticks=(), yticks=(), xlim=(0, W), ylim=(H, 0))
            axes.set_title(f"{name}: {float(map_HW.sum()):.0%} of the weight", fontsize=9)
        bar = figure.colorbar(drawn, ax=grid, shrink=0.9, extend="both", ticks=[1 / 8, 1, 4, 32])
        bar.ax.set_yticklabels(["1/8", "1", "4", "32"], fontsize=9)
        bar.set_label("weight / even weight", fontsize=9)
        bar.minorticks_off()
    return figure
