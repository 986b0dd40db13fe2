"""How the CPU kernels share their work: they run on the very threads that PyTorch's own operators run on.

PyTorch's OpenMP threads keep a core busy for milliseconds after an operator, waiting for the next one. Threads of our
own would have to compete with them. Numba's pools have the same fault, and two more: one aborts when two threads
launch at once, the other after a fork. A thread that helps never touches Python: it would wait for Python's lock
longer than a small kernel takes.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from llvmlite import ir
from numba.core import cgutils, types

from ..numba_compile import intrinsic


class Team(NamedTuple):
    """Who does a piece of work: the address of OpenMP's entry (0: nobody helps), the threads, the items to do."""

    openmp: int
    threads: int
    items: int


def team(items: int) -> Team:
    """The team for so many items: PyTorch's threads, or the caller alone where they cannot help."""
    openmp = 0 if _forked else _openmp()
    return Team(openmp, min(torch.get_num_threads(), items) if openmp else 1, items)


@cache
def _openmp() -> int:
    """The address of ``GOMP_parallel`` in the OpenMP library that PyTorch has loaded: GNU's, or LLVM's, which has it.

    0, and a word about it, where PyTorch was built with other threads.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    try:
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
    except AttributeError:
        print("dyhead_lab: this PyTorch has no OpenMP threads; the CPU kernels run on one thread", file=sys.stderr)
        return 0


#: OpenMP's threads do not survive a fork, and it does not notice. PyTorch's own operators have the same limit.
_forked = False


def _remember_fork() -> None:
    global _forked
    _forked = True


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
    call = kernel.get_call_type(typing, (types.intp, types.intp, *arguments.types), {})

    def generate(context, builder, signature, values):
        compiled = kernel.dispatcher.get_compile_result(call)
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
            context.call_conv.return_user_exc(builder, RuntimeError, ("a CPU kernel failed in one of its threads",))
        return context.get_dummy_value()

    return types.void(kernel, team, arguments), generate


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
    callee = context.declare_function(module, kernel)
    again, done = work.append_basic_block(), work.append_basic_block()
    builder.branch(again)
    builder.position_at_end(again)
    n = builder.atomic_rmw("add", _member(builder, shared, 0), _LONG(1), "monotonic")
    with builder.if_then(builder.icmp_signed("<", n, threads)):
        first, last = (builder.sdiv(builder.mul(items, t), threads) for t in (n, builder.add(n, _LONG(1))))
        status, _ = context.call_conv.call_function(
            builder, callee, kernel.restype, kernel.argtypes, [first, last, *values]
        )
        with cgutils.if_unlikely(builder, status.is_error):
            builder.store(_FLAG(1), _member(builder, shared, 3))
        builder.branch(again)
    builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()
    return work
