"""Average precision without and with a change, as arrows: published tables beside our own measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dyhead_lab.views.figures import BLUE, DPI, INK, ORANGE, style


@dataclass(frozen=True)
class Gain:
    """One row of a comparison.

    Attributes:
        name: of the row.
        before, after: the numbers without and with; None where nothing is known.
        spread: how far single measurements of ``after - before`` scatter (standard deviation); None: unknown.
    """

    name: str
    before: float | None
    after: float | None
    spread: float | None = None

    @property
    def text(self) -> str:
        """The difference in words."""
        if self.before is None or self.after is None:
            return "not known"
        difference = f"{self.after - self.before:+.1f}"
        return difference if self.spread is None else f"{difference} ± {self.spread:.1f}"


def gains_figure(panels: Mapping[str, Sequence[Gain]], without: str, with_: str) -> Figure:
    """Panels side by side, each with scales of its own: a hollow circle without, a disc with, the difference in words.

    Args:
        panels: title -> rows. The same name stands in the same row of every panel.
        without, with_: what the two marks are called.
    """
    names = list(dict.fromkeys(gain.name for gains in panels.values() for gain in gains))
    with style():
        figure = Figure(figsize=(4.6 * len(panels), 0.42 * len(names) + 1.5), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (title, gains) in zip(grid, panels.items(), strict=True):
            for gain in gains:
                _draw_gain(axes, names.index(gain.name), gain)
            axes.set(title=title, xlabel="AP", ylim=(len(names) - 0.4, -0.6))
            axes.title.set_fontsize(10)
            axes.margins(x=0.25)
            axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
        grid[0].set_yticks(range(len(names)), names)
        marks = [
            grid[0].plot([], [], "o", color=BLUE, markerfacecolor="none", label=without)[0],
            grid[0].plot([], [], "o", color=ORANGE, label=with_)[0],
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    return figure


def _draw_gain(axes: Axes, row: int, gain: Gain) -> None:
    known = [value for value in (gain.before, gain.after) if value is not None]
    if gain.before is not None and gain.after is not None:
        axes.plot([gain.before, gain.after], [row, row], "-", color=INK, linewidth=1)
    if gain.before is not None:
        axes.plot(gain.before, row, "o", color=BLUE, markerfacecolor="none")
    if gain.after is not None:
        axes.plot(gain.after, row, "o", color=ORANGE)
    right = max(known, default=None)
    if right is None:
        axes.annotate(gain.text, (0.02, row - 0.08), xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    else:
        axes.annotate(gain.text, (right, row), xytext=(6, 3), textcoords="offset points", va="bottom", fontsize=9)
