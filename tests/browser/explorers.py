"""A notebook that shows every explorer once, and how a reader handles one."""

from __future__ import annotations

import json
from typing import Any

import nbformat
from nbformat import NotebookNode

from dyhead_book import build as builder

READY = """
import torch
from dyhead_lab.data.shapes import draw_set
from dyhead_lab.trace import trace
from dyhead_lab.zoo import load_trained

LEVELS = ["P3", "P4", "P5", "P6"]
images = [torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture, _ in draw_set(12, 2026, 160)]
image = images[5]

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
QUERIES = """
queries = SamplingPoints(look(sparse.model)[0], image)  # its layers have heads
queries.add_class("sampling-queries")
queries
"""
PIECES = """
from dyhead_lab.views.task_pieces import TaskPieces

pieces = TaskPieces(seen, LEVELS)
pieces
"""
TOKENS = """
from dyhead_lab.views.sparse_tokens import SparseTokens

def run(rho):
    sparse.model.rho = rho
    return look(sparse.model)

cost = lambda rho: 1e6 * (7 + 74 * rho)
tokens = SparseTokens(run, image, [0.05, 0.1, 0.3, 1.0], sparse.categories, cost=cost, start=0.3)
tokens
"""
BARS = """
from dyhead_lab.views.scale_explorer import ScaleExplorer, scale_numbers

numbers = scale_numbers(quickstart, images, len(LEVELS))
bars = ScaleExplorer(numbers, LEVELS, images)
bars
"""
WEIGHTS = """
from dyhead_lab.views.scale_weights import ScaleWeights, gates_of

with torch.no_grad(), trace(quickstart, lambda path, name: name == "scale_weights") as gates:
    quickstart(images)
weights = ScaleWeights(gates_of(gates), LEVELS, images)
weights
"""
STEPS = """
from dyhead_lab.ops import native
from dyhead_lab.views.memory_steps import MemorySteps

drawn = torch.Generator().manual_seed(0)
offset = torch.randn(1, 18, 5, 6, generator=drawn).clamp(-2, 2) * 0.8
input, weight = (torch.randn(1, 1, *size, generator=drawn) for size in ((5, 6), (3, 3)))
tensors = input, offset, weight, torch.rand(1, 9, 5, 6, generator=drawn)
unit = [1, 1]  # stride, padding, dilation, groups and offset groups
accesses = native.record("deform_conv2d_forward", *tensors, *unit * 4, threads=range(14, 15))
steps = MemorySteps(accesses, shapes={"input": (5, 6), "output": (5, 6)})
steps
"""
BOARD = """
from matplotlib.figure import Figure
from dyhead_lab.views.figures import DPI, INK, Picture, style
from dyhead_lab.views.switchboard import Switchboard

def show(**on):
    off = ", ".join(name for name, is_on in on.items() if not is_on) or "nothing"
    with style():
        figure = Figure(figsize=(4, 2), dpi=DPI)
        figure.text(0.1, 0.5, off, size=20, color=INK)
    return Picture(figure, alt=f"switched off: {off}")

board = Switchboard(show)
board
"""
CURVES = """
from dyhead_lab.views.live import replay

curves = replay()
curves
"""
#: Name in the notebook -> class of the element on the page.
EXPLORERS = {
    "points": "dyhead-sampling-points",
    "queries": "sampling-queries",
    "pieces": "dyhead-task-pieces",
    "tokens": "dyhead-sparse-tokens",
    "bars": "dyhead-scale-explorer",
    "weights": "dyhead-scale-weights",
    "steps": "dyhead-memory-steps",
    "board": "dyhead-switchboard",
    "curves": "dyhead-live",
}
#: Renders the pictures once more, from the numbers that the explorers hold, into files beside the notebook.
PICTURES = f"""
from pathlib import Path

for name in {list(EXPLORERS)}:
    Path(f"{{name}}.png").write_bytes(globals()[name].picture().png)
"""

#: Runs code in the kernel of the open notebook and gives what it prints.
ASK = """async (code) => {
  const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
  const asked = kernel.requestExecute({ code, store_history: false });
  let text = "";
  asked.onIOPub = ({ header, content }) => { if (header.msg_type === "stream") text += content.text; };
  await asked.done;
  return text;
}"""

SCROLL = "element => element.scrollIntoView({block: 'center'})"


def notebook() -> NotebookNode:
    """All explorers, one a cell, in the order of :data:`EXPLORERS`."""
    codes = (READY, POINTS, QUERIES, PIECES, TOKENS, BARS, WEIGHTS, STEPS, BOARD, CURVES, PICTURES)
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    return nbformat.v4.new_notebook(cells=cells, metadata=builder.METADATA)


def shown(page, name: str):
    """The element of an explorer, scrolled to."""
    widget = page.locator(f".{EXPLORERS[name]}").first
    widget.wait_for()
    widget.evaluate(SCROLL)
    return widget


def look(page, name: str) -> bytes:
    """A screenshot of an explorer; of the board its picture: Jupyter's sign of a missing kernel moves the buttons."""
    widget = shown(page, name)
    part = widget.locator("img") if name == "board" else widget
    return part.screenshot(animations="disabled")


def wait_for_change(page, widget, selector: str, before: str) -> str:
    """The text of a part of the widget once it is no longer ``before``."""
    part = widget.locator(selector)
    page.wait_for_function("([part, before]) => part.textContent !== before", arg=[part.element_handle(), before])
    return part.inner_text()


def state(page, name: str, *traits: str) -> dict[str, Any]:
    """What Python holds of an explorer once it has answered all choices made on the page."""
    page.locator(f".{EXPLORERS[name]}[aria-busy=true]").wait_for(state="detached")
    values = ", ".join(f"{trait!r}: {name}.{trait}" for trait in traits)
    return json.loads(page.evaluate(ASK, f"import json; print(json.dumps({{{values}}}))"))
