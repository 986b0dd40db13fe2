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
from . import parts

#: Channels of one load. It is the number of channels of a head in Deformable DETR: two registers of AVX-512.
LANES = 32


#: What kernels take as their argument ``lanes``. Numba compiles for types, so the two differ in type: rows that lanes
#: fill to the end, and rows that end within lanes. Of the latter, what is loaded beyond the end is zero, and nothing is
#: stored there. That costs more than a comparison: a processor hands what a masked store writes to the next load only
#: when it has reached the cache, and neighbouring samples add to the same pixels.
WHOLE, RAGGED = True, 0


def lanes_of(channels: int) -> int | None:
    """How rows of ``channels`` end, :data:`WHOLE` or :data:`RAGGED`; None for plain loops.

    A kernel leaves out the code that ``lanes is None`` does not reach.
    """
    if not parts.has("lanes"):
        return None
    return RAGGED if channels % LANES else WHOLE


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
def load(typing, lanes, array, row, first):
    """Channels ``first`` and after of a row of ``array``, (rows, channels)."""

    def generate(context, builder, signature, arguments):
        place, vector = _place(context, builder, signature.args[1], *arguments[1:])
        align = _align(signature.args[1])
        if _is_whole(lanes):
            return builder.load(place, align=align)
        mask = _within(context, builder, signature.args[1], *arguments[1:])
        function = _llvm(builder, "load", vector, vector, [place.type, _I32, mask.type, vector])
        return builder.call(function, [place, _I32(align), mask, ir.Constant(vector, None)])

    return Lanes(array.dtype)(lanes, array, types.intp, types.intp), generate


@intrinsic
def store(typing, lanes, array, row, first, values):
    """Write lanes where :func:`load` reads."""

    def generate(context, builder, signature, arguments):
        *where, values = arguments[1:]
        place, vector = _place(context, builder, signature.args[1], *where)
        align = _align(signature.args[1])
        if _is_whole(lanes):
            builder.store(values, place, align=align)
        else:
            mask = _within(context, builder, signature.args[1], *where)
            function = _llvm(builder, "store", vector, ir.VoidType(), [vector, place.type, _I32, mask.type])
            builder.call(function, [values, place, _I32(align), mask])
        return context.get_dummy_value()

    return types.void(lanes, array, types.intp, types.intp, values), generate


@intrinsic
def totals(typing, a, b, c, d):
    """The sums of four lanes, in any order: in half of the steps that four sums take one by one."""

    def generate(context, builder, signature, arguments):
        # Each round adds halves: two lanes share a vector, then four, then each sum is left in its quarter.
        first, second, third, fourth = arguments
        pair, other = (_halves_added(builder, *both, 1) for both in ((first, second), (third, fourth)))
        four = _halves_added(builder, pair, other, 2)
        step = LANES // 8
        while step:
            four = builder.fadd(four, _shuffled(builder, four, four, [lane ^ step for lane in range(LANES)]))
            step //= 2
        sums = [builder.extract_element(four, _I32(quarter * LANES // 4)) for quarter in range(4)]
        return context.make_tuple(builder, signature.return_type, sums)

    return types.UniTuple(a.dtype, 4)(a, b, c, d), generate


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


def _is_whole(lanes: types.Type) -> bool:
    return isinstance(lanes, types.Boolean)


def _place(context: Any, builder: Any, kind: Any, array: Any, row: Any, first: Any) -> tuple[Any, Any]:
    """Where lanes lie in memory, and their LLVM type."""
    array = context.make_array(kind)(context, builder, array)
    place = cgutils.get_item_pointer(context, builder, kind, array, [row, first], wraparound=False)
    vector = ir.VectorType(context.get_data_type(kind.dtype), LANES)
    return builder.bitcast(place, vector.as_pointer()), vector


def _align(kind: Any) -> int:
    """Bytes that places of an array are multiples of."""
    return kind.dtype.bitwidth // 8


def _within(context: Any, builder: Any, kind: Any, array: Any, row: Any, first: Any) -> Any:
    """Which of the lanes lie within the row."""
    array = context.make_array(kind)(context, builder, array)
    left = builder.sub(cgutils.unpack_tuple(builder, array.shape)[1], first)
    count = builder.select(builder.icmp_signed("<", left, _I64(LANES)), left, _I64(LANES))
    lane = ir.Constant(ir.VectorType(_I8, LANES), list(range(LANES)))
    return builder.icmp_signed("<", lane, _filled(builder, builder.trunc(count, _I8)))


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


def _shuffled(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    """Lanes at these places of a and, counted on, b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(places)), places))


def _halves_added(builder: Any, a: Any, b: Any, groups: int) -> Any:
    """The lower half plus the upper half of each of ``groups`` of a, then of b: as many lanes as one of them has."""
    size = LANES // groups
    lower = [start + lane for start in range(0, 2 * LANES, size) for lane in range(size // 2)]
    upper = [lane + size // 2 for lane in lower]
    return builder.fadd(_shuffled(builder, a, b, lower), _shuffled(builder, a, b, upper))
