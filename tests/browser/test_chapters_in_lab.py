"""Chapters as a reader uses them: open, run, explore by keyboard and mouse, switch to the dark theme."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import nbformat
import pytest

from dyhead_book import build as builder

from .explorers import SCROLL
from .lab import KERNEL_READY, Lab, keep_screenshot, open_notebook, run_all, set_theme

# One process runs them all: they share a server, and the chapters would slow each other down.
pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]

BACKGROUND = "element => getComputedStyle(element).backgroundColor"


CELLS = (
    """
import torch
from IPython.display import display

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_book.practice.predictions import Question
from dyhead_lab.trace import trace
from dyhead_lab.views.scale_weights import ScaleWeights, gates_of
from dyhead_lab.zoo import load_trained

drawn = DrawnShapes(2)
images = [drawn.image(index) for index in range(len(drawn))]
model = load_trained("quickstart").model
with torch.no_grad(), trace(model) as seen:
    model(images)
""",
    'Question("99 browser", "Which neighbour counts more?", a="the finer one", b="the coarser one").ask()',
    'explorer = ScaleWeights(gates_of(seen), levels=["P3", "P4", "P5", "P6"], images=images)\nexplorer',
    """
shown = display(explorer.reading, display_id=True)
explorer.observe(lambda change: shown.update(change["new"]), names="reading")
""",
)


@pytest.fixture(scope="module")
def notebook_page(new_page: Callable, lab: Lab):
    """A notebook as a chapter is: it detects, asks for a guess, and shows an explorer that Python follows."""
    page, path = new_page(), lab.folder / "chapter.ipynb"
    cells = [nbformat.v4.new_code_cell(text.strip()) for text in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=builder.METADATA), path)
    open_notebook(page, lab, path)
    run_all(page)
    set_theme(page, "Light")
    return page


@pytest.fixture
def explorer(notebook_page):
    found = notebook_page.locator(".dyhead-scale-weights")
    found.wait_for()
    found.evaluate(SCROLL)
    return found


def test_a_guess_is_made_by_mouse_or_keyboard_and_told_at_once(notebook_page):
    asked = notebook_page.locator(".dyhead-question")
    asked.wait_for()
    asked.evaluate(SCROLL)
    assert "Choose one" in asked.get_by_role("status").inner_text()
    asked.get_by_role("button", name="a: the finer one").click()
    asked.get_by_text("Your guess: a. It is kept until the end of the chapter.").wait_for()
    notebook_page.keyboard.press("Tab")
    notebook_page.keyboard.press("Enter")
    asked.get_by_text("Your guess: b. It is kept until the end of the chapter.").wait_for()
    keep_screenshot(notebook_page, "guess")


def reading(page) -> dict:
    """What the kernel printed last about the reader's choice."""
    text = page.locator(".jp-OutputArea-output pre", has_text="'ratio'").last.inner_text()
    return dict(re.findall(r"'(\w+)': '?([^',}]+)'?", text))


def wait_for_reading(page, **expected: str) -> dict:
    pattern = ".*".join(re.escape(f"'{key}': {value}") for key, value in expected.items())
    page.locator(".jp-OutputArea-output pre", has_text=re.compile(pattern)).wait_for()
    return reading(page)


def test_the_explorer_answers_keyboard_and_mouse_and_python_follows(explorer):
    page = explorer.page
    before = reading(page)
    assert before["level"] == "P3" and before["image"] == "mean"
    bars_before = explorer.locator(".sw-bars").inner_html()

    explorer.locator(".sw-map [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    after = wait_for_reading(page, level="'P4'")
    assert after["ratio"] != before["ratio"]
    assert explorer.locator(".sw-bars").inner_html() != bars_before
    assert "P4" in explorer.locator(".sw-says").inner_text()
    focused = "document.activeElement.getAttribute('aria-label')"
    assert "level P4" in page.evaluate(focused), "the keyboard focus must follow the choice"

    explorer.locator(".sw-bar.coarser").click()
    assert wait_for_reading(page, branch="'coarser (P5)'")["gate"] != after["gate"]

    explorer.locator("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    wait_for_reading(page, image="0")
    assert explorer.locator(".sw-shown").inner_text() == "image 1"
    keep_screenshot(page, "explorer-light")


def test_the_dark_theme_reaches_the_explorer(explorer):
    page = explorer.page
    light = explorer.evaluate(BACKGROUND)
    set_theme(page, "Dark")
    assert explorer.evaluate(BACKGROUND) != light
    explorer.evaluate(SCROLL)
    keep_screenshot(page, "explorer-dark")
    page.locator(".dyhead-question").evaluate(SCROLL)
    keep_screenshot(page, "guess-dark")


def test_a_fresh_clone_shows_pictures_before_anything_runs(new_page: Callable, lab: Lab):
    """A built notebook, opened in a Jupyter that does not trust it and has no kernel state."""
    page = new_page()
    notebook = lab.folder / "fresh.ipynb"
    shutil.copy(builder.target(builder.chapters(["00"])[0]), notebook)
    open_notebook(page, lab, notebook)
    picture = page.locator(".jp-CodeCell img[src^='data:image/png']").first
    picture.wait_for(state="attached")
    page.wait_for_function(KERNEL_READY, timeout=60_000)  # cells are still being laid out before
    picture.evaluate(SCROLL)
    assert picture.bounding_box()["width"] > 200
    assert page.get_by_text("Error displaying widget").count() == 0
    assert page.get_by_role("link", name="Scale-aware attention").first.is_visible(), "the map of the book"
    keep_screenshot(page, "fresh-clone")
