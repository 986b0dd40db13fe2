"""How the emulator's debug build runs threads: in order or at random, and with a barrier left out of a kernel.

Whatever the order, it names threads that race for shared memory. What a random order adds are mistakes of another kind:
kernels that rely on one thread being faster than another.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from . import native


@contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Inside the block, the emulator's debug build takes blocks and threads in random order.

    It takes threads off, in favour of others, wherever they touch shared memory. Asynchronous copies are late in any
    order: what they bring is there when their thread has waited, not before.

    Args:
        seed: gives the order; 0: one after the other, as outside of the block.
    Raises:
        ValueError: a negative seed.
        RuntimeError: the debug build is missing.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    library = native.debug_library()
    library.dyhead_order(ctypes.c_uint64(seed))
    try:
        yield
    finally:
        library.dyhead_order(ctypes.c_uint64(0))


@contextmanager
def left_out(file: str, line: int) -> Iterator[None]:
    """Inside the block, kernels in the emulator's debug build pass over a barrier, as if it had been forgotten.

    Args:
        file: the source, from csrc on, such as ``"deform_conv/fast_forward.cuh"``.
        line: where ``__syncthreads()``, ``__syncwarp()`` or the emulator's wait for copies stands, from 1.
    Raises:
        ValueError: a line before the first.
        RuntimeError: the debug build is missing; in the block, a race that the emulator finds.
    """
    library = native.debug_library()
    if line < 1:
        raise ValueError(f"lines are counted from 1, got {line}")
    library.dyhead_leave_out(file.encode(), line)
    try:
        yield
    finally:
        library.dyhead_leave_out(b"", 0)
