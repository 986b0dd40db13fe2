"""A laboratory for shared offsets: three maps of a scene, one of which knows where the others should look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from dyhead_lab.views.figures import BLUE, DPI, GREEN, INK, ORANGE, VERMILION, style

CHANNELS = 16
STRIDES = (8, 16, 32)  # finer, own, coarser
SIDE = 256  # of a scene, in pixels
REACH = 5.0  # cells of the level: nearer to the target than this they know the way to it
BRANCHES = ("finer", "own", "coarser")


def blob_scenes(images: int, generator: torch.Generator) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Scenes with one target and one decoy, 128 pixels apart or more.

    On every map there is a bump at the target and one of the opposite sign at the decoy, both one cell wide. Which of
    them is positive is drawn for each map alone. The level itself also says, in two channels, how far the target lies
    below and to the right of each near cell.

    Args:
        images: B.
        generator: of the scenes.

    Returns:
        maps (B, 16, 32, 32), (B, 16, 16, 16), (B, 16, 8, 8); whether the bump at the target is positive, (B, 3), as 0
        or 1; and which cells of the level are near it, (B, 16, 16).
    """
    top = 32 + (SIDE - 64) * torch.rand(images, 2, generator=generator)
    left = 40 + 48 * torch.rand(images, generator=generator)
    left = left + 128 * torch.randint(0, 2, (images,), generator=generator)
    target = torch.stack([top[:, 0], left], 1)
    decoy = torch.stack([top[:, 1], (left + 128) % SIDE], 1)
    positive = torch.randint(0, 2, (images, 3), generator=generator).float()
    maps = []
    for stride, sign in zip(STRIDES, (2 * positive - 1).T, strict=True):
        level = torch.zeros(images, CHANNELS, SIDE // stride, SIDE // stride)
        level[:, 0] = sign[:, None, None] * (_bump(target, stride) - _bump(decoy, stride))
        maps.append(level)
    cells = (torch.arange(SIDE / STRIDES[1]) + 0.5) * STRIDES[1]
    dy, dx = ((target[:, axis, None] - cells) / STRIDES[1] for axis in (0, 1))
    dy, dx = dy[:, :, None].expand(-1, -1, len(cells)), dx[:, None, :].expand(-1, len(cells), -1)
    near = dy**2 + dx**2 < REACH**2
    maps[1][:, 1], maps[1][:, 2] = near * dy / REACH, near * dx / REACH
    return maps, positive, near


def _bump(at: torch.Tensor, stride: int) -> torch.Tensor:
    """(B, n, n): 1 in the cell at ``at`` (B, 2), (y, x) in pixels, falling to 0 at one cell's distance."""
    cells = (torch.arange(SIDE / stride) + 0.5) * stride
    y, x = ((1 - (at[:, axis, None] - cells).abs() / stride).clamp(min=0) for axis in (0, 1))
    return y[:, :, None] * x[:, None, :]


def blob_losses_figure(losses: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """The loss of each branch's answer while it trains: a panel a branch, a line for each way to fit offsets.

    Args:
        losses: name of the way -> for each step the losses of the answers about the finer map, the level, the coarser.
    """
    with style():
        figure = Figure(figsize=(8.4, 3), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        looks = zip(losses.items(), (VERMILION, BLUE, GREEN, ORANGE), ("-", "--", "-", ":"), strict=False)
        for (name, rows), colour, dashes in looks:
            for axes, values in zip(panels, np.asarray(rows).T, strict=True):
                width = min(10, len(values))
                smooth = np.convolve(values, np.ones(width) / width, mode="valid")
                axes.plot(np.arange(len(smooth)) + width, smooth, dashes, color=colour, linewidth=1.8, label=name)
        for axes, name in zip(panels, BRANCHES, strict=True):
            axes.axhline(np.log(2), color=INK, linewidth=0.8, linestyle=":")
            axes.set(title=f"{name} map", xlabel="step", ylim=(0, 0.8))
        panels[0].set_ylabel("loss (dotted: guessing)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure
