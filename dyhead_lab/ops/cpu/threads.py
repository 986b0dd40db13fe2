"""How the CPU kernels share their work: on the very threads that PyTorch's own operators run on, or on Numba's.

PyTorch's OpenMP threads keep a core busy for milliseconds after an operator, waiting for the next one. Other threads
have to compete with them. A thread that helps never touches Python: it would wait for Python's lock longer than a
small kernel takes.

Where PyTorch has no GNU OpenMP (macOS, Windows, builds with other threads) Numba's own threads do the same ranges of
the work, so that results are equal bit for bit. Of Numba's pools one aborts when two threads launch at once, another
after a fork: launches wait for each other, and a forked process computes alone.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from llvmlite import ir
from numba.core import cgutils, types

from ..numba_compile import intrinsic
from . import parts


class Team(NamedTuple):
    """Who does a piece of work: the address of OpenMP's entry (0: there is none), the threads, the items to do."""

    openmp: int
    threads: int
    items: int


def team(items: int) -> Team:
    """The team for so many items: as many threads as PyTorch uses, or the caller alone after a fork."""
    openmp = _openmp() if parts.has("threads") else 0
    return Team(openmp, 1 if _forked else min(torch.get_num_threads(), items), items)


def run(on_openmp: Callable[..., None], on_numba: Callable[..., int], items: int, *arguments: Any) -> None:
    """Run a kernel over ``items`` of work, by the one or the other of its two launchers.

    Args:
        on_openmp: of (team, *arguments), compiled; calls :func:`in_threads` with the kernel.
        on_numba: of (team, *arguments), compiled; gives every thread of the team its :func:`share` in ``prange``, and
            returns how many failed.
    Raises:
        RuntimeError: the kernel raised something in one of the threads.
    """
    helpers = team(items)
    if helpers.openmp or helpers.threads <= 1:
        on_openmp(helpers, *arguments)
        return
    threads = torch.get_num_threads()
    with _one_launch_at_a_time:
        failed = on_numba(helpers, *arguments)
    if torch.get_num_threads() != threads:  # where both share a library, Numba's first launch sets PyTorch's number too
        torch.set_num_threads(threads)
    if failed:
        raise RuntimeError(FAILED)


FAILED = "a CPU kernel failed in one of its threads"
_one_launch_at_a_time = threading.Lock()


@cache
def _openmp() -> int:
    """The address of ``GOMP_parallel`` in the OpenMP library that PyTorch has loaded: GNU's, or LLVM's, which has it.

    0 where there is none: PyTorch for macOS and Windows, or one that was built with other threads.
    """
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


#: Threads do not survive a fork, and neither OpenMP nor Numba notices. PyTorch's own operators have the same limit.
_forked = False


def _remember_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_remember_fork)

_BYTE, _FLAG, _INT, _LONG = ir.IntType(8).as_pointer(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_WORK = ir.FunctionType(ir.VoidType(), [_BYTE])
_PARALLEL = ir.FunctionType(ir.VoidType(), [_WORK.as_pointer(), _BYTE, _INT, _INT])


@intrinsic
def in_threads(typing, kernel, team, arguments):
    """Compiled code calls this to run ``kernel(first, last, *arguments)`` over ranges that make up the team's items.

    The ranges depend on nothing but the team. A kernel must write nothing that belongs to another range.

    Raises:
        RuntimeError: the kernel raised something in one of the ranges.
    """
    compiled = _compiled(typing, kernel, arguments)

    def generate(context, builder, signature, values):
        context.active_code_library.add_linking_library(compiled.library)
        openmp, threads, items = cgutils.unpack_tuple(builder, values[1])
        shared = cgutils.alloca_once(builder, _shared(values[2].type))
        for n, value in enumerate((_LONG(0), threads, items, _FLAG(0), values[2])):
            builder.store(value, _member(builder, shared, n))
        work = _work(context, builder.module, compiled.fndesc, values[2].type)
        data = builder.bitcast(shared, _BYTE)
        with builder.if_else(builder.icmp_signed(">", threads, _LONG(1))) as (several, one):
            with several:
                parallel = builder.inttoptr(openmp, _PARALLEL.as_pointer())
                builder.call(parallel, [work, data, builder.trunc(threads, _INT), _INT(0)])
            with one:
                builder.call(work, [data])
        failed = builder.load(_member(builder, shared, 3))
        with cgutils.if_unlikely(builder, builder.icmp_signed("!=", failed, _FLAG(0))):
            context.call_conv.return_user_exc(builder, RuntimeError, (FAILED,))
        return context.get_dummy_value()

    return types.void(kernel, team, arguments), generate


@intrinsic
def share(typing, kernel, team, n, arguments):
    """Compiled code calls this to run ``kernel(first, last, *arguments)`` over range ``n`` of the team's ranges.

    Returns 1 if the kernel raised something, else 0: an exception would be lost in a thread of Numba's.
    """
    compiled = _compiled(typing, kernel, arguments)

    def generate(context, builder, signature, values):
        context.active_code_library.add_linking_library(compiled.library)
        _, threads, items = cgutils.unpack_tuple(builder, values[1])
        data = cgutils.unpack_tuple(builder, values[3])
        status = _run_range(context, builder, compiled.fndesc, threads, items, values[2], data)
        return builder.zext(status.is_error, _LONG)

    return types.intp(kernel, team, types.intp, arguments), generate


def _compiled(typing: Any, kernel: Any, arguments: Any) -> Any:
    """The kernel, compiled for (first, last, *arguments)."""
    call = kernel.get_call_type(typing, (types.intp, types.intp, *arguments.types), {})
    return kernel.dispatcher.get_compile_result(call)


def _run_range(context: Any, builder: Any, kernel: Any, threads: Any, items: Any, n: Any, arguments: list[Any]) -> Any:
    """Call the kernel over range ``n`` of ``items`` in ``threads`` ranges; return what its call says of success."""
    first, last = (builder.sdiv(builder.mul(items, t), threads) for t in (n, builder.add(n, _LONG(1))))
    callee = context.declare_function(builder.module, kernel)
    status, _ = context.call_conv.call_function(
        builder, callee, kernel.restype, kernel.argtypes, [first, last, *arguments]
    )
    return status


def _shared(arguments: Any) -> Any:
    """What the threads share: the next range, how many there are, the items, whether one failed, the arguments."""
    return ir.LiteralStructType([_LONG, _LONG, _LONG, _FLAG, arguments])


def _member(builder: Any, shared: Any, n: int) -> Any:
    return builder.gep(shared, [_INT(0), _INT(n)], inbounds=True)


def _work(context: Any, module: Any, kernel: Any, arguments: Any) -> Any:
    """The function that each thread runs: it takes ranges until none is left.

    It does not ask for its number, since a busy machine may give fewer threads than it was asked for.
    """
    work = ir.Function(module, _WORK, module.get_unique_name("work"))
    work.linkage = "internal"
    builder = ir.IRBuilder(work.append_basic_block())
    shared = builder.bitcast(work.args[0], _shared(arguments).as_pointer())
    threads, items = (builder.load(_member(builder, shared, n)) for n in (1, 2))
    values = cgutils.unpack_tuple(builder, builder.load(_member(builder, shared, 4)))
    again, done = work.append_basic_block(), work.append_basic_block()
    builder.branch(again)
    builder.position_at_end(again)
    n = builder.atomic_rmw("add", _member(builder, shared, 0), _LONG(1), "monotonic")
    with builder.if_then(builder.icmp_signed("<", n, threads)):
        status = _run_range(context, builder, kernel, threads, items, n, values)
        with cgutils.if_unlikely(builder, status.is_error):
            builder.store(_FLAG(1), _member(builder, shared, 3))
        builder.branch(again)
    builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()
    return work
