"""Diagrams: the files are what the code draws; nothing is too small, too pale or cut off, and all are described."""

import html
import re
from xml.etree import ElementTree

import pytest

from dyhead_book import build
from dyhead_book.diagrams import DIAGRAMS, FOLDER, markdown, write_diagrams
from dyhead_book.diagrams import draw as drawing
from dyhead_book.diagrams.draw import Diagram, text_width
from dyhead_lab.views.figures import INK

SVG = "{http://www.w3.org/2000/svg}"
SMALLEST = 12  # pixels, which are 9 points
WIDEST = 860  # JupyterLab of 1280 pixels has room for 821; the smallest text, 12.5, is then still 11.9 pixels high

each = pytest.mark.parametrize("name", DIAGRAMS)


@each
def test_the_file_is_what_the_code_draws(name):
    assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == DIAGRAMS[name]().svg(), (
        "run python -m dyhead_book.diagrams"
    )


def test_no_file_is_left_over(tmp_path):
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(DIAGRAMS)
    (tmp_path / "old.svg").write_text("", encoding="utf-8")
    assert {path.stem for path in write_diagrams(tmp_path)} == {path.stem for path in tmp_path.iterdir()}


@each
def test_text_is_large_enough_and_everything_lies_inside(name):
    root = ElementTree.fromstring(DIAGRAMS[name]().svg())
    width, height = float(root.get("width")), float(root.get("height"))
    assert width <= WIDEST
    for text in root.iter(f"{SVG}text"):
        size, x, y = (float(text.get(key)) for key in ("font-size", "x", "y"))
        assert size >= SMALLEST
        left = x - text_width(text.text, size) * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")]
        assert 0 <= left and left + text_width(text.text, size) <= width, text.text
        assert size * 0.8 <= y <= height - 3, text.text
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height
    for path in root.iter(f"{SVG}path"):
        if path.get("stroke"):
            numbers = [float(n) for n in re.findall(r"[\d.]+", path.get("d"))]
            assert max(numbers[0::2]) <= width and max(numbers[1::2]) <= height


@each
def test_it_is_described_for_those_who_cannot_see_it(name):
    alt = DIAGRAMS[name]().alt
    assert 80 <= len(alt) <= 500 and alt.endswith(".") and "]" not in alt
    assert markdown(name).replace("\n", " ") == f'<img src="diagrams/{name}.svg" alt="{html.escape(alt)}">'


CHAPTERS = build.chapters()


@pytest.mark.parametrize("source", CHAPTERS, ids=build.title)
def test_a_chapter_shows_diagrams_as_they_are_drawn(source):
    text = "\n".join(cell.source for cell in build.read_source(source).cells if cell.cell_type == "markdown")
    for shown in re.findall(r'<img src="diagrams/[^>]*>', text):
        name = re.match(r'<img src="diagrams/(\w+)\.svg"', shown)[1]
        assert shown == markdown(name)


@each
def test_every_diagram_stands_in_a_chapter(name):
    assert any(f"diagrams/{name}.svg" in source.read_text(encoding="utf-8") for source in CHAPTERS)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", ["BLUE", "GREEN", "ORANGE", "PURPLE", "RED", "GREY"])
def test_white_reads_on_every_colour(colour):
    assert contrast("#ffffff", getattr(drawing, colour)) >= 4.5


def test_grey_reads_on_white_and_on_jupyters_dark_page():
    assert contrast(INK, "#ffffff") >= 4 and contrast(INK, "#111111") >= 4


def test_text_that_does_not_fit_is_refused():
    diagram = Diagram(200, 100, "A test.")
    with pytest.raises(ValueError, match="'much too long' needs a box of"):
        diagram.box(0, 0, 40, 40, "much too long")
    with pytest.raises(ValueError, match="'over the edge' reaches from"):
        diagram.label(190, 20, "over the edge")
    with pytest.raises(ValueError, match="needs a sentence"):
        Diagram(10, 10, " ")
