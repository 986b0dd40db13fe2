"""How the emulator's debug build runs kernels: in which order threads run, without which barrier, on which GPU.

Whatever the order, it names threads that race for shared memory. What a random order adds are mistakes of another kind:
kernels that rely on one thread being faster than another.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..paths import CSRC
from . import native

_BARRIER = re.compile(r"^\s*(__syncthreads|__syncwarp|emulator::wait_for_copies)\(\);")


@contextmanager
def _during(function: str, *values: Any, usual: tuple[Any, ...]) -> Iterator[None]:
    """Inside the block, what a function of the debug build sets is ``values``, outside ``usual``.

    Raises:
        RuntimeError: the debug build is missing.
    """
    setting = getattr(native.debug_library(), function)
    setting(*values)
    try:
        yield
    finally:
        setting(*usual)


def shuffled(seed: int) -> AbstractContextManager[None]:
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
    return _during("dyhead_order", ctypes.c_uint64(seed), usual=(ctypes.c_uint64(0),))


def barriers(file: str) -> list[int]:
    """The lines of a source where threads wait: for their block, for their warp, or for asynchronous copies.

    Args:
        file: from csrc on, such as ``"deform_conv/fast_forward.cuh"``.
    """
    lines = (CSRC / file).read_text(encoding="utf-8").splitlines()
    return [n for n, line in enumerate(lines, 1) if _BARRIER.match(line)]


def left_out(file: str, line: int) -> AbstractContextManager[None]:
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
    return _during("dyhead_leave_out", file.encode(), line, usual=(b"", 0))


def multiprocessors(count: int) -> AbstractContextManager[None]:
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
    return _during("dyhead_multiprocessors", ctypes.c_int64(count), usual=(ctypes.c_int64(1),))


def compute_capability(major: int, minor: int) -> AbstractContextManager[None]:
    """Inside the block, the emulated GPU of the debug build claims this compute capability instead of 8.0.

    Kernels take the instructions that such a GPU has: before 8.0 there are no asynchronous copies, and the tensor cores
    of 7.5 (Turing) multiply float16 alone, half as deep at a time. Capabilities from 8.0 on are one to the emulator.

    Args:
        major, minor: 7, 5 for Turing.
    Raises:
        ValueError: numbers that are no compute capability.
        RuntimeError: the debug build is missing.
    """
    if major < 1 or not 0 <= minor <= 9:
        raise ValueError(f"a compute capability is like 7.5 or 8.0, got {major}.{minor}")
    return _during("dyhead_compute_capability", 10 * major + minor, usual=(80,))
