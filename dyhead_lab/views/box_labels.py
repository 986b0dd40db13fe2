"""Labels of boxes in figures: all of each can be read, wherever its box lies and however its class is called."""

from __future__ import annotations

from typing import Any

from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation

PAD = 1.2  # points of colour around the letters


class BoxLabel(Annotation):
    """A label above a corner of a box, pushed into its axes where they are drawn; shortened if it is wider than they.

    Args:
        name: of the class.
        score: what stands behind the name, as text; it is never shortened.
        corner: (x, y) of the box, in the coordinates of the axes.
        ink, colour: of the letters, and of what they stand on.
        font_size: in points.
    """

    def __init__(self, name: str, score: str, corner: tuple[float, float], ink: str, colour: str, font_size: float):
        self._name, self._score = " ".join(name.split()), score
        super().__init__(
            self._with_name(self._name),
            corner,
            xytext=(0.5, 1.5),
            textcoords="offset points",
            ha="left",
            va="bottom",
            fontsize=font_size,
            color=ink,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": PAD},
            annotation_clip=False,
            parse_math=False,  # a class may be called $5
            in_layout=False,  # it takes no place beside the axes
        )

    def _with_name(self, name: str) -> str:
        return f"{name} {self._score}" if self._score else name

    def draw(self, renderer: RendererBase) -> None:
        assert self.axes is not None
        room, pixels = self.axes.get_window_extent(renderer), float(renderer.points_to_pixels(1))  # type: ignore[arg-type]
        self._shorten(renderer, room.width - 2 * PAD * pixels)
        text = self.get_window_extent(renderer).padded(PAD * pixels)
        right = max(room.x0 - text.x0, min(0, room.x1 - text.x1))
        up = max(room.y0 - text.y0, min(0, room.y1 - text.y1))
        place: Any = self.get_position()
        self.set_position((place[0] + right / pixels, place[1] + up / pixels))
        try:
            super().draw(renderer)
        finally:
            self.set_position(place)

    def _shorten(self, renderer: RendererBase, most: float) -> None:
        """Leave away letters of the name until the label is at most so many pixels wide, or one letter is left."""
        letters = len(self._name)
        self.set_text(self._with_name(self._name))
        while letters > 1 and (width := self.get_window_extent(renderer).width) > most:
            letters = max(1, min(letters - 1, int(letters * most / width)))
            self.set_text(self._with_name(self._name[:letters] + "…"))
