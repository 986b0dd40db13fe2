"""Nothing that a figure or an explorer writes is smaller than 9 points, which are 12 pixels of CSS."""

import re
from pathlib import Path

import dyhead_book
import dyhead_lab

POINTS, PIXELS = 9, 12
#: A number after the name of a size: of an argument of matplotlib, of its settings, or of a constant for either.
SIZES = re.compile(r"""(?:font_?size|font\.size|labelsize|titlesize|title_fontsize|SMALL\w*)["']?\s*[=:]\s*([\d.]+)""")


def test_no_text_of_a_figure_is_smaller_than_nine_points():
    folders = Path(dyhead_lab.__file__).parent / "views", Path(dyhead_book.__file__).parent
    sizes = [
        (path.name, float(size))
        for folder in folders
        for path in folder.rglob("*.py")
        for size in SIZES.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(sizes) > 50  # the pattern finds them
    assert [(name, size) for name, size in sizes if size < POINTS] == []


def test_no_text_of_an_explorer_is_smaller_than_twelve_pixels():
    sheets = (Path(dyhead_lab.__file__).parent / "views" / "static").glob("*.css")
    sizes = [
        (sheet.name, float(size))
        for sheet in sheets
        for size in re.findall(r"font-size: ([\d.]+)px", sheet.read_text("utf-8"))
    ]
    assert sizes
    assert [(name, size) for name, size in sizes if size < PIXELS] == []
