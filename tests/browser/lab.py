"""What a reader does in JupyterLab: open, run, save, switch the theme."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TOKEN = "browser-test"
KERNEL_READY = "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN_ALL = "() => { jupyterapp.commands.execute('notebook:run-all-cells'); }"
ALL_RAN = """() => jupyterapp.shell.currentWidget.content.widgets.every(
    cell => cell.model.type !== 'code' || (cell.model.executionCount && cell.model.executionState === 'idle'))"""
SET_THEME = "name => { jupyterapp.commands.execute('apputils:change-theme', {theme: `JupyterLab ${name}`}); }"
IS_LIGHT = "light => document.body.dataset.jpThemeLight === light"


@dataclass(frozen=True)
class Lab:
    """A JupyterLab server."""

    address: str
    folder: Path  # what it shows


def open_notebook(page, lab: Lab, notebook: Path) -> None:
    page.goto(f"{lab.address}/lab/workspaces/{notebook.stem}/tree/{notebook.name}?reset&token={TOKEN}")
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)


def end_kernel(page) -> None:
    """End the kernel that JupyterLab starts with every notebook. What is shown has to stand without one."""
    page.wait_for_function(KERNEL_READY, timeout=60_000)
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.wait_for_function("() => !jupyterapp.shell.currentWidget.sessionContext.session?.kernel")


def run_all(page, seconds: float = 120) -> None:
    """Run every cell and wait until all have ended without an error."""
    page.wait_for_function(KERNEL_READY, timeout=60_000)
    page.evaluate(RUN_ALL)
    page.wait_for_function(ALL_RAN, timeout=seconds * 1000)
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0, errors.first.inner_text()


def save(page) -> None:
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")


def set_theme(page, name: str) -> None:
    """``name``: "Light" or "Dark"."""
    page.evaluate(SET_THEME, name)
    page.wait_for_function(IS_LIGHT, arg=str(name == "Light").lower())


def keep_screenshot(page, name: str) -> None:
    """DYHEAD_SCREENSHOTS=folder keeps what the browser saw."""
    if "DYHEAD_SCREENSHOTS" in os.environ:
        keep_picture(name, page.screenshot())


def keep_picture(name: str, png: bytes) -> None:
    """The same for a picture of a part of the page."""
    folder = os.environ.get("DYHEAD_SCREENSHOTS")
    if folder:
        (Path(folder) / f"{name}.png").write_bytes(png)
