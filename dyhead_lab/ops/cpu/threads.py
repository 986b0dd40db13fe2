"""How the CPU kernels share their work: Numba's threads, as many as PyTorch uses.

A kernel takes a range of the work, ``kernel(first, last, *arguments)``. Its *launcher* cuts the work into one range for
each thread and runs them in ``prange``. What a kernel writes belongs to its range alone, so the ranges decide nothing.

Of Numba's pools one aborts when two threads launch at once, another after a fork: launches wait for each other, and
a forked process computes alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from ...platforms import after_fork
from ..numba_compile import literal

#: So few numbers are done before another thread has begun.
FEW = 1 << 15

_one_launch_at_a_time = threading.Lock()

#: Threads do not survive a fork, and Numba does not notice. PyTorch's own operators have the same limit.
_forked = False


def run(kernel: Callable[..., None], launcher: Callable[..., None], items: int, work: int, *arguments: Any) -> None:
    """Run a kernel over ``items`` of work.

    Args:
        kernel: of (first, last, *arguments), compiled.
        launcher: of (threads, items, *arguments), compiled: gives each thread n the range that :func:`part` says.
        work: numbers that the items have in all; the caller does :data:`FEW` by itself.
    """
    threads = team(items) if work > FEW else 1
    if threads <= 1:
        kernel(0, items, *arguments)
        return
    before = torch.get_num_threads()
    with _one_launch_at_a_time:
        launcher(threads, items, *arguments)
    if torch.get_num_threads() != before:  # where both share a library, Numba's first launch sets PyTorch's number too
        torch.set_num_threads(before)


def team(items: int) -> int:
    """How many threads share so many items: as many as PyTorch uses, or the caller alone after a fork."""
    return 1 if _forked else min(torch.get_num_threads(), items)


@literal
def part(n, threads, items):
    """First item of the n-th of ``threads`` ranges; they depend on nothing else. ``n = threads`` gives ``items``."""
    return n * items // threads


def _remember_fork() -> None:
    global _forked
    _forked = True


after_fork(_remember_fork)
