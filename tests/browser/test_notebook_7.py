"""Notebook 7, the other front end of Jupyter: explorers and questions are shown, react, and Python follows."""

from __future__ import annotations

from collections.abc import Callable

import nbformat
import pytest

from dyhead_book import build as builder

from .explorers import BARS, POINTS, READY, shown, state, wait_for_change
from .lab import TOKEN, Lab, keep_screenshot, run_all, set_theme

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]

QUESTION = """
from dyhead_book.practice.predictions import Question

Question("99 notebook", "Which neighbour counts more?", a="the finer one", b="the coarser one").ask()
"""


@pytest.fixture(scope="module")
def page(new_page: Callable, notebook_7: Lab):
    """Two explorers and a question, freshly run."""
    path = notebook_7.folder / "explorers.ipynb"
    cells = [nbformat.v4.new_code_cell(code) for code in (READY, POINTS, BARS, QUESTION)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=builder.METADATA), path)
    page = new_page()
    page.goto(f"{notebook_7.address}/notebooks/{path.name}?token={TOKEN}")
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)
    run_all(page)
    return page


def test_it_is_notebook_7_that_is_tried(page):
    assert page.evaluate("() => jupyterapp.name") == "Jupyter Notebook"


def test_a_place_is_chosen_by_mouse_and_keyboard_and_python_follows(page):
    widget = shown(page, "points")
    before, says = state(page, "points", "place"), widget.locator(".sp-says").first.inner_text()
    box = widget.locator(".sp-view image").bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.8 * box["height"])
    says = wait_for_change(page, widget, ".sp-says >> nth=0", says)
    clicked = state(page, "points", "place")
    assert "weight" in says and clicked != before
    here = widget.locator(".sp-here").get_attribute("d")
    widget.locator(".sp-view").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("d => document.querySelector('.sp-here').getAttribute('d') !== d", arg=here)
    assert state(page, "points", "place") != clicked
    keep_screenshot(page, "notebook-7")


def test_radios_drawn_by_hand_are_moved_by_keys(page):
    bars = shown(page, "bars")
    before = state(page, "bars", "level")
    bars.locator("[role=radio][tabindex='0']").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.activeElement.getAttribute('aria-checked') === 'true'")
    assert state(page, "bars", "level") != before


def test_a_guess_is_told_at_once(page):
    asked = page.locator(".dyhead-question")
    asked.get_by_role("button", name="a: the finer one").click()
    asked.get_by_text("Your guess: a. It is kept until the end of the chapter.").wait_for()


def test_the_dark_theme_reaches_an_explorer(page):
    background = "element => getComputedStyle(element).backgroundColor"
    bars = shown(page, "bars")
    light = bars.evaluate(background)
    set_theme(page, "Dark")
    assert bars.evaluate(background) != light
    keep_screenshot(page, "notebook-7-dark")
