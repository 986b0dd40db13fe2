"""Fonts for what matplotlib's own cannot write: names of classes in Chinese, Korean, Devanagari, emoji."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager, get_font
from matplotlib.text import Text

from ..notices import notice

#: Fonts that hold a frame for every letter there is, and so the shape of none.
_FRAMES = ("Last Resort", ".LastResort", "Adobe Blank")

_font_of: dict[str, str | None] = {}  # letter -> a font of this system, None where no font holds it
_told: list[str] = []  # what was said already


def save_figure(figure: Figure, file: Any, **options: Any) -> None:
    """``figure.savefig(file, **options)``, with every letter that some font of this system holds.

    Letters that none holds are drawn as empty frames, which is said once.
    """
    find_fonts(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)  # said more clearly by then
        figure.savefig(file, **options)


def find_fonts(figure: Figure) -> None:
    """Let texts of a figure fall back on fonts of this system for the letters that their own font lacks."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and not text.get_text().isascii()]
    lacking = {text: _lacking(text.get_text(), findfont(text.get_fontproperties())) for text in texts}
    _search(frozenset().union(*lacking.values()) - _font_of.keys())
    for text, letters in lacking.items():
        fonts = dict.fromkeys(font for letter in sorted(letters) if (font := _font_of[letter]) is not None)
        own = [font for font in text.get_fontfamily() if font not in fonts]
        text.set_fontfamily([*own, *fonts])
    unknown = sorted({letter for letters in lacking.values() for letter in letters if _font_of[letter] is None})
    if unknown and not _told:
        _told.append(
            f"No font of this system holds {' '.join(unknown[:5])}: pictures show an empty frame for each "
            "such letter. Install a font that does (the Noto fonts hold nearly all), and start again."
        )
        notice(_told[0])


def _search(letters: frozenset[str]) -> None:
    """Look once for fonts that hold letters: as few as come first, upright sans serif before others."""
    for entry in sorted(fontManager.ttflist, key=_plainest_first) if letters else ():
        if not letters:
            break
        left = letters if entry.name.startswith(_FRAMES) else _lacking(letters, entry.fname)
        _font_of.update(dict.fromkeys(letters - left, entry.name))
        letters = left
    _font_of.update(dict.fromkeys(letters))


def _plainest_first(entry: FontEntry) -> tuple[bool, bool, bool, str]:
    return entry.style != "normal", entry.weight not in (400, "normal", "regular"), "Sans" not in entry.name, entry.name


def _lacking(letters: Iterable[str], font: str) -> frozenset[str]:
    """Those of the letters that are to be seen and that a font file does not hold as outlines."""
    visible = {letter for letter in letters if unicodedata.category(letter) not in ("Cc", "Cf", "Mn", "Zs")}
    try:
        face = get_font(font)
        held = face.get_charmap() if face.scalable else {}
    except (OSError, RuntimeError):  # no font that matplotlib can read
        held = {}
    return frozenset(letter for letter in visible if ord(letter) not in held)
