"""An image with the mistakes made in it, a colour for each kind."""

from __future__ import annotations

from collections import Counter

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..evaluation.error_analysis import KINDS, ErrorReport, Mistake
from .box_labels import BoxLabel
from .figures import DPI, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW, Picture, ink_on, place_for, style

LETTER = 0.08  # inches of a letter of the kinds of mistakes, above the image
COLOURS = dict(zip(KINDS, (ORANGE, PURPLE, YELLOW, VERMILION, SKY, GREEN), strict=True))


def errors_picture(
    image: torch.Tensor, image_id: int, report: ErrorReport, least_score: float = 0.3, height: int = 480
) -> Picture:
    """The mistakes of one image: solid boxes around detections, dashed ones around missed objects.

    Args:
        image: (3, H, W) in [0, 1].
        image_id: its id.
        report: of the data set.
        least_score: detections of lower score are left out.
        height: of the picture of the image, in pixels.
    """
    mistakes = [m for m in report.mistakes if m.image_id == image_id and m.weight >= least_score]
    counts = Counter(mistake.kind for mistake in mistakes)
    rows, columns = image.shape[-2:]
    labels = {kind: f"{kind} {count}" for kind, count in counts.items()}
    letters = sum(len(words) + 3 for words in labels.values())
    width, high = height * place_for(image) / DPI, height / DPI
    with style():
        figure = Figure(figsize=(max(width, LETTER * letters), high + 0.3), dpi=DPI)
        axes = figure.add_axes((0, 0, width / figure.get_figwidth(), high / figure.get_figheight()))
        axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, columns, rows, 0))
        axes.axis("off")
        for mistake in sorted(mistakes, key=lambda mistake: mistake.weight):
            _draw(axes, mistake, report.names)
        x = 0.0
        for kind, words in labels.items():
            patch = {"facecolor": COLOURS[kind], "edgecolor": "none", "pad": 2}
            figure.text(x + 0.01, 0.975, words, va="top", fontsize=9, color=ink_on(COLOURS[kind]), bbox=patch)
            x += (len(words) + 3) / letters
        axes.set(xlim=(0, columns), ylim=(rows, 0))
    words = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no mistakes"
    return Picture(figure, f"Image {image_id} with the mistakes of the detector: {words}.")


def _draw(axes, mistake: Mistake, names: dict[int, str]) -> None:
    record = mistake.detection if mistake.detection is not None else mistake.annotation
    assert record is not None
    x, y, width, height = record["bbox"]
    colour = COLOURS[mistake.kind]
    dashes = "--" if mistake.detection is None else "-"
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor="black", linewidth=2.8, alpha=0.4))
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=1.6, linestyle=dashes))
    name = names[record["category_id"]]
    score = "" if mistake.detection is None else f"{mistake.weight:.2f}"
    axes.add_artist(BoxLabel(name, score, (x, y), ink_on(colour), colour, font_size=9))
