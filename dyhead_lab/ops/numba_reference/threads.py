"""How the CPU kernels share their work: they run on the very threads that PyTorch's own operators run on.

PyTorch's OpenMP threads keep a core busy for milliseconds after an operator, waiting for the next one. Threads of our
own would have to compete with them. Numba's pools have the same fault, and two more: one aborts when two threads
launch at once, the other after a fork.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

#: What an OpenMP thread calls. ctypes takes the GIL for it; the kernels release it.
_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def in_threads(kernel: Callable[..., None], count: int, *args: Any) -> None:
    """Run ``kernel(first, last, *args)`` over the ranges that make up ``range(count)``, one range per thread.

    The ranges depend on nothing but ``count`` and ``torch.get_num_threads()``. A kernel must write nothing that
    belongs to another range.
    """
    threads = min(torch.get_num_threads(), count)
    run_parallel = _openmp()
    if threads <= 1 or run_parallel is None or _forked:
        if count:
            kernel(0, count, *args)
        return
    bounds = [count * t // threads for t in range(threads + 1)]
    ranges = list(pairwise(bounds))
    errors: list[BaseException] = []

    def work(_: Any) -> None:
        try:
            while ranges:  # a busy machine may give fewer threads than it was asked for
                kernel(*ranges.pop(), *args)
        except BaseException as error:  # one that left this function would be printed and forgotten
            errors.append(error)

    run_parallel(_Callback(work), None, threads, 0)
    if errors:
        raise errors[0]


@cache
def _openmp() -> Callable[..., None] | None:
    """``GOMP_parallel`` of the OpenMP library that PyTorch has loaded: GNU's, or LLVM's, which has it too.

    None, and a word about it, where PyTorch was built with other threads.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    try:
        run_parallel = library.GOMP_parallel
    except AttributeError:
        print("dyhead_lab: this PyTorch has no OpenMP threads; the CPU kernels run on one thread", file=sys.stderr)
        return None
    run_parallel.argtypes = [_Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    run_parallel.restype = None
    return run_parallel


#: OpenMP's threads do not survive a fork, and it does not notice. PyTorch's own operators have the same limit.
_forked = False


def _remember_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_remember_fork)
