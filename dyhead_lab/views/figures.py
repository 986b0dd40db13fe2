"""Figures: what every picture of the book shares, and boxes drawn on images.

All figures have a transparent background and mid-grey ink, so that they read on a light and on a dark page.
The colours are those of Okabe and Ito (Color Universal Design, 2008), which people with the common colour
deficiencies can tell apart.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..paths import legible
from .box_labels import BoxLabel
from .glyphs import find_fonts, save_figure

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY, YELLOW = "#D55E00", "#CC79A7", "#56B4E9", "#F0E442"
PALETTE = (SKY, ORANGE, GREEN, YELLOW, VERMILION, PURPLE, BLUE)

#: Contrast is above 4:1 on white and on JupyterLab's dark background.
INK = "#7b7b7b"

STYLE: Any = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "font.size": 10,
    "svg.hashsalt": "dyhead_lab",
}

DPI = 100

#: Width over height of the thinnest place for an image, and height over width of the flattest.
THINNEST = 0.1


def style() -> Any:
    """Context in which figures are made: ``with style(): figure = Figure(...)``."""
    return matplotlib.rc_context(STYLE)


class Picture:
    """A finished figure: PNG bytes with a text for those who cannot see it. Displays itself in a notebook.

    Args:
        figure: rendered at once, with a transparent background.
        alt: what the figure shows, in a sentence.
        colours: write it with a palette of at most so many, up to 256: a photograph takes a third of the bytes.
    """

    def __init__(self, figure: Figure, alt: str, colours: int | None = None):
        if not alt.strip():
            raise ValueError("alt: got an empty text, expected a sentence that says what the figure shows")
        self.alt = alt = legible(alt)  # it may name a file
        buffer = io.BytesIO()
        save_figure(figure, buffer, format="png", transparent=True, metadata={"Software": None, "Description": alt})
        self.png = buffer.getvalue() if colours is None else _with_palette(buffer, alt, colours)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}

    def __repr__(self) -> str:
        return f"Picture({self.alt!r}, {len(self.png) / 1000:.0f} kB)"


def _with_palette(png: io.BytesIO, alt: str, colours: int) -> bytes:
    """A PNG with fewer colours, its transparency and its description."""
    description = PngInfo()
    description.add_text("Description", alt)
    buffer = io.BytesIO()
    with Image.open(png) as image:
        # of Pillow's methods the octree alone knows transparency
        reduced = image.convert("RGBA").quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.FLOYDSTEINBERG)
        reduced.save(buffer, "PNG", optimize=True, pnginfo=description)
    return buffer.getvalue()


def place_for(image: torch.Tensor) -> float:
    """Width over height of the place that a picture gives an image (3, H, W): its own, but for stripes, which stand
    in the middle of their place. One pixel by 5000 would else make a picture of gigabytes, or an empty one.
    """
    rows, columns = image.shape[-2:]
    return min(max(columns / rows, THINNEST), 1 / THINNEST)


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on ``colour`` ("#rrggbb")."""
    red, green, blue = ((int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if luminance > 0.18 else "#ffffff"  # equal contrast at sqrt(1.05 * 0.05) - 0.05


def draw_boxes(
    axes: Axes,
    boxes: torch.Tensor,
    labels: torch.Tensor,
    names: Sequence[str],
    scores: torch.Tensor | None = None,
    font_size: float = 9,
) -> None:
    """Draw boxes with their class names on axes that show an image in pixel coordinates.

    Args:
        boxes: (n, 4) xyxy in pixels.
        labels: (n,) indices into ``names``; a class keeps its colour.
        names: class names.
        scores: (n,) in [0, 1], printed behind the name; boxes of low score are drawn first. None: truth.
        font_size: of the labels, in points.

    Raises:
        ValueError: if the shapes do not fit each other or a label has no name.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: got shape {tuple(boxes.shape)}, expected (n, 4)")
    for argument, tensor in (("labels", labels), ("scores", scores)):
        if tensor is not None and tensor.shape != boxes.shape[:1]:
            raise ValueError(f"{argument}: got shape {tuple(tensor.shape)}, expected ({len(boxes)},)")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        raise ValueError(f"labels: got {labels.unique().tolist()}, expected indices of {len(names)} names")
    order = range(len(boxes)) if scores is None else scores.argsort().tolist()
    for i in order:
        x1, y1, x2, y2 = boxes[i].tolist()
        colour = PALETTE[int(labels[i]) % len(PALETTE)]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="black", linewidth=2.6, alpha=0.5))
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.6))
        score = "" if scores is None else f"{float(scores[i]):.2f}"
        axes.add_artist(BoxLabel(names[int(labels[i])], score, (x1, y1), ink_on(colour), colour, font_size))


def detections_figure(
    images: Sequence[torch.Tensor],
    detections: Sequence[Mapping[str, torch.Tensor]],
    names: Sequence[str],
    threshold: float = 0.3,
    height: int | None = None,
) -> Figure:
    """Images in a row, each with the boxes found in it.

    Args:
        images: (3, H, W) each, in [0, 1].
        detections: one per image, as detectors return them: ``boxes`` (n, 4) xyxy, ``labels`` (n,) and
            ``scores`` (n,); without ``scores`` they are ground truth, and all are drawn.
        names: class names.
        threshold: boxes of lower score are left out.
        height: of the row in pixels; the height of the first image if None.
    """
    if len(images) != len(detections) or not images:
        raise ValueError(
            f"detections: got {len(detections)} for {len(images)} images, expected one for each, at least 1"
        )
    height = images[0].shape[-2] if height is None else height
    gap = 0 if len(images) == 1 else 12
    widths = [height * place_for(image) for image in images]
    total = sum(widths) + gap * (len(images) - 1)
    with style():
        figure = Figure(figsize=(total / DPI, height / DPI), dpi=DPI)
        left = 0.0
        for image, detection, width in zip(images, detections, widths, strict=True):
            axes = figure.add_axes((left / total, 0, width / total, 1))
            left += width + gap
            rows, columns = image.shape[-2:]
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, columns, rows, 0))
            axes.axis("off")
            scores = detection.get("scores")
            kept = slice(None) if scores is None else scores >= threshold
            draw_boxes(
                axes,
                detection["boxes"][kept],
                detection["labels"][kept],
                names,
                None if scores is None else scores[kept],
            )
            axes.set(xlim=(0, columns), ylim=(rows, 0))
    find_fonts(figure)  # it may be shown as it is
    return figure
