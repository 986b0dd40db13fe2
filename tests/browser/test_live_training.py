"""A training in a cell, watched and stopped with the button of its own output; a log that plays without a kernel."""

from __future__ import annotations

import re

import nbformat
import pytest

from dyhead_book import build as builder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.training.checkpoint import CHECKPOINT, read

from .explorers import SCROLL
from .lab import ALL_RAN, KERNEL_READY, RUN_ALL, Lab, keep_screenshot, open_notebook

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

ENDLESS = 100_000  # iterations: only the button ends this run
RATIOS = """
import torch
from dyhead_lab.data.shapes import draw_set
from dyhead_lab.views.live_scale import LiveScale

images = [torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture, _ in draw_set(3, 7, 64)]
ratios = LiveScale("run", images, ["P3", "P4", "P5", "P6"])
ratios.show()
"""
TRAINING = f"""
import dyhead_lab
settings = dict(batch_size=1, precision="fp32", checkpoint_every=10, evaluate_every={ENDLESS}, watching=[ratios])
dyhead_lab.train("quickstart", "data", "run", iterations={ENDLESS}, model=dict(image_size=64), **settings)
"""
REPLAY = "from dyhead_lab.views.live import replay\nreplay('run')"


def open_with_cells(page, lab: Lab, name: str, *sources: str):
    """A new notebook with these cells, its kernel ready."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=builder.METADATA)
    nbformat.write(notebook, lab.folder / f"{name}.ipynb")
    open_notebook(page, lab, lab.folder / f"{name}.ipynb")
    page.wait_for_function(KERNEL_READY, timeout=60_000)
    page.evaluate(RUN_ALL)


def watch_ratios(page) -> None:
    """The scale explorer is renewed while the training holds the kernel, and answers all the same."""
    ratios = page.locator(".dyhead-scale-explorer")
    ratios.locator(".se-status", has_text=re.compile(r"iteration \d+0$")).wait_for()
    seen = ratios.locator(".se-status").inner_text()
    ratios.locator(".se-cell").last.click()
    ratios.locator(".se-bar").first.click()
    ratios.locator(".se-says", has_text="Block 1, P6: scale ratio").wait_for()
    page.wait_for_function("seen => document.querySelector('.se-status').textContent !== seen", arg=seen)
    assert "Block 1, P6" in ratios.locator(".se-says").inner_text(), "the choice stays"


def test_the_button_saves_and_stops_a_training_while_its_cell_runs_and_the_log_plays_again(new_page, lab: Lab):
    for split, images in (("train", 4), ("val", 2)):
        write_shapes(lab.folder / "data" / split, images=images, seed=1, size=64)
    page = new_page()
    open_with_cells(page, lab, "live", RATIOS, TRAINING, REPLAY)
    live = page.locator(".dyhead-live").first
    live.wait_for(timeout=60_000)
    live.evaluate(SCROLL)
    live.locator(".live-panel h4", has_text="Loss").wait_for(timeout=60_000)  # the first line of the log
    keep_screenshot(page, "live")
    watch_ratios(page)
    live.get_by_role("button", name="Save and stop").click()
    live.locator(".live-status", has_text=re.compile(r"stopped at iteration \d+ of")).first.wait_for(timeout=30_000)
    stopped = int(re.search(r"iteration (\d+) of", live.locator(".live-status").first.inner_text())[1])
    assert read(lab.folder / "run/last.pt", CHECKPOINT)["iteration"] == stopped < ENDLESS

    page.wait_for_function(ALL_RAN, timeout=60_000)
    played = page.locator(".dyhead-live").last
    played.evaluate(SCROLL)
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.shutdown()")
    slider = played.get_by_role("slider", name="Iteration")
    slider.focus()
    page.keyboard.press("Home")
    loss = played.locator(".live-picture").first
    assert loss.get_attribute("aria-label").startswith("Loss up to iteration 0: sum none yet")
    page.keyboard.press("End")
    assert f"up to iteration {stopped}" in loss.get_attribute("aria-label")
    played.get_by_role("button", name="Play").click()  # from the start, as it stands at the end
    played.locator(".live-status", has_text=f"iteration {stopped} of {stopped}").wait_for(timeout=30_000)
    keep_screenshot(page, "live-replay")
