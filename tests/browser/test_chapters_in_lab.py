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


def run_chapter(page, lab: Lab, prefix: str) -> None:
    """Open a chapter without outputs and run all its cells."""
    source = builder.chapters([prefix])[0]
    notebook = lab.folder / f"{builder.title(source)}.ipynb"
    nbformat.write(builder.read_source(source), notebook)
    open_notebook(page, lab, notebook)
    run_all(page)


@pytest.fixture(scope="module")
def explorer(new_page: Callable, lab: Lab):
    """The explorer of the first chapter, freshly run."""
    page = new_page()
    run_chapter(page, lab, "00")
    set_theme(page, "Light")
    found = page.locator(".dyhead-scale-weights")
    found.wait_for()
    found.evaluate(SCROLL)
    return found


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
    page.locator(".jp-RenderedImage img").first.evaluate(SCROLL)
    keep_screenshot(page, "detections-dark")


def test_a_fresh_clone_shows_pictures_before_anything_runs(new_page: Callable, lab: Lab):
    """The built notebook, opened in a Jupyter that does not trust it and has no kernel state."""
    page = new_page()
    notebook = lab.folder / "fresh.ipynb"
    shutil.copy(builder.target(builder.chapters(["00"])[0]), notebook)
    open_notebook(page, lab, notebook)
    cell = page.locator(".jp-CodeCell", has_text="ScaleWeights(gates_of(")
    picture = cell.locator(".dyhead-scale-weights, img[src^='data:image/png']").first
    picture.wait_for(state="attached")
    page.wait_for_function(KERNEL_READY, timeout=60_000)  # cells are still being laid out before
    picture.evaluate(SCROLL)
    assert picture.bounding_box()["width"] > 200
    assert page.get_by_text("Error displaying widget").count() == 0
    keep_screenshot(page, "fresh-clone")
