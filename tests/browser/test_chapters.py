"""Chapters as a reader uses them: open, run, explore by keyboard and mouse, switch to the dark theme.

DYHEAD_SCREENSHOTS=folder keeps what the browser saw.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.builder import builder

from .conftest import TOKEN, Lab

# One process runs them all: they share a server, and the chapters would slow each other down.
pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]

RUN_SECONDS = 120
KERNEL_READY = "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN_ALL = "() => { jupyterapp.commands.execute('notebook:run-all-cells'); }"
ALL_RAN = """() => jupyterapp.shell.currentWidget.content.widgets.every(
    cell => cell.model.type !== 'code' || (cell.model.executionCount && cell.model.executionState === 'idle'))"""
DARK = "() => { jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'}); }"
BACKGROUND = "element => getComputedStyle(element).backgroundColor"
SCROLL = "element => element.scrollIntoView({block: 'center'})"


def open_notebook(page, lab: Lab, notebook: Path):
    page.goto(f"{lab.address}/lab/workspaces/{notebook.stem}/tree/{notebook.name}?reset&token={TOKEN}")
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)


def run_chapter(page, lab: Lab, prefix: str) -> None:
    """Open a chapter without outputs and run all its cells."""
    source = builder.chapters([prefix])[0]
    notebook = lab.folder / f"{source.stem}.ipynb"
    nbformat.write(builder.read_source(source), notebook)
    open_notebook(page, lab, notebook)
    page.wait_for_function(KERNEL_READY, timeout=60_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function(ALL_RAN, timeout=RUN_SECONDS * 1000)
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0, errors.first.inner_text()


def keep_screenshot(page, name: str) -> None:
    folder = os.environ.get("DYHEAD_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture(scope="module")
def explorer(new_page: Callable, lab: Lab):
    """The explorer of the first chapter, freshly run."""
    page = new_page()
    run_chapter(page, lab, "00")
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
    page.evaluate(DARK)
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    assert explorer.evaluate(BACKGROUND) != light
    explorer.evaluate(SCROLL)
    keep_screenshot(page, "explorer-dark")
    page.locator(".jp-RenderedImage img").first.evaluate(SCROLL)
    keep_screenshot(page, "detections-dark")


def test_a_thread_of_the_kernel_is_stepped_by_keyboard(new_page: Callable, lab: Lab):
    page = new_page()
    run_chapter(page, lab, "04")
    steps = page.locator(".dyhead-memory-steps")
    steps.wait_for()
    steps.evaluate(SCROLL)
    assert steps.locator(".ms-says").inner_text().startswith("Thread 14 reads weight[0]")
    assert steps.locator(".ms-cell.read").count() == 0
    steps.locator("input[type=range]").focus()
    for _ in range(6):  # two offsets, then the four pixels
        page.keyboard.press("ArrowRight")
    assert "reads input[" in steps.locator(".ms-says").inner_text()
    assert steps.locator(".ms-cell.read").count() == 4
    keep_screenshot(page, "memory-steps")


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
