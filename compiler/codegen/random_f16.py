"""Random f16: drawn in f32, a piece of scratch memory at a time, and rounded.

The functions have the parameters of their likes in `random`: void(state, out, n, ...).
"""

from __future__ import annotations

from llvmlite import ir

from .. import dtypes
from ..primitives import box_muller, mt19937
from .llvm_cast import round_to
from .mersenne_twister import I64, PTR, address, define, i64, load, loop, minimum, store

HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
_SCRATCH = 1024  # numbers drawn at a time


def uniform_f16(module: ir.Module, uniform: ir.Function) -> ir.Function:
    """As `uniform`, which draws f32; what rounding brought up to `high` becomes `low`."""

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count, *bounds = function.args
        low, high = (round_to(b, bound, dtypes.f16) for bound in bounds)
        scratch = b.alloca(FLOAT, _SCRATCH)
        with loop(b, i64(0), count, _SCRATCH) as start:
            size = minimum(b, b.sub(count, start), i64(_SCRATCH))
            b.call(uniform, [state, scratch, size, *bounds])
            with loop(b, i64(0), size) as index:
                half = round_to(b, load(b, scratch, FLOAT, index), dtypes.f16)
                half = b.select(b.fcmp_ordered("==", half, high), low, half)
                store(b, half, out, HALF, b.add(start, index))

    return define(module, "taut_uniform_core_f16", [PTR, PTR, I64, DOUBLE, DOUBLE], emit)


def normal_f16(
    module: ir.Module, few: ir.Function, uniform: ir.Function, transform: ir.Function
) -> ir.Function:
    """Blocks of 16 f32 from `uniform` and `transform`; less than one block as `few` draws it.

    A count that 16 does not divide draws one more block, whose normals are the last 16.
    """

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count, mean, std = function.args
        with b.if_then(b.icmp_signed("<", count, i64(mt19937.SMALL_NORMAL))):
            b.call(few, function.args)
            b.ret_void()
        block = b.alloca(FLOAT, box_muller.BLOCK)
        last = b.sub(count, i64(box_muller.BLOCK))
        with loop(b, i64(0), count, box_muller.BLOCK) as start:
            unit = [ir.Constant(DOUBLE, 0.0), ir.Constant(DOUBLE, 1.0)]
            b.call(uniform, [state, block, i64(box_muller.BLOCK), *unit])
            b.call(transform, [block, mean, std])
            _round_block(b, block, address(b, out, HALF, minimum(b, start, last)))

    return define(module, "taut_normal_core_f16", [PTR, PTR, I64, DOUBLE, DOUBLE], emit)


def _round_block(b: ir.IRBuilder, block: ir.Value, out: ir.Value) -> None:
    values = load(b, block, FLOAT, 0, box_muller.BLOCK)
    store(b, round_to(b, values, dtypes.f16), out, HALF, 0)
