"""Pictures of a deformable layer while it learns: how its offsets travel, and how its loss falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from dyhead_lab.views.figures import BLUE, DPI, INK, VERMILION, Picture, style

KINDS = {1: ("pictures that moved by (+1, +3)", BLUE), -1: ("pictures that moved by (-1, -3)", VERMILION)}


class Travel:
    """The offsets of a layer, kept while it trains and drawn again every few steps.

    Args:
        shift: (dy, dx) in pixels that pictures of direction 1 have moved by; those of direction -1 went the other way.
        every: steps between two drawings; 0 draws nothing until :meth:`figure` is asked for.
    """

    def __init__(self, shift: Sequence[float], every: int = 0):
        self.shift, self.every = tuple(shift), every
        self._offsets: list[Tensor] = []  # (2, 9, 2) each: direction 1 and -1, taps, (dy, dx)
        self._shown: Any = None

    def __call__(self, step: int, offset_B18HW: Tensor, direction_B: Tensor) -> None:
        """Keep the mean offset of each tap for both directions; borders, which look outside, are left out."""
        inner = offset_B18HW.detach().unflatten(1, (9, 2))[..., 5:-5, 5:-5].mean((-2, -1))
        self._offsets.append(torch.stack([inner[direction_B == way].mean(0) for way in KINDS]))
        if self.every and step % self.every == 0:
            picture = Picture(self.figure(), alt=self.alt())
            if self._shown is None:
                self._shown = display(picture, display_id=True)
            else:
                self._shown.update(picture)

    @property
    def last(self) -> Tensor:
        """(2, 2): the mean over taps at the last step, (dy, dx) for directions 1 and -1, in pixels."""
        return self._offsets[-1].mean(1)

    def alt(self) -> str:
        (dy, dx), (back_y, back_x) = self.last.tolist()
        return (
            "Mean offsets of nine taps against training steps, dy and dx, with the true shift as dashed lines. At the "
            f"end pictures of direction 1 are read at ({dy:+.1f}, {dx:+.1f}), those of direction -1 at "
            f"({back_y:+.1f}, {back_x:+.1f})."
        )

    def figure(self) -> Figure:
        """Two panels, dy and dx: a thin line for each tap, a thick one for their mean, dashes for the truth."""
        offsets = torch.stack(self._offsets).numpy()
        with style():
            figure = Figure(figsize=(9, 3.4), dpi=DPI, layout="constrained")
            names = ("dy, down", "dx, to the right")
            for axis, (axes, name) in enumerate(zip(figure.subplots(1, 2), names, strict=True)):
                for kind, (way, (label, colour)) in enumerate(KINDS.items()):
                    axes.plot(offsets[:, kind, :, axis], color=colour, linewidth=0.7, alpha=0.35)
                    axes.plot(offsets[:, kind, :, axis].mean(1), color=colour, linewidth=2.4, label=label)
                    axes.axhline(way * self.shift[axis], color=colour, linestyle="--", linewidth=1.2)
                axes.set(xlabel="training step", ylabel=f"offset {name}, pixels")
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=10)
        return figure


def losses_figure(curves: Mapping[str, Sequence[float]], window: int = 8) -> Figure:
    """Loss against training steps on a logarithmic axis, each the mean of ``window`` steps.

    Args:
        curves: name -> losses of all steps, positive.

    Raises:
        ValueError: a curve is shorter than the window.
    """
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
    with style():
        figure = Figure(figsize=(7.6, 3.2), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for (name, losses), colour in zip(curves.items(), colours, strict=False):
            if len(losses) < window:
                raise ValueError(f"curves: {name} has {len(losses)} steps, expected at least {window}")
            smooth = torch.tensor(losses, dtype=torch.float64).unfold(0, window, 1).mean(1)
            axes.plot(range(window - 1, len(losses)), smooth, color=colour, linewidth=1.8, label=name)
        axes.set(xlabel="training step", ylabel="mean squared error", yscale="log")
        axes.grid(color=INK, alpha=0.25, linewidth=0.5)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=10)
    return figure


def rebuilt_view_figure(right: Tensor, left: Tensor, rebuilt: Tensor, offset: Tensor) -> Figure:
    """Two photographs from two places, the offsets between them, and one rebuilt out of the other.

    Args:
        right, left, rebuilt: (3, H, W) in [0, 1].
        offset: (H, W), dx in pixels, NaN where it is not known.
    """
    pictures = {"the right camera": right, "the left camera": left, "left, read out of right": rebuilt}
    with style():
        figure = Figure(figsize=(7, 5), dpi=DPI, layout="constrained")
        grid = figure.subplots(2, 2).flat
        for axes, (name, picture) in zip(grid, pictures.items(), strict=False):
            axes.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy(force=True))
            axes.set_title(name, fontsize=10)
        axes = figure.axes[3]
        shown = axes.imshow(offset.numpy(force=True), cmap="viridis")
        axes.set_title("the offset of the centre tap", fontsize=10)
        for panel in figure.axes:
            panel.set(xticks=(), yticks=())
        figure.colorbar(shown, ax=figure.axes[:4], label="dx, pixels", shrink=0.45, anchor=(0, 0.1))
    return figure
