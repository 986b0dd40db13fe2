"""How the CPU kernels are compiled, and how their work is shared among threads.

Kernels are compiled by Numba at their first use and kept on disk. They release the GIL and run on plain Python
threads, as many as ``torch.get_num_threads()`` says. Numba's own thread pools are left alone: one of them aborts
when two threads launch at once, the other after a fork, and both compete with PyTorch's pool for the cores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from threading import Lock
from typing import Any

import torch
from numba import njit
from numba.core import event

#: Loops as they are written: every operation rounds as IEEE says, in the order of the source.
literal = njit(cache=True, nogil=True, error_model="numpy")
#: Loops that may add in another order and fuse a product with a sum, so that they fill the vector units.
fast = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


def in_threads(kernel: Callable[..., None], count: int, *args: Any) -> None:
    """Run ``kernel(first, last, *args)`` over the ranges that make up ``range(count)``, one range per thread.

    The ranges depend on nothing but ``count`` and ``torch.get_num_threads()``. A kernel must write nothing that
    belongs to another range.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        kernel(0, count, *args)
        return
    bounds = [count * t // threads for t in range(threads + 1)]
    others = [_pool.submit(kernel, *ends, *args) for ends in pairwise(bounds[1:])]
    try:
        kernel(bounds[0], bounds[1], *args)
    finally:  # the arrays must outlive every thread that writes into them
        wait(others)
    for other in others:
        other.result()


class _Pool:
    """Threads that wait for work; made when first needed, and anew in a forked process, where none survive."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = Lock()
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, kernel: Callable[..., None], *args: Any) -> Any:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="dyhead_lab")
        return self._executor.submit(kernel, *args)


_pool = _Pool()


class _CompileNotice(event.Listener):
    """Says once that kernels are being compiled. Numba fires this event only where its disk cache has nothing."""

    _said = False

    def on_start(self, event: event.Event) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if module.startswith(__package__) and not self._said:
            self._said = True
            print("dyhead_lab: compiling the CPU kernels; this happens once per machine", file=sys.stderr)

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _CompileNotice())
