"""The explorers in JupyterLab: mouse, keyboard, both themes, saved and opened again without a kernel."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import nbformat
import pytest

from tests.notebooks.builder import builder

from .accessibility import problems
from .conftest import Lab
from .test_chapters import ALL_RAN, DARK, KERNEL_READY, RUN_ALL, SCROLL, keep_screenshot, open_notebook

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]

READY = """
import torch
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.trace import trace
from dyhead_lab.zoo import load_trained

image = torch.from_numpy(draw_image(2026, 5)[0]).permute(2, 0, 1) / 255

def look(model):
    with torch.no_grad(), trace(model) as seen:
        [detection] = model([image])
    return seen, detection

quickstart, sparse = load_trained("quickstart").model, load_trained("sparse_detr_tiny")
seen, _ = look(quickstart)
"""
POINTS = """
from dyhead_lab.views.sampling_points import SamplingPoints

points = SamplingPoints(seen, image)
points.layer = 3
points
"""
PIECES = """
from dyhead_lab.views.task_pieces import TaskPieces

TaskPieces(seen, ["P3", "P4", "P5", "P6"])
"""
TOKENS = """
from dyhead_lab.views.sparse_tokens import SparseTokens

def run(rho):
    sparse.model.rho = rho
    return look(sparse.model)

SparseTokens(run, image, [0.05, 0.1, 0.3, 1.0], sparse.categories, cost=lambda rho: 1e6 * (7 + 74 * rho), start=0.3)
"""
WIDGETS = ("dyhead-sampling-points", "dyhead-task-pieces", "dyhead-sparse-tokens")


@pytest.fixture(scope="module")
def page(new_page: Callable, lab: Lab):
    """A notebook with three explorers, freshly run."""
    page = new_page()
    path = lab.folder / "explorers.ipynb"
    cells = [nbformat.v4.new_code_cell(code) for code in (READY, POINTS, PIECES, TOKENS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=builder.METADATA), path)
    open_notebook(page, lab, path)
    page.wait_for_function(KERNEL_READY, timeout=60_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function(ALL_RAN, timeout=120_000)
    return page


def shown(page, name: str):
    widget = page.locator(f".{name}").first
    widget.wait_for()
    widget.evaluate(SCROLL)
    return widget


def wait_for_change(page, widget, selector: str, before: str) -> str:
    """The text of a part of the widget once it is no longer ``before``."""
    part = widget.locator(selector)
    page.wait_for_function("([part, before]) => part.textContent !== before", arg=[part.element_handle(), before])
    return part.inner_text()


def test_sampling_points_answer_mouse_and_keyboard(page):
    widget = shown(page, WIDGETS[0])
    says = widget.locator(".sp-says").first
    before = says.inner_text()
    box = widget.locator(".sp-view image").bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.8 * box["height"])
    clicked = wait_for_change(page, widget, ".sp-says >> nth=0", before)
    here = widget.locator(".sp-here")
    place = here.get_attribute("d")
    widget.locator(".sp-view").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("d => document.querySelector('.sp-here').getAttribute('d') !== d", arg=place)
    assert "weight" in clicked
    widget.locator(".sp-corners").focus()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('.sp-right').textContent.includes('Moving this one point')")
    reset = widget.get_by_role("button", name="Put the point back")
    reset.click()
    page.wait_for_function("() => document.querySelector('.sp-right button').disabled")


def test_task_pieces_answer_mouse_and_keyboard(page):
    widget = shown(page, WIDGETS[1])
    before = widget.locator(".tp-says").inner_text()
    widget.locator("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    second = wait_for_change(page, widget, ".tp-says", before)
    widget.get_by_label("Level").select_option("P6")
    third = wait_for_change(page, widget, ".tp-says", second)
    widget.locator(".tp-dot").nth(20).dispatch_event("click")
    wait_for_change(page, widget, ".tp-says", third)


def test_fewer_tokens_are_outlined_when_rho_falls(page):
    widget = shown(page, WIDGETS[2])
    before = widget.locator(".st-says").inner_text()
    kept = widget.locator(".st-cell.kept").count()
    widget.locator("input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    after = wait_for_change(page, widget, ".st-says", before)
    assert 0 < widget.locator(".st-cell.kept").count() < kept
    assert "53 of 525 tokens" in after
    assert widget.locator(".st-dot.corr").count() == 2, "the chart keeps both ratios"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", WIDGETS)
def test_everything_has_a_name_and_can_be_read(page, name, theme):
    if theme == "dark":
        page.evaluate(DARK)
        page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    widget = shown(page, name)
    keep_screenshot(page, f"{name}-{theme}")
    assert problems(widget) == []


def test_a_saved_notebook_shows_its_explorers_without_a_kernel(page, new_page, lab):
    """The setting that `make` gives to JupyterLab keeps the widgets' state in the file."""
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")
    shutil.copy(lab.folder / "explorers.ipynb", lab.folder / "reopened.ipynb")
    other = new_page()
    open_notebook(other, lab, lab.folder / "reopened.ipynb")
    for name in WIDGETS:
        shown(other, name)
    keep_screenshot(other, "reopened")
    assert other.get_by_text("Error displaying widget").count() == 0
