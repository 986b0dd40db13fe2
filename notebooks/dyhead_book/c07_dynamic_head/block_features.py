"""Features after each attention and each block of a Dynamic Head, from a trace, and how sparse each step makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from dyhead_lab.trace import Trace
from dyhead_lab.views.features import TOP
from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, style

#: The steps of a released block in their order; the last is the block's output as well.
STEPS = ("after_spatial", "after_scale", "after_task")
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


def traced_features(trace: Trace, name: str) -> list[list[torch.Tensor]]:
    """Feature maps (B, C, H, W) of one pass as ``[block][level]``, fine to coarse.

    Args:
        trace: of a model with Dynamic Head blocks.
        name: one of the feature names of ``trace.NAMES``, such as ``after_scale`` or ``block_output``.

    Raises:
        ValueError: nothing of that name was traced.
    """
    calls: dict[str, list[torch.Tensor]] = {}
    for path, features in trace.find(name):
        calls.setdefault(path, []).append(features.float().cpu())
    if not calls:
        raise ValueError(f"trace: holds no {name}, expected a pass of a model with DyHead blocks")
    return list(calls.values())


def sparsity_figure(shares: Mapping[str, Sequence[torch.Tensor]], levels: Sequence[str]) -> Figure:
    """Share of energy in the strongest positions, over many images: a group per level, a row per step.

    Args:
        shares: name of a step or block -> shares (images,) per level, as
            :func:`~dyhead_lab.views.features.energy_share` gives them.
        levels: names of the levels, fine to coarse.
    """
    with style():
        figure = Figure(figsize=(7, 0.5 + 0.25 * (len(shares) + 1) * len(levels)), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        ticks = []
        for l, level in enumerate(levels):
            first = l * (len(shares) + 1)
            ticks.append((first + (len(shares) - 1) / 2, level))
            for row, (name, per_level) in enumerate(shares.items()):
                values, colour = per_level[l].numpy(force=True), COLOURS[row % len(COLOURS)]
                axes.plot(values, [first + row] * len(values), ".", color=colour, alpha=0.35, markersize=5)
                axes.plot(
                    values.mean(),
                    first + row,
                    "D",
                    color=colour,
                    markeredgecolor=INK,
                    label=name if l == 0 else None,
                )
        axes.axvline(TOP, color=INK, linewidth=1, linestyle=":")
        axes.annotate("equal energy everywhere", (TOP, -0.9), xytext=(3, 0), textcoords="offset points", fontsize=9)
        axes.set_yticks(*map(list, zip(*ticks, strict=True)))
        axes.set(xlim=(0, 1), ylim=(len(levels) * (len(shares) + 1) - 1, -1.4))
        axes.set_xlabel(f"share of energy in the strongest {TOP:.0%} of positions (dots: images, diamond: mean)")
        axes.legend(frameon=False, labelcolor=INK, loc="lower right", fontsize=9)
    return figure
