"""What a detector costs: parameters, multiply-adds and time, by part.

Multiply-adds (MAC) are those of convolutions and matrix products, one per product of a weight and a number. Papers on
detection call them FLOPs. A deformable convolution counts as the ordinary one of its size: moving the taps adds four
per tap and input channel, under 2 % at 256 output channels. Deformable attention counts five per sampled channel: four
corners and a weight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..attention import OFFSET_FITS, DyHead
from ..ops import deform_conv, ms_deform_attn  # noqa: F401  their import registers the operators


def _deform_conv2d(input: Any, offset: Any, weight: Sequence[int], *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


def _ms_deform_attn(value: Sequence[int], *shapes: Any, out_shape: Any = None, **__: Any) -> int:
    B, Q, M, L, P, _ = shapes[2]  # sampling locations follow spatial_shapes and level_start_index
    return 2 * 5 * B * Q * M * L * P * value[-1]


_OURS = {
    torch.ops.dyhead_lab.deform_conv2d: _deform_conv2d,
    torch.ops.dyhead_lab.ms_deform_attn: _ms_deform_attn,
}


@dataclass(frozen=True)
class Cost:
    """What one part costs for one image."""

    name: str
    parameters: int
    macs: int
    seconds: float


@dataclass(frozen=True)
class Efficiency:
    """What a detector costs on one image of ``size`` (H, W): by part, and ``whole``."""

    parts: tuple[Cost, ...]
    whole: Cost
    size: tuple[int, int]
    device: str

    @property
    def fps(self) -> float:
        """Images per second, one at a time."""
        return 1 / self.whole.seconds

    def table(self) -> str:
        """The costs as text, one line per part."""
        height, width = self.size
        lines = [f"one image of {height} x {width} pixels on {self.device}; GMAC: 10^9 multiply-adds"]
        lines.append(f"{'part':<20}{'parameters':>14}{'GMAC':>10}{'ms':>10}")
        for cost in (*self.parts, self.whole):
            lines.append(f"{cost.name:<20}{cost.parameters:>14,}{cost.macs / 1e9:>10.2f}{1e3 * cost.seconds:>10.1f}")
        return "\n".join([*lines, f"{self.fps:.2f} images per second"])


def efficiency(model: nn.Module, size: tuple[int, int] = (800, 1333), runs: int = 3) -> Efficiency:
    """Measure a detector on one random image, in evaluation mode, on the device that it is on.

    Args:
        model: a detector of the form that CONTRIBUTING.md describes. Its parts are its direct children; a backbone
            with a pyramid counts as body, fpn and neck.
        size: (H, W) of the image. The detector may resize and pad it; what is counted is what it computes.
        runs: timed runs after one that counts; times are medians.

    Raises:
        ValueError: ``runs`` is less than 1.
    """
    if runs < 1:
        raise ValueError(f"runs: expected at least 1, got {runs}")
    device = next(model.parameters()).device
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    with _evaluating(model):
        counted = macs(model, lambda: model([image]))
        times = [_times(model, image) for _ in range(runs)]

    def cost(name: str, path: str, part: nn.Module) -> Cost:
        seconds = median(t.get(path, 0.0) for t in times)
        return Cost(name, sum(p.numel() for p in part.parameters()), counted.get(path, 0), seconds)

    parts = tuple(cost(path.removeprefix("backbone."), path, part) for path, part in _parts(model))
    return Efficiency(parts, cost("whole", "", model), size, str(device))


def macs(model: nn.Module, run: Callable[[], Any]) -> dict[str, int]:
    """Multiply-adds of every module of ``model`` during ``run()``: path -> MAC, the whole under "".

    Works on the meta device too, where nothing is computed.
    """
    root = type(model).__name__
    with FlopCounterMode(display=False, custom_mapping=_OURS) as counter:
        run()
    flops = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}
    inside = {name.removeprefix(root).removeprefix("."): n // 2 for name, n in flops.items() if name.startswith(root)}
    return {"": flops.get("Global", 0) // 2} | inside


def offset_fit_macs(channels: int, sizes: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Multiply-adds of one released Dynamic Head block for each way to fit offsets.

    Args:
        channels: C of the pyramid.
        sizes: (H, W) of its levels, fine to coarse.
    """
    costs = {}
    for offset_fit in OFFSET_FITS:
        with torch.device("meta"):
            head = DyHead(channels, blocks=1, offset_fit=offset_fit)
            pyramid = [torch.zeros(1, channels, *size) for size in sizes]
        costs[offset_fit] = macs(head, partial(head, pyramid))[""]
    return costs


def dyhead_levels(model: nn.Module, size: tuple[int, int]) -> tuple[DyHead, list[tuple[int, int]]] | None:
    """The Dynamic Head of a detector and the level sizes that it meets for an image of ``size``; None without one."""
    head = next((module for module in model.modules() if isinstance(module, DyHead)), None)
    if head is None:
        return None
    sizes: list[tuple[int, int]] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        levels = output.values() if isinstance(output, dict) else output
        sizes.extend((x.shape[-2], x.shape[-1]) for x in levels)

    handle = head.register_forward_hook(look)
    try:
        with _evaluating(model):
            model([torch.zeros(3, *size, device=next(model.parameters()).device)])
    finally:
        handle.remove()
    return head, sizes


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and the mode of before afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        if name == "backbone" and hasattr(child, "fpn"):
            yield from ((f"backbone.{inner}", part) for inner, part in child.named_children())
        else:
            yield name, child


def _times(model: nn.Module, image: torch.Tensor) -> dict[str, float]:
    """Seconds of every part in one run, the whole under ""."""
    seconds: dict[str, float] = {}
    started: dict[str, float] = {}
    handles = []
    for path, part in [("", model), *_parts(model)]:

        def start(module: nn.Module, inputs: Any, path: str = path) -> None:
            started[path] = _now(image.device)

        def stop(module: nn.Module, inputs: Any, output: Any, path: str = path) -> None:
            seconds[path] = seconds.get(path, 0.0) + _now(image.device) - started[path]

        handles += [part.register_forward_pre_hook(start), part.register_forward_hook(stop)]
    try:
        model([image])
    finally:
        for handle in handles:
            handle.remove()
    return seconds


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
