"""What a detector costs: parameters, multiply-adds and time, by part.

Multiply-adds (MAC) are those of convolutions and matrix products, one per product of a weight and a number. Papers on
detection call them FLOPs. A deformable convolution counts as the ordinary one of its size: moving the taps adds four
per tap and input channel, under 2 % at 256 output channels. Deformable attention counts five per sampled channel: four
corners and a weight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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


WHOLE = ""  # beside the names of parts


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
        costs = (*self.parts, self.whole)
        column = max(len(cost.name) for cost in costs)
        lines = [f"one image of {height} x {width} pixels on {self.device}; GMAC: 10^9 multiply-adds"]
        lines.append(f"{'part':<{column}}{'parameters':>14}{'GMAC':>10}{'ms':>10}")
        for cost in costs:
            figures = f"{cost.parameters:>14,}{cost.macs / 1e9:>10.2f}{1e3 * cost.seconds:>10.1f}"
            lines.append(f"{cost.name:<{column}}{figures}")
        return "\n".join([*lines, f"{self.fps:.2f} images per second"])


def efficiency(model: nn.Module, size: tuple[int, int] = (800, 1333), runs: int = 3) -> Efficiency:
    """Measure a detector on one random image, in evaluation mode, on the device that it is on.

    Args:
        model: a detector of the form that CONTRIBUTING.md describes; :func:`parts_of` says what its parts are.
            ``rest`` is what lies outside them, such as the suppression of overlapping boxes.
        size: (H, W) of the image. The detector may resize and pad it; what is counted is what it computes.
        runs: timed runs after one that counts; times are medians.

    Raises:
        ValueError: ``runs`` is less than 1.
    """
    if runs < 1:
        raise ValueError(f"runs: expected at least 1, got {runs}")
    device = next(model.parameters()).device
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    parts = parts_of(model)
    with _evaluating(model):
        with FlopCounterMode(display=False, custom_mapping=_OURS) as counter:
            flops = _spent(model, image, parts, lambda: counter.get_total_flops())
        times = [_spent(model, image, parts, lambda: _now(device)) for _ in range(runs)]
    seconds = {name: median(t[name] for t in times) for name in flops}
    costs = [Cost(name, _parameters(modules), int(flops[name]) // 2, seconds[name]) for name, modules in parts.items()]
    costs = [cost for cost in costs if cost.parameters or cost.seconds]  # the losses of DETR's family have neither
    whole = Cost("whole", _parameters([model]), int(flops[WHOLE]) // 2, seconds[WHOLE])
    rest = Cost(
        "rest",
        whole.parameters - _parameters([module for modules in parts.values() for module in modules]),
        whole.macs - sum(cost.macs for cost in costs),
        max(0.0, whole.seconds - sum(cost.seconds for cost in costs)),  # medians need not add up
    )
    return Efficiency((*costs, rest), whole, size, str(device))


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
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval().requires_grad_(False)  # the counter of operations refuses parameters that learn as inputs of a module
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
        for parameter in learning:
            parameter.requires_grad_(True)


def parts_of(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The parts of a detector: name -> the modules that are called.

    They are its direct children. A backbone with a pyramid counts as body, fpn and neck; a list counts as one part; a
    child that only holds others, such as the transformer of DETR's family, counts as its own children.
    """
    parts: dict[str, list[nn.Module]] = {}
    for name, child in model.named_children():
        if name == "backbone" and hasattr(child, "fpn"):
            parts |= {inner: [part] for inner, part in child.named_children()}
        elif isinstance(child, nn.ModuleList):
            parts[name] = list(child)
        elif type(child).forward is nn.Module.forward:
            parts |= {f"{name}.{inner}": modules for inner, modules in parts_of(child).items()}
        else:
            parts[name] = [child]
    return parts


def _spent(
    model: nn.Module, image: torch.Tensor, parts: dict[str, list[nn.Module]], clock: Callable[[], float]
) -> dict[str, float]:
    """What ``clock`` advances by during each part of one run, and during the whole.

    Where parts call each other, as a decoder calls the heads that refine its boxes, the outer one counts.
    """
    spent: dict[str, float] = dict.fromkeys((WHOLE, *parts), 0.0)
    inside: list[float] = []

    def start(module: nn.Module, inputs: Any) -> None:
        inside.append(clock())

    def stop(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        began = inside.pop()
        if not inside:
            spent[name] += clock() - began

    handles = []
    for name, modules in parts.items():
        for module in modules:
            handles += [module.register_forward_pre_hook(start), module.register_forward_hook(partial(stop, name))]
    try:
        began = clock()
        model([image])
        spent[WHOLE] = clock() - began
    finally:
        for handle in handles:
            handle.remove()
    return spent


def _parameters(modules: Iterable[nn.Module]) -> int:
    """Numbers of parameters; one that several modules share counts once."""
    shared = {id(parameter): parameter.numel() for module in modules for parameter in module.parameters()}
    return sum(shared.values())


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
