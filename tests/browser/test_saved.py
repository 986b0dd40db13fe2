"""Explorers in a notebook that was saved: opened again without a kernel, with trust and without, pictures compared."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import nbformat
import pytest

from .explorers import EXPLORERS, notebook, shown
from .lab import Lab, keep_screenshot, open_notebook, open_without_kernel, run_all, save, set_theme
from .pictures import is_blank, share_that_differs

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]

#: Of the pixels of a widget. Letters may be smoothed differently where it stands a fraction of a pixel further on.
MOST_OF_A_WIDGET = 0.01
#: Of the pixels of a still picture, which is the same file or is not.
MOST_OF_A_PICTURE = 0.001


@pytest.fixture(scope="module")
def saved(new_page, lab: Lab) -> tuple[Path, dict[str, bytes]]:
    """The notebook of all explorers as JupyterLab saved it, and what it looked like."""
    page, path = new_page(), lab.folder / "saved.ipynb"
    nbformat.write(notebook(), path)
    open_notebook(page, lab, path)
    run_all(page)
    set_theme(page, "Dark")
    looks = {name: shown(page, name).screenshot(animations="disabled") for name in EXPLORERS}
    save(page)
    page.close()
    return path, looks


def test_saved_explorers_look_the_same_without_a_kernel(saved, new_page, lab: Lab):
    """The setting that `make` gives to JupyterLab keeps the widgets' state in the file."""
    path, looks = saved
    page = new_page()
    copy = lab.folder / "reopened.ipynb"
    shutil.copy(path, copy)
    open_without_kernel(page, lab, copy)
    for name, before in looks.items():
        after = shown(page, name).screenshot(animations="disabled")
        assert not is_blank(after), name
        assert share_that_differs(before, after) <= MOST_OF_A_WIDGET, name
    keep_screenshot(page, "reopened")
    assert page.get_by_text("Error displaying widget").count() == 0


def test_without_trust_the_pictures_of_the_explorers_stand_in_their_place(saved, new_page, lab: Lab):
    """A notebook from elsewhere: Jupyter runs nothing of it, so each explorer is the picture in its mime bundle."""
    path, _ = saved
    foreign = nbformat.read(path, 4)
    foreign.cells[0].source += "\n# changed by somebody else: the signature does not fit any more"
    nbformat.write(foreign, lab.folder / "foreign.ipynb")
    page = new_page()
    open_without_kernel(page, lab, lab.folder / "foreign.ipynb")
    for cell, name in enumerate(EXPLORERS, start=1):
        picture = page.locator(".jp-CodeCell").nth(cell).locator("img[src^='data:image/png']")
        picture.wait_for()
        assert page.locator(f".{EXPLORERS[name]}").count() == 0, f"{name} runs without trust"
        png = base64.b64decode(picture.get_attribute("src").split(",")[1])
        rendered = (lab.folder / f"{name}.png").read_bytes()
        assert not is_blank(png), name
        assert share_that_differs(png, rendered) <= MOST_OF_A_PICTURE, name
        assert picture.get_attribute("alt"), f"{name} has no text for those who cannot see it"
    keep_screenshot(page, "foreign")
