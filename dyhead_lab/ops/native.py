"""Finds and loads what csrc built, and says why something is missing.

Two kinds of native code implement the operators of the torch namespace ``dyhead_native``: ``"cuda"`` for tensors on a
GPU and ``"emulated"``, the same kernels under the emulator, for tensors on the CPU. The emulator has a release and a
debug build; the debug build checks the bounds of every access and can record accesses. With the environment variable
``DYHEAD_EMULATOR=debug`` it takes the place of the release build.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..hardware import runs_on
from ..platforms import library_file
from ..remedies import rebuild

KINDS = ("emulated", "cuda")
KERNELS = ("auto", "simple", "columns", "fast")
FOLDER = Path(__file__).parent / "lib"
MEND = f"Run: {rebuild()}"


def available(kind: str, device: int | None = None) -> bool:
    """True if kernels of this kind can run here.

    Args:
        kind: ``"emulated"`` or ``"cuda"``.
        device: the number of the GPU; the current one if not given.
    Raises:
        ValueError: another kind.
    """
    return why_missing(kind, device) is None


def why_missing(kind: str, device: int | None = None) -> str | None:
    """Why kernels of this kind cannot run here and what would mend it, or None if they can.

    The first time that a GPU is asked about, an empty kernel runs on it.

    Args:
        kind: ``"emulated"`` or ``"cuda"``.
        device: the number of the GPU; the current one if not given.
    Raises:
        ValueError: another kind.
    """
    if (kind, device) in _usable:
        return None
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    problem = _why_not_built(_emulator_build()) or _why_not_loaded(_emulator_build())
    if kind == "emulated" or problem:
        return problem
    problem = _why_not_built("cuda")
    if problem:
        return problem
    if not torch.cuda.is_available():
        return "The kernels are built, but torch sees no GPU. Check the driver with: nvidia-smi"
    problem = _why_not_loaded("cuda")
    if problem or torch.cuda.is_current_stream_capturing():  # a graph that is captured must not wait for a kernel
        return problem
    problem = _why_not_running(torch.cuda.current_device() if device is None else device)
    if problem is None and device is not None:
        _usable.add((kind, device))
    return problem


#: GPUs that were found to run the kernels. They are asked for with every call, and neither files nor drivers again.
_usable: set[tuple[str, int | None]] = set()


@functools.cache
def load(kind: str) -> None:
    """Make the operators of ``torch.ops.dyhead_native`` ready for tensors of this kind.

    Args:
        kind: ``"emulated"`` or ``"cuda"``.
    Raises:
        RuntimeError: they are missing; the message says why and what would mend it.
    """
    problem = why_missing(kind)
    if problem:
        raise RuntimeError(f"The {kind} kernels are missing. {problem}")


def built(kind: str) -> bool:
    """True if the library of this kind was built, whether or not this machine can run it."""
    return _why_not_built("cuda" if kind == "cuda" else _emulator_build()) is None


def _emulator_build() -> str:
    build = os.environ.get("DYHEAD_EMULATOR", "release")
    if build not in ("release", "debug"):
        raise ValueError(f"DYHEAD_EMULATOR must be release or debug, got {build!r}")
    return "emulated" if build == "release" else "emulated_debug"


def _library(name: str) -> Path:
    return FOLDER / library_file(f"dyhead_{name}")


def _why_not_built(name: str) -> str | None:
    if _library(name).is_file():
        return None
    try:
        status = json.loads((FOLDER / "status.json").read_text(encoding="utf-8"))[name]
        remedy = status["remedy"].replace("make native", rebuild())  # it was written where the library was built
        return f"They were not built: {status['error']}\n{remedy}"
    except (OSError, ValueError, KeyError):
        return f"They were never built. {MEND}"


@functools.cache
def _why_not_loaded(name: str) -> str | None:
    """Load a library; a failure is told, not raised. torch keeps a loaded library for the life of the process."""
    try:
        torch.ops.load_library(_library(name))
    except OSError as error:
        return f"The library does not load: {error}. {MEND}"
    return None


@functools.cache
def _why_not_running(device: int) -> str | None:
    """Compare a GPU with the code that the library holds, then let an empty kernel run on it.

    The second finds what the first cannot know, such as a driver that is too old to compile intermediate code.
    """
    major, minor = torch.cuda.get_device_capability(device)
    name, held = f"{torch.cuda.get_device_name(device)} (sm_{major}{minor})", architectures()
    remedy = f"Run: export DYHEAD_CUDA=1 DYHEAD_CUDA_ARCHS={major}{minor} && {rebuild()}"
    if held and not runs_on((major, minor), held):
        return f"The library has no code for {name}, only {' '.join(held)}. {remedy}"
    library = ctypes.CDLL(str(_library("cuda")))
    library.dyhead_probe.restype = ctypes.c_char_p
    problem = library.dyhead_probe(device)
    return None if problem is None else f"An empty kernel fails on {name}: {problem.decode()}. {remedy}"


def architectures() -> list[str]:
    """The code in the library for GPUs: ``"sm_90"`` is machine code, ``"compute_90"`` intermediate code for newer GPUs.

    Empty where no library was built, or by a build that did not write it down.
    """
    try:
        return list(json.loads((FOLDER / "status.json").read_text(encoding="utf-8"))["cuda"]["architectures"])
    except (OSError, ValueError, KeyError):
        return []


# Which kernels run

_kernels = "auto"


def kernels() -> str:
    """The kernels that operators run: ``"auto"``, unless :func:`use_kernels` says otherwise."""
    return _kernels


@contextmanager
def use_kernels(name: str) -> Iterator[None]:
    """Inside the block, operators run the kernels of this name, backward passes included.

    It holds for the whole process: a backward pass on a GPU runs in a thread of its own.

    Args:
        name: ``"simple"``: one thread per result, as in textbooks; ``"columns"``: the convolution keeps its samples in
            memory and multiplies them by PyTorch, the attention is simple; ``"fast"``: refuses shapes that it does not
            take; ``"auto"``: the fast ones wherever they take the shape, else columns.
    Raises:
        ValueError: another name.
    """
    global _kernels
    if name not in KERNELS:
        raise ValueError(f"name must be one of {', '.join(KERNELS)}, got {name!r}")
    before, _kernels = _kernels, name
    try:
        yield
    finally:
        _kernels = before


# Recording


@dataclass(frozen=True)
class Access:
    """One access of one thread to global memory.

    Attributes:
        thread: the thread's number in its block.
        operation: ``"read"``, ``"write"`` or ``"atomic_add"``.
        buffer: the operator's argument, or what it returns: ``"value"``, ``"output"``, ``"grad_input"``, ...
        index: the first element touched, counted in the flattened tensor.
        count: how many neighbouring elements move at once.
        value: the first of them: what was read, written or added.
        launch: 0 for the first kernel that the operator launches, 1 for the second, and so on.
    """

    thread: int
    operation: str
    buffer: str
    index: int
    count: int
    value: float
    launch: int


class _RawAccess(ctypes.Structure):
    """``emulator::Access`` in csrc/emulator/observer.h."""

    _fields_ = (
        ("buffer", ctypes.c_char_p),
        ("index", ctypes.c_int64),
        ("value", ctypes.c_double),
        ("count", ctypes.c_int32),
        ("operation", ctypes.c_int32),
        ("launch", ctypes.c_int32),
        ("thread", ctypes.c_int32),
    )


OPERATIONS = ("read", "write", "atomic_add")


def record(
    operator: str, *arguments: Any, block: int = 0, threads: range = range(1), kernel: str = "simple"
) -> list[Access]:
    """Run an operator in the emulator's debug build and return what some of its threads did to global memory.

    Args:
        operator: a name in ``torch.ops.dyhead_native``, such as ``"ms_deform_attn_forward"``.
        arguments: the operator's arguments, contiguous CPU tensors first, without ``kernel``.
        block: the block to watch, counted through the grid.
        threads: the threads of that block to watch, one unbroken range.
        kernel: one of :data:`KERNELS`.
    Returns:
        The accesses in the order in which the emulator made them: thread by thread between two barriers.
    Raises:
        ValueError: an unknown operator, or an empty or broken range of threads.
        IndexError: a kernel touched memory outside a tensor.
        RuntimeError: the debug build is missing.
    """
    if len(threads) == 0 or threads.step != 1:
        raise ValueError(f"threads must be a range of step 1 that is not empty, got {threads}")
    operators = debug_operators()
    if not hasattr(operators, operator):
        raise ValueError(f"no operator {operator!r} in dyhead_native")
    recorder = debug_library()
    recorder.dyhead_record_end.restype = ctypes.c_int64
    recorder.dyhead_record_begin(*map(ctypes.c_int64, (block, threads.start, threads.stop - 1)))
    try:
        getattr(operators, operator)(*arguments, kernel=kernel)
    finally:
        count = recorder.dyhead_record_end()
    raw = (_RawAccess * count)()
    recorder.dyhead_record_copy(raw)
    return [
        Access(
            thread=access.thread,
            operation=OPERATIONS[access.operation],
            buffer=access.buffer.decode(),
            index=access.index,
            count=access.count,
            value=access.value,
            launch=access.launch,
        )
        for access in raw
    ]


def launches() -> dict[str, int]:
    """How often the emulator's debug build launched each kernel in this process, by its name in the source.

    Returns:
        For example ``{"forward_simple<T>": 3}``. A kernel that never ran is not there.
    Raises:
        RuntimeError: the debug build is missing.
    """
    library = debug_library()
    library.dyhead_launches.restype = ctypes.c_char_p
    entries = (entry.rpartition("=") for entry in library.dyhead_launches().decode().split(";") if entry)
    return {kernel: int(count) for kernel, _, count in entries}


def debug_operators() -> Any:
    """The operators in the emulator's debug build, which checks the bounds of every access.

    Returns:
        A namespace like ``torch.ops.dyhead_native``; an access outside a tensor raises IndexError.
    Raises:
        RuntimeError: the debug build is missing.
    """
    problem = _why_not_built("emulated_debug") or _why_not_loaded("emulated_debug")
    if problem:
        raise RuntimeError(f"The emulator's debug build is missing. {problem}")
    return torch.ops.dyhead_native_debug


def debug_library() -> ctypes.CDLL:
    """The emulator's debug build itself, whose own functions record, count launches, and set the order of threads.

    Raises:
        RuntimeError: the debug build is missing.
    """
    debug_operators()
    return ctypes.CDLL(str(_library("emulated_debug")))
