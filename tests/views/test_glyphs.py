"""Names of classes in letters that matplotlib's own font lacks are drawn, or it is said that they cannot be."""

import io
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from dyhead_lab.views import glyphs
from dyhead_lab.views.figures import Picture, style

CAT, DOG = "\u732b", "\u72ac"


@pytest.fixture
def system(monkeypatch):
    """A system whose fonts nobody has looked into, and where nothing was said."""
    monkeypatch.setattr(glyphs, "_font_of", {})
    monkeypatch.setattr(glyphs, "_told", [])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    yield monkeypatch
    font_manager.fontManager._findfont_cached.cache_clear()


def install(path, letter):
    """A font that holds one letter: a filled square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "letter"])
    builder.setupCharacterMap({ord(letter): "letter"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "letter": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "letter": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Cats Sans", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    font_manager.fontManager.addfont(path)


def ink(name):
    """The share of dark pixels where a name is drawn, and the picture."""
    with style():
        figure = Figure(figsize=(1, 1), dpi=100)
        figure.text(0.1, 0.1, name, fontsize=50, color="black")
    with Image.open(io.BytesIO(Picture(figure, "a name").png)) as image:
        return float((np.asarray(image)[..., 3] > 128).mean())


def test_letters_come_from_a_font_of_the_system_that_holds_them(system, tmp_path, capsys):
    install(tmp_path / "cats.ttf", CAT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ink(CAT) == pytest.approx(0.69**2, abs=0.02)  # a full square of 50 points, 0.69 of an inch
    assert capsys.readouterr().err == ""


def test_where_no_font_holds_them_it_is_said_once(system, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ink(f"{CAT} {CAT}") > 0
        ink(DOG)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith(
        f"No font of this system holds {CAT}: pictures show an empty frame"
    )


def test_what_the_own_font_holds_is_left_to_it(system, capsys):
    system.setattr(glyphs, "_search", lambda letters: pytest.fail("looked for fonts") if letters else None)
    assert ink("caf\u00e9 \u0434\u0430 \u200b") > 0
    assert capsys.readouterr().err == ""
