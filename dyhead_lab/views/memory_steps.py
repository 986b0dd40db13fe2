"""Explorer: what a thread of a kernel does to memory, step by step.

It is drawn from a list of :class:`~dyhead_lab.ops.native.Access`, as ``native.record`` returns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..ops.native import Access
from .explorer import Explorer
from .figures import BLUE, DPI, GREEN, INK, ORANGE, Picture, ink_on, style

CELL = 0.6  # inches: three lines of 9 points
COLOURS = {"read": BLUE, "write": GREEN, "atomic_add": ORANGE}


class MemorySteps(Explorer, static="memory_steps"):
    """Step through the accesses of a thread, by slider or arrow keys, and see where each one lands.

    Args:
        accesses: in the order in which they were made.
        shapes: buffers to draw, name -> (rows, columns); accesses to other buffers are told in words only.
    """

    buffers: Any = traitlets.List().tag(sync=True)
    steps: Any = traitlets.List().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(self, accesses: Sequence[Access], shapes: Mapping[str, tuple[int, int]]):
        if not accesses:
            raise ValueError("accesses: got none, expected at least 1")
        self._accesses, self._shapes = list(accesses), dict(shapes)
        super().__init__(
            buffers=[{"name": name, "rows": rows, "columns": columns} for name, (rows, columns) in shapes.items()],
            steps=[[a.thread, a.operation, a.buffer, a.index, a.count, round(a.value, 4)] for a in accesses],
        )

    @traitlets.validate("step")
    def _in_range(self, proposal: Any) -> int:
        if not 0 <= proposal.value < len(self.steps):
            raise traitlets.TraitError(f"step: got {proposal.value}, expected 0..{len(self.steps) - 1}")
        return proposal.value

    def picture(self) -> Picture:
        """All steps at once."""
        count = f"{len(self._accesses)} accesses of {len({a.thread for a in self._accesses})} thread(s)"
        figure = accesses_figure(self._accesses, self._shapes)
        return Picture(figure, f"Memory cells with the numbers of {count}.")


def accesses_figure(accesses: Sequence[Access], shapes: Mapping[str, tuple[int, int]]) -> Figure:
    """The buffers as grids; a touched cell carries the numbers of the steps that touched it."""
    columns = [shape[1] for shape in shapes.values()]
    with style():
        figure = Figure(figsize=(CELL * sum(columns) + 1, CELL * max(r for r, _ in shapes.values()) + 0.7), dpi=DPI)
        figure.set_layout_engine("constrained")
        grid = figure.subplots(1, len(shapes), squeeze=False, width_ratios=columns)[0]
        for axes, (name, (height, width)) in zip(grid, shapes.items(), strict=True):
            touched: dict[int, list[tuple[int, str]]] = {}
            for step, access in enumerate(accesses, 1):
                if access.buffer == name:
                    for index in range(access.index, access.index + access.count):
                        touched.setdefault(index, []).append((step, access.operation))
            for index in range(height * width):
                row, column = divmod(index, width)
                steps = touched.get(index, [])
                if not steps:
                    axes.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor=INK))
                    continue
                face = COLOURS[steps[-1][1]]
                axes.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor=INK))
                text = "\n".join(str(step) for step, _ in steps[:3]) + ("…" if len(steps) > 3 else "")
                middle = column + 0.5, row + 0.5
                axes.text(*middle, text, ha="center", va="center", fontsize=9, linespacing=1, color=ink_on(face))
            axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=(), yticks=())
            axes.set_title(name, fontsize=10)
            axes.spines[:].set_visible(False)
    return figure
