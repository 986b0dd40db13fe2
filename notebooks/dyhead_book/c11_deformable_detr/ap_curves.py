"""AP of several detectors on the way of their training, out of the record of an experiment."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dyhead_lab.experiments.curves import curve
from dyhead_lab.experiments.record import Record
from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, style

COLOURS = (ORANGE, PURPLE, BLUE, GREEN)
MARKERS = "os^D"
TITLES = {"AP": "AP", "AP_small": "AP of objects below 32 x 32 pixels"}


def ap_curves_figure(
    record: Record, steps_in_epoch: float, metrics: Sequence[str] = ("AP", "AP_small"), rows: Sequence[str] = ()
) -> Figure:
    """One panel a metric, all on one scale: a line a row over epochs, which double from tick to tick.

    A bar through a point is the standard deviation over the seeds, where there are several.

    Args:
        record: of an experiment whose rows keep their curves.
        steps_in_epoch: steps in which every training image is seen once.
        metrics: one panel each.
        rows: those that are drawn; all of them if empty.

    Raises:
        ValueError: there are more rows than colours.
    """
    rows = tuple(rows) or record.rows
    if len(rows) > len(COLOURS):
        raise ValueError(f"rows: got {len(rows)}, expected at most {len(COLOURS)}")
    with style():
        figure = Figure(figsize=(4.4 * len(metrics), 3.6), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, len(metrics), sharex=True, sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for row, colour, marker in zip(rows, COLOURS, MARKERS, strict=False):
                points = curve(record, row, metric)
                epochs = [step / steps_in_epoch for step, _ in points]
                means = [spread.mean for _, spread in points]
                bars = [spread.deviation or 0.0 for _, spread in points]
                axes.errorbar(epochs, means, bars, color=colour, marker=marker, markersize=5, linewidth=1.6, label=row)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda epochs, _: f"{epochs:g}"))
            axes.set(title=TITLES.get(metric, metric), xlabel="epochs")
            axes.grid(color=INK, alpha=0.25, linewidth=0.5)
        panels[0].set_ylabel("AP on 500 pictures of Shapes")
        panels[-1].legend(frameon=False, labelcolor=INK)
    return figure
