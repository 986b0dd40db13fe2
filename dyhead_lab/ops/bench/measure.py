"""Clocks and ceilings: medians of contenders that take turns, and what this machine can do at best."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ...platforms import processor_name
from .. import native

#: A turn is one run, or as many as fill this time: then a short run finds its data in the cache, as in a model, where
#: the layer before has just written it.
TURN_SECONDS = 0.1


def medians(contenders: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of a run of each contender. They take turns, so that a busy moment of the machine meets all."""
    repeats = {}
    for name, run in contenders.items():
        run()  # compiles, allocates
        repeats[name] = max(1, round(TURN_SECONDS / _seconds(run, device)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(_seconds(run, device, repeats[name]))
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _seconds(run: Callable[[], object], device: str, repeats: int = 1) -> float:
    """Mean seconds of a run."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    _wait(device)
    return (time.perf_counter() - start) / repeats


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def forward(function: Callable[..., Tensor], arguments: list[Tensor]) -> Callable[[], Tensor]:
    """A run of the forward pass alone."""

    def run() -> Tensor:
        with torch.no_grad():
            return function(*arguments)

    return run


def forward_and_backward(function: Callable[..., Tensor], arguments: list[Tensor]) -> Callable[[], object]:
    """A run that ends with the gradients to every argument that the function reads."""
    leaves = [t.detach().requires_grad_() for t in arguments]

    def run() -> object:
        out = function(*leaves)
        return torch.autograd.grad(out, leaves, torch.ones_like(out), allow_unused=True)

    return run


def in_graph(run: Callable[[], object]) -> Callable[[], object]:
    """What a run does on the GPU, recorded once and replayed: Python and the launching of kernels cost nothing then.

    Raises:
        RuntimeError: the run waits for the GPU, which cannot be recorded.
    """
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # lazy initialisation and tuning cannot be recorded
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside, float32 matrix products and convolutions on a GPU may round their factors to TF32, or may not."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def copy_bandwidth(device: str, megabytes: int) -> float:
    """Bytes per second, read and written, of the fastest of ten copies of a tensor of this size."""
    source = torch.ones(megabytes << 18, device=device)
    target = torch.empty_like(source)
    seconds = min(_seconds(lambda: target.copy_(source), device) for _ in range(10))
    return 2 * source.numel() * source.element_size() / seconds


def l2_rates(megabytes: int = 16, repeats: int = 64) -> dict[str, float]:
    """Bytes per second of a GPU's second-level cache: that are read, and that atomics of 16 bytes add to.

    Args:
        megabytes: of memory, few enough to lie in that cache and too many for the first-level caches.
        repeats: how often a kernel goes over this memory.
    """
    native.load("cuda")
    memory = torch.zeros(megabytes << 18, device="cuda")
    moved = memory.numel() * memory.element_size() * repeats
    kernels = {"read": torch.ops.dyhead_native.l2_read, "add": torch.ops.dyhead_native.l2_add}
    return {
        f"l2_{name}_bytes_per_second": moved / min(_seconds(lambda: kernel(memory, repeats), "cuda") for _ in range(10))  # noqa: B023
        for name, kernel in kernels.items()
    }


def matrix_rate(device: str, size: int, dtype: torch.dtype = torch.float32) -> float:
    """Operations per second of the faster of two ways to multiply matrices of this size.

    One is ``torch.mm``, the other a channels-last 1x1 convolution, which on many CPUs runs a faster kernel.
    """
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    image = a.view(1, 1, size, size).permute(0, 3, 1, 2)
    ways = (lambda: a @ b, lambda: conv2d(image, b.view(size, size, 1, 1)))
    seconds = min(_seconds(way, device) for way in ways for _ in range(5))
    return 2 * size**3 / seconds


def machine(device: str) -> dict[str, str | int]:
    """What the numbers were measured with."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("dyhead-lab", "torch", "torchvision", "numba")},
    }
