"""Channels-last maps, which the trainer sets, go in and come out without being turned."""

from dataclasses import replace
from math import prod

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from .cases import BACKENDS, Conv, cotangent, device_of

#: The fast kernels take it. A map is far larger than the weight, the offsets and the mask.
CASE = Conv(B=1, C=64, Co=64, size=(30, 30), kernel=(1, 1), padding=(0, 0), layout="channels_last")
MAP = 64 * 30 * 30


def copies(run):
    """How many numbers PyTorch copied, counted in maps, whatever asked for it: contiguous, clone, to, ...

    Four rows of a map are the least that is turned at once; weights, offsets and masks are smaller, and not counted.
    """
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        run()
    copied = [event for event in seen.events() if event.name == "aten::copy_"]
    numbers = [prod(event.input_shapes[0]) for event in copied]
    return sum(n for n in numbers if n >= MAP / 8) / MAP


def run_of(case, backend, dtype):
    tensors = case.tensors(dtype, device_of(backend))
    leaves = {name: t.detach().requires_grad_() for name, t in tensors.items() if name != "bias"}
    out = case.run(leaves, backend)
    order = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
    grad = cotangent(out.shape).to(out.device, out.dtype).contiguous(memory_format=order)
    return leaves, out, grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_channels_last_is_copied_nowhere_in_the_forward_pass(backend):
    leaves, _, _ = run_of(CASE, backend, torch.float32)
    assert copies(lambda: CASE.run(leaves, backend)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_channels_last_is_copied_twice_at_most_in_the_backward_pass(backend, dtype):
    """Not at all in float32. The kernels sum 16-bit gradients in float32 and round them once. The CPU path computes in
    float32: it changes the type of the input, of columns, of their gradient and of the result."""
    leaves, out, grad = run_of(CASE, backend, dtype)
    most = 0 if dtype == torch.float32 else 4 if backend == "numba" else 2
    assert copies(lambda: torch.autograd.grad(out, list(leaves.values()), grad)) <= most


@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_are_seen(backend):
    """In the usual order the fast kernels turn the input, and the CPU path the input and the result."""
    case = replace(CASE, layout="contiguous")
    leaves, _, _ = run_of(case, backend, torch.float32)
    assert copies(lambda: case.run(leaves, backend)) > (1.8 if backend == "numba" else 0.9)
