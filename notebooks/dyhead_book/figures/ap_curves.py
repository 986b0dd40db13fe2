"""AP of several detectors on the way of their training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dyhead_lab.experiments.record import Spread
from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, style

COLOURS = (ORANGE, PURPLE, BLUE, GREEN, INK)
MARKERS = "os^Dv"

#: Steps and the AP there; see :func:`dyhead_lab.experiments.curves.curve`.
Points = Sequence[tuple[int, Spread]]


def ap_curves_figure(panels: Mapping[str, Mapping[str, Points]], steps_in_epoch: float, width: float = 4.4) -> Figure:
    """Panels on one scale: a line a detector over epochs, which double from tick to tick.

    A bar through a point is the standard deviation over the seeds, where there are several.

    Args:
        panels: title -> name of a line -> its points. The same name has the same colour in every panel.
        steps_in_epoch: steps in which every training image is seen once.
        width: of a panel, in inches.

    Raises:
        ValueError: there are more names than colours.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    if len(names) > len(COLOURS):
        raise ValueError(f"panels: got {len(names)} names, expected at most {len(COLOURS)}")
    with style():
        figure = Figure(figsize=(width * len(panels), 3.6), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, lines) in zip(grid, panels.items(), strict=True):
            for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
                points = lines.get(name, ())
                epochs = [step / steps_in_epoch for step, _ in points]
                means = [spread.mean for _, spread in points]
                bars = [spread.deviation or 0.0 for _, spread in points]
                axes.errorbar(epochs, means, bars, color=colour, marker=marker, markersize=5, linewidth=1.6, label=name)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda epochs, _: f"{epochs:g}"))
            axes.set(title=title, xlabel="epochs")
            axes.grid(color=INK, alpha=0.25, linewidth=0.5)
        grid[0].set_ylabel("AP on 500 pictures of Shapes")
        grid[-1].legend(frameon=False, labelcolor=INK)
    return figure
