"""What every diagram of the book is made of: boxes, arrows, labels, grids of cells. The result is a small SVG file.

A diagram is drawn once and read on white pages and on dark ones. So nothing lies behind it, boxes are filled with
colours on which white text has a contrast of at least 4.5 to 1, and lines and words between the boxes are mid-grey.
The colours are those of Okabe and Ito, darkened where white text stands on them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager
from PIL import ImageFont

from dyhead_lab.views.figures import INK

BLUE, GREEN, ORANGE, PURPLE, RED, GREY = "#0067a0", "#00785a", "#a35d00", "#9a4d7c", "#b34c00", "#666666"
TEXT = 14  # pixels; nothing is smaller than SMALL
SMALL = 12.5
LINE = 18  # from one line of text to the next
HEAD = 7  # length of an arrow's head

Point = tuple[float, float]


@cache
def text_width(text: str, size: float) -> float:
    """Pixels of a line in DejaVu Sans, which is wider than what most systems take for their own."""
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 100)
    return font.getlength(text) * size / 100


class Diagram:
    """A drawing in pixels, x to the right, y down.

    Args:
        width, height: of the whole.
        alt: what it shows, in a sentence or two, for those who cannot see it.

    Raises:
        ValueError: there is no text for those who cannot see it.
    """

    def __init__(self, width: int, height: int, alt: str):
        if not alt.strip():
            raise ValueError("alt: a diagram needs a sentence for those who cannot see it")
        self.width, self.height, self.alt = width, height, alt
        self._parts: list[str] = []
        self._heads: set[str] = set()  # colours of arrows

    def box(self, x: float, y: float, width: float, height: float, text: str, colour: str = BLUE) -> Box:
        """A filled box with lines of white text in its middle; gives its edges back for arrows.

        Raises:
            ValueError: a line is wider than the box.
        """
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{colour}"/>')
        lines = text.split("\n")
        top = y + height / 2 - (len(lines) - 1) * LINE / 2 + TEXT * 0.35
        for n, line in enumerate(lines):
            size = TEXT if n == 0 else SMALL
            if text_width(line, size) > width - 6:
                raise ValueError(f"{line!r} needs a box of {text_width(line, size) + 6:.0f} pixels, it has {width}")
            self._text(x + width / 2, top + n * LINE, line, "#fff", size, "middle")
        return Box(x, y, width, height)

    def label(self, x: float, y: float, text: str, align: str = "middle", bold: bool = False) -> None:
        """Lines of grey text; (x, y) is the start, middle or end of the first line's base.

        Raises:
            ValueError: a line leaves the drawing.
        """
        for n, line in enumerate(text.split("\n")):
            left = x - text_width(line, SMALL) * {"start": 0.0, "middle": 0.5, "end": 1.0}[align]
            if left < 0 or left + text_width(line, SMALL) > self.width:
                raise ValueError(f"{line!r} reaches from {left:.0f} to {left + text_width(line, SMALL):.0f} pixels")
            self._text(x, y + n * LINE, line, INK, SMALL, align, bold)

    def arrow(self, *points: Point, colour: str = INK, dashed: bool = False, head: bool = True) -> None:
        """A line through the points with a head at its end."""
        path = " ".join(f"{'L' if n else 'M'}{x:g} {y:g}" for n, (x, y) in enumerate(points))
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        end = ""
        if head:
            self._heads.add(colour)
            end = f' marker-end="url(#head-{colour.removeprefix("#")})"'
        self._parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}{end}/>')

    def grid(self, x: float, y: float, columns: int, rows: int, cell: float, filled: Sequence[tuple[int, int]] = (),
             colour: str = BLUE) -> None:  # fmt: skip
        """Cells; ``filled`` are (row, column) of those in colour."""
        for row in range(rows):
            for column in range(columns):
                fill = colour if (row, column) in filled else "none"
                self._parts.append(
                    f'<rect x="{x + column * cell:g}" y="{y + row * cell:g}" width="{cell:g}" height="{cell:g}" '
                    f'fill="{fill}" fill-opacity="0.75" stroke="{INK}" stroke-width="0.8"/>'
                )

    def dot(self, x: float, y: float, radius: float = 4, colour: str = RED) -> None:
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{colour}"/>')

    def frame(self, x: float, y: float, width: float, height: float, title: str) -> None:
        """A dashed frame around parts that belong together, its title on the upper edge's left."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" fill="none" stroke="{INK}" '
            'stroke-dasharray="3 4"/>'
        )
        self.label(x + 10, y + LINE, title, "start", bold=True)

    def svg(self) -> str:
        """The file's text; the same drawing always gives the same text."""
        heads = "".join(
            f'<marker id="head-{colour.removeprefix("#")}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="{HEAD}" '
            f'markerHeight="{HEAD}" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
            for colour in sorted(self._heads)
        )
        body = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" font-family="system-ui, sans-serif">\n'
            f"<title>{html.escape(self.alt)}</title>\n<defs>{heads}</defs>\n{body}\n</svg>\n"
        )

    def _text(self, x: float, y: float, line: str, colour: str, size: float, align: str, bold: bool = False) -> None:
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size:g}" text-anchor="{align}"{weight}>'
            f"{html.escape(line)}</text>"
        )


class Box:
    """Where a box stands, and the middles of its edges."""

    def __init__(self, x: float, y: float, width: float, height: float):
        self.left: Point = (x, y + height / 2)
        self.right: Point = (x + width, y + height / 2)
        self.top: Point = (x + width / 2, y)
        self.bottom: Point = (x + width / 2, y + height)
