"""What a warp does to memory: the sectors that its lanes ask for at once, what moves, and additions that meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from dyhead_lab.ops.cuda_text import Launch
from dyhead_lab.ops.native import Access
from dyhead_lab.views.figures import BLUE, DPI, ORANGE, SKY, VERMILION, style

SECTOR_BYTES = 32  # what global memory moves in, since compute capability 6


def instructions(accesses: Sequence[Access], buffer: str, operation: str = "read") -> np.ndarray:
    """Indices (instructions, threads): row n holds what every thread touched with its n-th access to ``buffer``.

    Threads of a warp run together, so a row is what the memory is asked for at once. Threads that do less than others,
    as outside of the image, leave a -1.

    Raises:
        ValueError: nothing fits.
    """
    per_thread: dict[int, list[int]] = {}
    for access in accesses:
        if access.buffer == buffer and access.operation == operation:
            per_thread.setdefault(access.thread, []).append(access.index)
    if not per_thread:
        raise ValueError(f"accesses: no thread makes an access ({operation}) to {buffer!r}")
    longest = max(map(len, per_thread.values()))
    rows = [per_thread.get(thread, []) for thread in range(min(per_thread), max(per_thread) + 1)]
    return np.array([row + [-1] * (longest - len(row)) for row in rows]).T


def sectors_touched(indices: np.ndarray, element_bytes: int = 4) -> np.ndarray:
    """How many sectors of 32 bytes each instruction needs, (instructions,); see :func:`instructions`."""
    return np.array([len(np.unique(row[row >= 0] * element_bytes // SECTOR_BYTES)) for row in indices])


def warp_figure(warps: Mapping[str, np.ndarray], instruction: int = 0, element_bytes: int = 4) -> Figure:
    """Which address each lane of a warp asks for in one instruction, over the sectors that must move.

    Args:
        warps: title -> indices (instructions, threads), as :func:`instructions` gives them.
        instruction: which row to draw.
        element_bytes: bytes of an element.
    """
    per_sector = SECTOR_BYTES // element_bytes
    with style():
        figure = Figure(figsize=(8, 1.7 * len(warps) + 0.6), dpi=DPI, layout="constrained")
        rows = figure.subplots(len(warps), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (title, indices) in zip(rows, warps.items(), strict=True):
            addresses = indices[instruction]
            lanes = np.flatnonzero(addresses >= 0)
            for sector in np.unique(addresses[lanes] // per_sector):
                axes.axvspan(sector * per_sector, (sector + 1) * per_sector, color=SKY, alpha=0.35, linewidth=0)
            axes.plot(addresses[lanes] + 0.5, lanes, ".", color=VERMILION, markersize=6)
            count = sectors_touched(indices, element_bytes)[instruction]
            axes.set_title(f"{title}: {count} sectors of {SECTOR_BYTES} bytes", fontsize=10)
            axes.set(ylim=(len(addresses), -1), yticks=(0, len(addresses) - 1), ylabel="lane")
        figure.supxlabel("element of the plane", fontsize=10)
    return figure


def traffic_figure(launches: Mapping[str, Launch], memory: str | None = None) -> Figure:
    """Bytes of global memory that were used, and those that moved for it, as bars.

    Args:
        launches: title -> launch.
        memory: a parameter's name; all tensors together if not given.
    """
    with style():
        figure = Figure(figsize=(8, 0.62 * len(launches) + 1), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        for shift, label, colour, count in (
            (-0.19, "used by threads", BLUE, Launch.bytes_used),
            (0.19, "moved, in whole sectors", ORANGE, Launch.bytes_moved),
        ):
            kilobytes = [count(launch, memory) / 1000 for launch in launches.values()]
            bars = axes.barh(np.arange(len(launches)) + shift, kilobytes, 0.36, color=colour, label=label)
            axes.bar_label(bars, [f" {value:,.0f}" for value in kilobytes], fontsize=9)
        axes.set_yticks(range(len(launches)), list(launches))
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.set_xlabel(f"kB of {'all tensors' if memory is None else f'the tensor {memory}'}")
        figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def grey_figure(photo: Tensor, grey: Tensor) -> Figure:
    """A photograph (3, H, W) beside its grey values (H, W), all in [0, 1]."""
    with style():
        figure = Figure(figsize=(8, 3), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        left.imshow(photo.permute(1, 2, 0))
        shown = right.imshow(grey, cmap="gray", vmin=0, vmax=1)
        for axes, title in ((left, "image (3, H, W)"), (right, "out (H, W)")):
            axes.set_title(title, fontsize=10)
            axes.set(xticks=(), yticks=())
        figure.colorbar(shown, ax=right, label="grey value", shrink=0.85)
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
        figure = Figure(figsize=(0.5 * columns + 1.4, 0.42 * rows + 0.6), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        shown = axes.imshow(grid, cmap="viridis", vmin=0)
        for (row, column), count in np.ndenumerate(grid):
            colour = "black" if count > 0.6 * grid.max() else "white"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=9, color=colour)
        axes.set(xticks=range(columns), yticks=range(rows), xlabel="column", ylabel="row")
        figure.colorbar(shown, ax=axes, label="additions", shrink=0.8)
    return figure
