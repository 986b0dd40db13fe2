"""Explorers in a notebook that was saved: opened again without a kernel, with trust and without, pictures compared."""

from __future__ import annotations

import base64
import shutil

import nbformat
import pytest

from .conftest import Explored
from .explorers import EXPLORERS, look, shown
from .lab import Lab, end_kernel, keep_picture, keep_screenshot, open_notebook, set_theme
from .pictures import is_blank, share_that_differs

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]

#: Of the pixels of a widget: Jupyter's sign that it has no kernel, and letters that are smoothed differently where it
#: stands a fraction of a pixel further on.
MOST_OF_A_WIDGET = 0.003
#: Of the pixels of a still picture, which is the same file or is not.
MOST_OF_A_PICTURE = 0.001


def test_saved_explorers_look_the_same_without_a_kernel_and_answer(explored: Explored, new_page, lab: Lab):
    """The setting that `make` gives to JupyterLab keeps the widgets' state in the file."""
    page = new_page()
    copy = shutil.copy(explored.path, lab.folder / "reopened.ipynb")
    open_notebook(page, lab, copy)
    for name in EXPLORERS:
        shown(page, name)  # JupyterLab makes widgets from the file when it knows that the new kernel has none
    end_kernel(page)
    set_theme(page, "Light")
    for name, before in explored.looks.items():
        after = look(page, name)
        keep_picture(f"{name}-before", before)
        keep_picture(f"{name}-after", after)
        assert not is_blank(after), name
        assert share_that_differs(before, after) <= MOST_OF_A_WIDGET, name
    assert page.get_by_text("Error displaying widget").count() == 0
    check_that_it_waits(page)
    bars = shown(page, "bars")
    first = bars.get_by_label("What is measured").locator("option").first
    assert first.inner_text() == "scale ratio", "a saved notebook sorts the keys of its objects"
    bars.locator(".se-cell").last.click()
    bars.locator(".se-bar").last.click()
    assert "Block 1, P6: scale ratio" in bars.locator(".se-says").inner_text()
    keep_screenshot(page, "reopened")


def check_that_it_waits(page) -> None:
    """Where Python computes what is drawn, a choice without a kernel shows that it has no answer."""
    pieces = shown(page, "pieces")
    says = pieces.locator(".tp-says").inner_text()
    pieces.get_by_label("Level").select_option("P4")
    assert pieces.get_attribute("aria-busy") == "true" and pieces.locator(".tp-says").inner_text() == says
    pieces.get_by_label("Level").select_option("P3")
    assert pieces.get_attribute("aria-busy") == "false", "the choice that was answered"
    queries = shown(page, "queries")
    drawn = queries.locator(".sp-point").count()
    queries.get_by_label("Head", exact=True).select_option(label="head 2")
    assert queries.get_attribute("aria-busy") == "true" and queries.locator(".sp-point").count() < drawn


def test_without_trust_the_pictures_of_the_explorers_stand_in_their_place(explored: Explored, new_page, lab: Lab):
    """A notebook from elsewhere: Jupyter runs nothing of it, so each explorer is the picture in its mime bundle."""
    foreign = nbformat.read(explored.path, 4)
    foreign.cells[0].source += "\n# changed by somebody else: the signature does not fit any more"
    nbformat.write(foreign, lab.folder / "foreign.ipynb")
    page = new_page()
    open_notebook(page, lab, lab.folder / "foreign.ipynb")
    end_kernel(page)
    for cell, name in enumerate(EXPLORERS, start=1):
        picture = page.locator(".jp-CodeCell").nth(cell).locator("img[src^='data:image/png']")
        picture.wait_for()
        assert page.locator(f".{EXPLORERS[name]}").count() == 0, f"{name} runs without trust"
        png = base64.b64decode(picture.get_attribute("src").split(",")[1])
        rendered = (lab.folder / f"{name}.png").read_bytes()
        assert not is_blank(png), name
        assert share_that_differs(png, rendered) <= MOST_OF_A_PICTURE, name
    keep_screenshot(page, "foreign")
