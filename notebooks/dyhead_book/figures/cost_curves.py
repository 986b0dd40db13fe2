"""Curves of what attention costs: against the number of tokens, and against the share of tokens that is refined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from dyhead_lab.views.figures import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    style,
)

COLOURS = (ORANGE, BLUE, GREEN, PURPLE)
MARKERS = ("o", "s", "^", "D")


def growth_figure(
    tokens: Sequence[int],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    marks: Mapping[str, int] | None = None,
) -> Figure:
    """How costs grow with the number of tokens, on logarithmic axes: a power law is a straight line.

    Args:
        tokens: N, the common horizontal axis.
        panels: label of a vertical axis -> (name of a curve -> one value per number of tokens). A name keeps its
            colour and marker in all panels; there are at most four names.
        marks: label -> number of tokens to mark, such as those of a level.

    Raises:
        ValueError: if a curve does not have one value per number of tokens.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    looks = {name: {"color": COLOURS[i], "marker": MARKERS[i]} for i, name in enumerate(names)}
    with style():
        figure = Figure(figsize=(4.6 * len(panels), 3.6), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (label, curves) in zip(grid, panels.items(), strict=True):
            for name, values in curves.items():
                if len(values) != len(tokens):
                    raise ValueError(f"panels: {name!r} has {len(values)} values, expected {len(tokens)}")
                axes.loglog(tokens, values, label=name, markersize=5, **looks[name])
            for text, count in (marks or {}).items():
                axes.axvline(count, color=INK, linewidth=0.8, linestyle=":")
                axes.text(count, 0.02, f" {text}", transform=axes.get_xaxis_transform(), fontsize=8)
            axes.set(xlabel="tokens N", ylabel=label)
            axes.legend(frameon=False, labelcolor=INK)
    return figure


def share_figure(
    shares: Sequence[float],
    ours: Sequence[float],
    published: Mapping[float, float],
    dense: Mapping[str, float],
) -> Figure:
    """Cost against the share of refined tokens rho: ours as a line, published figures as marks.

    Args:
        shares: rho of each point of the line, in (0, 1].
        ours: GMAC at each of them.
        published: rho -> published GFLOPs.
        dense: label -> GMAC of detectors that refine every token, drawn as level lines.
    """
    highest = max(*ours, *published.values(), *dense.values())
    with style():
        figure = Figure(figsize=(5.6, 3.8), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.plot(shares, ours, color=BLUE, label="counted here")
        axes.plot(list(published), list(published.values()), "o", color=ORANGE, label="published", markersize=7)
        for label, cost in dense.items():
            axes.axhline(cost, color=INK, linewidth=1, linestyle="--")
            axes.annotate(label, (0, cost), (2, 3), textcoords="offset points", fontsize=9)
        axes.set(
            xlabel="share of refined tokens, rho", ylabel="whole detector, GMAC", xlim=(0, 1), ylim=(0, 1.1 * highest)
        )
        axes.legend(frameon=False, labelcolor=INK, loc="lower right")
    return figure
