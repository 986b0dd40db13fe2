"""What average precision measures: the area below the precision-recall curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from dyhead_lab.views.figures import DPI, PALETTE, style


def precision_recall_figure(detections: Mapping[str, tuple[np.ndarray, np.ndarray]], objects: int) -> Figure:
    """Precision against recall while detections are taken in, best first; the area below the steps is the AP.

    Args:
        detections: name of a curve -> scores (n,) and whether each detection is correct (n,).
        objects: how many objects there are.

    Raises:
        ValueError: ``objects`` is less than 1, or a curve has no detections.
    """
    if objects < 1:
        raise ValueError(f"objects: got {objects}, expected at least 1")
    with style():
        figure = Figure(figsize=(7.4, 3.4), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for (name, (scores, correct)), colour in zip(detections.items(), PALETTE, strict=False):
            if not len(scores):
                raise ValueError(f"detections: {name} has none, expected at least 1")
            found = np.cumsum(correct[np.argsort(-scores, kind="stable")])
            recall, precision = found / objects, found / np.arange(1, len(found) + 1)
            best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
            axes.plot(recall, precision, color=colour, linewidth=1, alpha=0.8)
            from_zero, best = np.append(0, recall), np.append(best_from_here[0], best_from_here)
            axes.fill_between(from_zero, best, step="pre", color=colour, alpha=0.3, label=name)
        axes.set(xlabel="recall: share of the objects found", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # beside the areas
    return figure
