"""What a warp does to memory: the addresses that its lanes ask for at once, and additions that meet.

Everything here is drawn from a list of :class:`~dyhead_lab.ops.native.Access`, as ``native.record`` returns it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dyhead_lab.ops.native import Access
from dyhead_lab.views.figures import DPI, SKY, VERMILION, style

LINE_BYTES = 128  # what a warp's loads are gathered into


def instructions(accesses: Sequence[Access], buffer: str, operation: str = "read") -> np.ndarray:
    """Indices (instructions, threads): row n holds what every thread touched with its n-th access to ``buffer``.

    Threads of a warp run together, so a row is what the memory is asked for at once.

    Raises:
        ValueError: if nothing fits, or the threads made different numbers of accesses, so that rows do not exist.
    """
    per_thread: dict[int, list[int]] = {}
    for access in accesses:
        if access.buffer == buffer and access.operation == operation:
            per_thread.setdefault(access.thread, []).append(access.index)
    lengths = {len(indices) for indices in per_thread.values()}
    if len(lengths) != 1:
        raise ValueError(
            f"accesses: threads make {sorted(lengths) or 'no'} accesses ({operation}) to {buffer!r}, "
            "expected the same number from each"
        )
    return np.array([per_thread[thread] for thread in sorted(per_thread)]).T


def lines_touched(indices: np.ndarray, element_bytes: int = 4) -> np.ndarray:
    """How many memory lines of 128 bytes each instruction needs, (instructions,); see :func:`instructions`."""
    return np.array([len(np.unique(row * element_bytes // LINE_BYTES)) for row in indices])


def warp_figure(warps: Mapping[str, np.ndarray], instruction: int = 0, element_bytes: int = 4) -> Figure:
    """Which address each lane of a warp asks for in one instruction, over the memory lines that must move.

    Args:
        warps: title -> indices (instructions, threads), as :func:`instructions` gives them.
        instruction: which row to draw.
        element_bytes: bytes of an element.
    """
    per_line = LINE_BYTES // element_bytes
    with style():
        figure = Figure(figsize=(8, 1.6 * len(warps) + 0.6), dpi=DPI, layout="constrained")
        rows = figure.subplots(len(warps), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (title, indices) in zip(rows, warps.items(), strict=True):
            addresses = indices[instruction]
            for line in np.unique(addresses // per_line):
                axes.axvspan(line * per_line, (line + 1) * per_line, color=SKY, alpha=0.3, linewidth=0)
            axes.plot(addresses + 0.5, range(len(addresses)), ".", color=VERMILION, markersize=5)
            count = lines_touched(indices, element_bytes)[instruction]
            axes.set_title(f"{title}: {count} lines of {LINE_BYTES} bytes", fontsize=10)
            axes.set(ylim=(len(addresses), -1), yticks=(0, len(addresses) - 1), ylabel="lane")
        figure.supxlabel("element of the buffer", fontsize=9)
    return figure


def atomics_figure(accesses: Sequence[Access], buffer: str, shape: tuple[int, int]) -> Figure:
    """How often each cell of ``buffer`` (rows, columns) is added to atomically.

    Additions to one cell happen one after another, so a high number is a queue.
    """
    rows, columns = shape
    counts = Counter(
        access.index for access in accesses if access.operation == "atomic_add" and access.buffer == buffer
    )
    grid = np.array([counts[index] for index in range(rows * columns)]).reshape(shape)
    with style():
        figure = Figure(figsize=(0.42 * columns + 1.4, 0.42 * rows + 0.6), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        shown = axes.imshow(grid, cmap="viridis", vmin=0)
        for (row, column), count in np.ndenumerate(grid):
            colour = "black" if count > 0.6 * grid.max() else "white"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
        axes.set(xticks=(), yticks=())
        figure.colorbar(shown, ax=axes, label="additions", shrink=0.8)
    return figure
