"""The ablation switchboard by keyboard and mouse, with a detector that answers at once."""

from __future__ import annotations

from collections.abc import Callable

import nbformat
import pytest

from tests.notebooks.builder import builder

from .conftest import Lab
from .test_chapters import ALL_RAN, DARK, KERNEL_READY, RUN_ALL, keep_screenshot, open_notebook

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]

CELL = """
from matplotlib.figure import Figure
from dyhead_lab.views.figures import DPI, Picture
from dyhead_lab.views.switchboard import Switchboard

def show(**on):
    off = ", ".join(name for name, is_on in on.items() if not is_on) or "nothing"
    return Picture(Figure(figsize=(4, 2), dpi=DPI), alt=f"switched off: {off}")

Switchboard(show)
"""


def test_buttons_answer_keyboard_and_mouse_in_both_themes(new_page: Callable, lab: Lab):
    page = new_page()
    path = lab.folder / "switchboard.ipynb"
    cells = [nbformat.v4.new_code_cell(CELL)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=builder.METADATA), path)
    open_notebook(page, lab, path)
    page.wait_for_function(KERNEL_READY, timeout=60_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function(ALL_RAN, timeout=60_000)
    scale, spatial = (page.get_by_role("button", name=f"{name}: on") for name in ("scale", "spatial"))
    scale.wait_for()
    assert page.get_by_alt_text("switched off: nothing").bounding_box()["width"] == 400

    scale.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "spatial: on"
    page.keyboard.press("Space")
    page.get_by_alt_text("switched off: spatial").wait_for()
    assert spatial.count() == 0, "the button says its state"

    page.evaluate(DARK)
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    page.get_by_role("button", name="scale: on").click()
    page.get_by_alt_text("switched off: scale, spatial").wait_for()
    keep_screenshot(page, "switchboard-dark")
