"""Channels that a kernel holds in vector registers, :data:`LANES` at once.

A loop over two arrays is compiled with a check before it that they do not overlap; where a pixel has 32 channels, that
check costs more than the loop. Lanes are values, so there is nothing to check: a kernel loads them, computes with
them, and stores what it wants to keep. ``a * lanes`` takes a number or lanes, ``lanes + lanes`` adds.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import models, overload, register_model

from ..numba_compile import intrinsic

#: Channels of one load. It is the number of channels of a head in Deformable DETR: two registers of AVX-512.
LANES = 32

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


class Lanes(types.Type):
    """The type of :data:`LANES` numbers of one dtype."""

    def __init__(self, dtype: types.Type) -> None:
        super().__init__(name=f"lanes({dtype})")
        self.dtype = dtype


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, LANES))


@intrinsic
def zeros(typing, array):
    """Lanes of zeros, of the array's dtype."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return Lanes(array.dtype)(array), generate


@intrinsic
def load(typing, array, row, first):
    """Channels ``first`` and after of a row of ``array``, (rows, channels); zeros beyond the row's end."""

    def generate(context, builder, signature, arguments):
        place, mask, vector, align = _span(context, builder, signature.args[0], *arguments)
        function = _llvm(builder, "load", vector, vector, [place.type, _I32, mask.type, vector])
        return builder.call(function, [place, align, mask, ir.Constant(vector, None)])

    return Lanes(array.dtype)(array, types.intp, types.intp), generate


@intrinsic
def store(typing, array, row, first, lanes):
    """Write lanes where :func:`load` reads; nothing beyond the row's end."""

    def generate(context, builder, signature, arguments):
        place, mask, vector, align = _span(context, builder, signature.args[0], *arguments[:3])
        function = _llvm(builder, "store", vector, ir.VoidType(), [vector, place.type, _I32, mask.type])
        builder.call(function, [arguments[3], place, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), generate


@intrinsic
def total(typing, lanes):
    """The sum of all lanes, in any order."""

    def generate(context, builder, signature, arguments):
        vector = arguments[0].type
        kind = ir.FunctionType(vector.element, [vector.element, vector])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.{_suffix(vector)}")
        return builder.call(function, [ir.Constant(vector.element, 0.0), arguments[0]], fastmath=("reassoc",))

    return lanes.dtype(lanes), generate


@intrinsic
def _multiply(typing, factor, lanes):
    def generate(context, builder, signature, arguments):
        factor, lanes = arguments
        return builder.fmul(factor if factor.type == lanes.type else _filled(builder, factor), lanes)

    return lanes(factor, lanes), generate


@intrinsic
def _add(typing, a, b):
    def generate(context, builder, signature, arguments):
        return builder.fadd(*arguments)

    return a(a, b), generate


@overload(operator.mul)
def _(a, b):
    if isinstance(b, Lanes) and a in (b, b.dtype):
        return lambda a, b: _multiply(a, b)
    return None


@overload(operator.add)
def _(a, b):
    if isinstance(a, Lanes) and a == b:
        return lambda a, b: _add(a, b)
    return None


def _span(context: Any, builder: Any, kind: Any, array: Any, row: Any, first: Any) -> tuple[Any, Any, Any, Any]:
    """Where lanes lie in memory, which of them lie within the row, their LLVM type, and the alignment."""
    array = context.make_array(kind)(context, builder, array)
    place = cgutils.get_item_pointer(context, builder, kind, array, [row, first], wraparound=False)
    vector = ir.VectorType(context.get_data_type(kind.dtype), LANES)
    left = builder.sub(cgutils.unpack_tuple(builder, array.shape)[1], first)
    count = builder.select(builder.icmp_signed("<", left, _I64(LANES)), left, _I64(LANES))
    lane = ir.Constant(ir.VectorType(_I8, LANES), list(range(LANES)))
    mask = builder.icmp_signed("<", lane, _filled(builder, builder.trunc(count, _I8)))
    return builder.bitcast(place, vector.as_pointer()), mask, vector, _I32(kind.dtype.bitwidth // 8)


def _llvm(builder: Any, name: str, vector: Any, result: Any, arguments: list[Any]) -> Any:
    """LLVM's masked load or store."""
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.{name}.{_suffix(vector)}.p0")


def _suffix(vector: Any) -> str:
    return f"v{LANES}f{64 if isinstance(vector.element, ir.DoubleType) else 32}"


def _filled(builder: Any, number: Any) -> Any:
    """Lanes that all hold the same number."""
    vector = ir.VectorType(number.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, _I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))
