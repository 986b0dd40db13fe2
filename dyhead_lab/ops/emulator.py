"""How the emulator's debug build runs kernels: in which order threads run, without which barrier, on how large a GPU.

Whatever the order, it names threads that race for shared memory. What a random order adds are mistakes of another kind:
kernels that rely on one thread being faster than another.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..paths import CSRC
from . import native

_BARRIER = re.compile(r"^\s*(__syncthreads|__syncwarp|emulator::wait_for_copies)\(\);")


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


def barriers(file: str) -> list[int]:
    """The lines of a source where threads wait: for their block, for their warp, or for asynchronous copies.

    Args:
        file: from csrc on, such as ``"deform_conv/fast_forward.cuh"``.
    """
    lines = (CSRC / file).read_text(encoding="utf-8").splitlines()
    return [n for n, line in enumerate(lines, 1) if _BARRIER.match(line)]


@contextmanager
def left_out(file: str, line: int) -> Iterator[None]:
    """Inside the block, kernels in the emulator's debug build pass over a barrier, as if it had been forgotten.

    Args:
        file: the source, from csrc on, such as ``"deform_conv/fast_forward.cuh"``.
        line: one of :func:`barriers`.
    Raises:
        ValueError: no barrier stands there.
        RuntimeError: the debug build is missing; in the block, a race that the emulator finds.
    """
    if line not in barriers(file):
        raise ValueError(f"line must be one of {barriers(file)}, where {file} waits, got {line}")
    library = native.debug_library()
    library.dyhead_leave_out(file.encode(), line)
    try:
        yield
    finally:
        library.dyhead_leave_out(b"", 0)


@contextmanager
def multiprocessors(count: int) -> Iterator[None]:
    """Inside the block, the emulated GPU of the debug build claims to have so many multiprocessors instead of one.

    Kernels share their work out by it: small maps are split further where more multiprocessors would wait.

    Args:
        count: 1 or more.
    Raises:
        ValueError: less than 1.
        RuntimeError: the debug build is missing.
    """
    if count < 1:
        raise ValueError(f"a GPU has at least one multiprocessor, got {count}")
    library = native.debug_library()
    library.dyhead_multiprocessors(ctypes.c_int64(count))
    try:
        yield
    finally:
        library.dyhead_multiprocessors(ctypes.c_int64(1))
