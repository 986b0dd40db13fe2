"""How long the deformable convolution takes on a GPU: measured where there is one, else what was recorded on one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dyhead_lab.ops import deform_conv2d, native
from dyhead_lab.ops.bench.table import recorded


def gpu_report(channels: int = 256, size: tuple[int, int] = (100, 168), repeats: int = 20) -> str:
    """Forward time of ours and torchvision's on this machine's GPU.

    Without a GPU: what was recorded on one, or plainly that nothing was.

    Args:
        channels, size, repeats: of the live measurement.
    """
    problem = native.why_missing("cuda")
    if problem:
        table = recorded("cuda")
        return f"No GPU here. {problem}\n{told(table)}" if table else f"Not measured on a GPU. {problem}"
    from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

    generator = torch.Generator("cuda").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", generator=generator)

    x, dp = draw(1, channels, *size), draw(1, 18, *size)
    w, dm = draw(channels, channels, 3, 3) / channels, draw(1, 9, *size).sigmoid()
    ours = _milliseconds(lambda: deform_conv2d(x, dp, w, padding=1, mask=dm, backend="cuda"), repeats)
    theirs = _milliseconds(lambda: torchvision_deform_conv2d(x, dp, w, padding=1, mask=dm), repeats)
    shape = f"3x3, {channels} -> {channels} channels, {size[0]} x {size[1]}, float32"
    return f"{torch.cuda.get_device_name()}, {shape}: ours {ours:.3f} ms, torchvision {theirs:.3f} ms (medians)"


def told(table: dict[str, Any]) -> str:
    """A recorded table of the operator benchmark in lines: the machine, then a line per forward pass."""
    machine = table["machine"]
    lines = [f"Recorded on {machine['device']}, torch {machine['torch']}, {machine['date']} (medians):"]
    lines += [
        f"{row['problem']}: {row['who']} {row['median_ms']:.3f} ms, {row['times_faster_than_peer']:.1f} x {row['peer']}"
        for row in table["rows"]
        if row["pass"] == "forward" and row["who"] != row["peer"]
    ]
    return "\n".join(lines)


def _milliseconds(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times[3:]))  # the first runs warm up
