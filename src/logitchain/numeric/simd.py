"""64 logits at a time, in explicit vector code: what LLVM's loop vectoriser does not find itself.

A block's maximum costs what reading it costs; a loop over floats would compare one by one, because
a NaN might be among them. The bodies of the public functions run only where numba does not compile.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compile import inlined, instructions
from .functions import F32, I64, U64, Row

#: How many logits a block has.
LANES = 64

_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def _place(context: Any, builder: Any, row_type: Any, row: Any, start: Any) -> Any:
    data = context.make_array(row_type)(context, builder, row).data
    return builder.bitcast(builder.gep(data, [start]), _VECTOR.as_pointer())


def _load(context: Any, builder: Any, row_type: Any, row: Any, start: Any) -> Any:
    return builder.load(_place(context, builder, row_type, row, start), align=4)


def _half(builder: Any, vector: Any, first: int) -> Any:
    n = vector.type.count // 2
    places = ir.Constant(ir.VectorType(_I32, n), list(range(first * n, first * n + n)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), places)


@intrinsic
def _llvm_peak(typingctx: Any, row: Any, start: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, signature.args[0], *args)
        low, high = _half(builder, vector, 0), _half(builder, vector, 1)
        unordered = builder.fcmp_unordered("uno", low, high)
        mask = builder.bitcast(unordered, ir.IntType(LANES // 2))
        has_nan = builder.icmp_unsigned("!=", mask, mask.type(0))
        while True:
            vector = builder.select(builder.fcmp_ordered(">", low, high), low, high)
            if vector.type.count == 1:
                break
            low, high = _half(builder, vector, 0), _half(builder, vector, 1)
        largest = builder.extract_element(vector, _I32(0))
        return context.make_tuple(builder, signature.return_type, [largest, has_nan])

    pair = types.Tuple((types.float32, types.boolean))  # type: ignore[no-untyped-call]
    return pair(row, start), codegen


@instructions(_llvm_peak)
def peak(row: Row, start: I64) -> tuple[F32, bool]:
    """(the largest of the 64 logits from `start` on, whether a NaN is among them).

    With a NaN the largest is any of them.
    """
    block = row[start : start + LANES]
    return block.max(), bool(np.isnan(block).any())


@intrinsic
def _llvm_reaching(typingctx: Any, row: Any, start: Any, floor: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, signature.args[0], *args[:2])
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[2], _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        floors = builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)
        return builder.bitcast(builder.fcmp_ordered(">=", vector, floors), ir.IntType(LANES))

    return types.uint64(row, start, types.float32), codegen


@instructions(_llvm_reaching)
def reaching(row: Row, start: I64, floor: F32) -> U64:
    """Which of the 64 logits from `start` on are at least `floor`: bit j for the j-th."""
    bits = np.packbits(row[start : start + LANES] >= floor, bitorder="little")
    return bits.view(np.uint64)[0]


@intrinsic
def _llvm_move(typingctx: Any, row: Any, start: Any, target: Any, to: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, signature.args[0], *args[:2])
        builder.store(vector, _place(context, builder, signature.args[2], *args[2:]), align=4)
        return context.get_dummy_value()

    return types.none(row, start, target, to), codegen


@instructions(_llvm_move)
def move(row: Row, start: I64, target: Row, to: I64) -> None:
    """Copy the 64 logits from `start` on to the place `to` of another row."""
    target[to : to + LANES] = row[start : start + LANES]


@intrinsic
def _llvm_remove(typingctx: Any, row: Any, start: Any, word: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _load(context, builder, signature.args[0], *args[:2])
        bits = builder.bitcast(args[2], ir.VectorType(ir.IntType(1), LANES))
        limits = (ir.Constant(_VECTOR, [float(x)] * LANES) for x in ("inf", "-inf"))
        place = _place(context, builder, signature.args[0], *args[:2])
        kind = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR])  # a select would be a masked store
        least = builder.module.declare_intrinsic(f"llvm.minnum.v{LANES}f32", (), kind)
        builder.store(builder.call(least, [vector, builder.select(bits, *limits)]), place, align=4)
        return context.get_dummy_value()

    return types.none(row, start, types.uint64), codegen


@instructions(_llvm_remove)
def remove(row: Row, start: I64, word: U64) -> None:
    """Remove those of the 64 logits from `start` on whose bit in the word is 0."""
    bits = np.unpackbits(np.array([word], "<u8").view(np.uint8), bitorder="little")
    row[start : start + LANES][bits == 0] = -np.inf


@intrinsic
def _llvm_lowest_bit(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@instructions(_llvm_lowest_bit)
def lowest_bit(bits: U64) -> I64:
    """The place of the lowest 1 in a number that has one."""
    return (int(bits) & -int(bits)).bit_length() - 1


@intrinsic
def _llvm_highest_bit(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(zeros.type(63), zeros)

    return types.int64(types.uint64), codegen


@instructions(_llvm_highest_bit)
def highest_bit(bits: U64) -> I64:
    """The place of the highest 1 in a number that has one."""
    return int(bits).bit_length() - 1


@intrinsic
def _llvm_count_bits(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@instructions(_llvm_count_bits)
def count_bits(bits: U64) -> I64:
    """How many 1s a number has."""
    return int(bits).bit_count()


@inlined
def equal_to(row: Row, start: I64, value: F32, above: F32) -> U64:
    """Which of the 64 logits from `start` on equal a value; `above` is the next larger float."""
    return reaching(row, start, value) & ~reaching(row, start, above)
