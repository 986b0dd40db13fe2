"""The first chapter as a reader uses it: open, run, explore by keyboard and mouse, switch to the dark theme.

DYHEAD_SCREENSHOTS=folder keeps what the browser saw.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.builder import builder

from .conftest import TOKEN

pytestmark = [pytest.mark.browser, pytest.mark.notebook]

RUN_SECONDS = 120
KERNEL_READY = "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN_ALL = "() => { jupyterapp.commands.execute('notebook:run-all-cells'); }"
ALL_RAN = """() => jupyterapp.shell.currentWidget.content.widgets.every(
    cell => cell.model.type !== 'code' || (cell.model.executionCount && cell.model.executionState === 'idle'))"""
DARK = "() => { jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'}); }"
BACKGROUND = "element => getComputedStyle(element).backgroundColor"
SCROLL = "element => element.scrollIntoView({block: 'center'})"


def open_notebook(page, address: str, name: str) -> None:
    page.goto(f"{address}/lab/tree/{name}?reset&token={TOKEN}")
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)


def keep_screenshot(target, name: str) -> None:
    folder = os.environ.get("DYHEAD_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        target.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture
def explorer(page, lab: str, tmp_path: Path):
    """The explorer of the first chapter, freshly run."""
    source = builder.chapters(["00"])[0]
    nbformat.write(builder.read_source(source), tmp_path / "chapter.ipynb")
    open_notebook(page, lab, "chapter.ipynb")
    page.wait_for_function(KERNEL_READY, timeout=60_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function(ALL_RAN, timeout=RUN_SECONDS * 1000)
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
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


def test_the_explorer_answers_keyboard_and_mouse_and_python_follows(page, explorer):
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


def test_the_dark_theme_reaches_the_explorer(page, explorer):
    light = explorer.evaluate(BACKGROUND)
    page.evaluate(DARK)
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    assert explorer.evaluate(BACKGROUND) != light
    explorer.evaluate(SCROLL)
    keep_screenshot(page, "explorer-dark")
    page.locator(".jp-RenderedImage img").first.evaluate(SCROLL)
    keep_screenshot(page, "detections-dark")


def test_a_fresh_clone_shows_pictures_before_anything_runs(page, lab: str, tmp_path: Path):
    built = builder.target(builder.chapters(["00"])[0])
    shutil.copy(built, tmp_path / "chapter.ipynb")
    open_notebook(page, lab, "chapter.ipynb")
    page.locator("text=What the detector has learned about scale").first.evaluate(SCROLL)
    shown = page.locator(".dyhead-scale-weights, .jp-RenderedImage img[src^='data:image/png']")
    shown.first.wait_for()
    assert page.locator("text=Error displaying widget").count() == 0
    keep_screenshot(page, "fresh-clone")
