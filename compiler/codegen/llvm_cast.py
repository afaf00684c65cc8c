"""Conversions between dtypes, as PyTorch and C have them where C defines them.

A float becomes an integer towards zero; what does not fit saturates and nan becomes 0, so that
nothing is undefined.
"""

from __future__ import annotations

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from .llvm_values import (
    F16,
    F32,
    F64,
    I32,
    constant,
    element_type,
    intrinsic,
    register_type,
    vector,
    width_of,
)


def cast(builder: ir.IRBuilder, value: ir.Value, source: DType, target: DType) -> ir.Value:
    """`value` of one dtype as another."""
    if source is target:
        return value
    if target.kind == "bool":
        return _is_true(builder, value, source)
    if source.kind == "float":
        return _from_float(builder, value, target)
    if target.kind == "float":
        return _to_float(builder, value, source, target)
    return resize(builder, value, source, register_type(target))


def _is_true(builder: ir.IRBuilder, value: ir.Value, source: DType) -> ir.Value:
    zero = constant(element_type(value), 0, width_of(value))
    if source.kind == "float":
        return builder.fcmp_unordered("!=", value, zero)
    return builder.icmp_unsigned("!=", value, zero)


def resize(builder: ir.IRBuilder, value: ir.Value, source: DType, to: ir.IntType) -> ir.Value:
    """An integer of another width."""
    result, bits = vector(to, width_of(value)), element_type(value).width
    if to.width == bits:
        return value
    if to.width < bits:
        return builder.trunc(value, result)
    return builder.sext(value, result) if source.kind == "int" else builder.zext(value, result)


def _to_float(builder: ir.IRBuilder, value: ir.Value, source: DType, target: DType) -> ir.Value:
    """To f16 through f32: an integer that f32 must round is beyond f16's range in any case."""
    through = F64 if target is dtypes.f64 else F32
    result = vector(through, width_of(value))
    convert = builder.sitofp if source.kind == "int" else builder.uitofp
    return round_to(builder, convert(value, result), target)


def _from_float(builder: ir.IRBuilder, value: ir.Value, target: DType) -> ir.Value:
    if target.kind == "float":
        return round_to(builder, widen(builder, value), target)
    value = widen(builder, value)
    result = vector(register_type(target), width_of(value))
    name = "fptosi.sat" if target.kind == "int" else "fptoui.sat"
    return intrinsic(builder, name, result, [value], result, value.type)


def widen(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A 16-bit float in 32 bits; anything else as it is."""
    if element_type(value) != F16:
        return value
    return builder.fpext(value, vector(F32, width_of(value)))


def round_to(builder: ir.IRBuilder, value: ir.Value, dtype: DType) -> ir.Value:
    """A float in the precision of a dtype; left alone if that is no float (a comparison's)."""
    if dtype.kind != "float":
        return value
    source, target = element_type(value), register_type(dtype)
    if source == target:
        return value
    result = vector(target, width_of(value))
    if source == F32 and target == F64:
        return builder.fpext(value, result)
    if source == F64 and target == F16:
        value = _round_to_odd(builder, value)
    return builder.fptrunc(value, result)


def _round_to_odd(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """f64 as f32 with the last bit set where it is inexact: rounding that to f16 rounds only once.

    Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans.  Computers 57
    (2008). No CPU converts f64 to f16, and LLVM would call a function that we do not have.
    """
    width = width_of(value)
    nearest = builder.fptrunc(value, vector(F32, width))
    back = builder.fpext(nearest, value.type)
    bits = builder.bitcast(nearest, vector(I32, width))
    one = constant(I32, 1, width)
    beyond = builder.fcmp_ordered(">", _magnitude(builder, back), _magnitude(builder, value))
    towards_zero = builder.select(beyond, builder.sub(bits, one), bits)
    inexact = builder.fcmp_ordered("!=", back, value)
    odd = builder.select(inexact, builder.or_(towards_zero, one), bits)
    return builder.bitcast(odd, nearest.type)


def _magnitude(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return intrinsic(builder, "fabs", value.type, [value])
