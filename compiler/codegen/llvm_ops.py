"""Scalar code of primitives as LLVM instructions, on scalars and vectors alike.

`Operations.apply` reads the strings of `Elementwise.llvm`: an instruction (`fadd`), a comparison
(`fcmp <`, `icmp <` signed, `ucmp <` unsigned), a function of the vector mathematics library (`math
exp`), or a few instructions that are written here (`macro rem`, `cast`, `select`).  Strict IEEE
arithmetic: no flag allows LLVM to relax anything.

16-bit floats are computed in 32 bits and rounded after each operation, as NumPy does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llvmlite import ir

from .. import dtypes, primitives  # noqa: F401 (registers them)
from ..dtypes import DType
from ..errors import CompileError
from ..primitive import Elementwise, ElementwiseFunction, get
from .llvm_cast import cast, round_to, widen
from .llvm_functions import Functions
from .llvm_values import (
    I1,
    constant,
    element_type,
    intrinsic,
    spread,
    width_of,
)
from .vector_math import VectorMath

Macro: TypeAlias = "Callable[[ir.IRBuilder, DType, Sequence[ir.Value]], ir.Value]"


class Operations:
    """Emits the scalar code of primitives into one module."""

    def __init__(self, module: ir.Module) -> None:
        self._math = VectorMath(module)
        self.functions = Functions(module, self._math)

    def compute(
        self,
        builder: ir.IRBuilder,
        primitive: str,
        operands: Sequence[ir.Value],
        source: DType,
        result: DType,
        mask: ir.Value | None = None,
    ) -> ir.Value:
        """`primitive(operands)`; `source` is the operands' dtype (but of `select`'s condition).

        Lanes where a mask is not set get anything.

        Raises:
            CompileError: the primitive has no scalar code for that dtype.
        """
        lowering = _lowering_of(primitive)
        if isinstance(lowering, ElementwiseFunction):
            given = [cast(builder, o, source, lowering.dtype) for o in operands]
            value = self.functions.call(builder, lowering, given, mask)
            return cast(builder, value, lowering.result, result)
        code = _code_of(primitive, source)
        width = max(map(width_of, operands))
        operands = [spread(builder, o, width) for o in operands]
        if code == "cast":
            return cast(builder, operands[0], source, result)
        if source is dtypes.f16 and code != "select":
            wide = [widen(builder, o) for o in operands]
            value = self.apply(builder, code, wide, dtypes.f32)
            return round_to(builder, value, result)
        return self.apply(builder, code, operands, source)

    def apply(
        self, builder: ir.IRBuilder, code: str, operands: Sequence[ir.Value], dtype: DType
    ) -> ir.Value:
        """One operation of the table on operands of equal width."""
        kind, _, name = code.partition(" ")
        if kind == "math":
            return self._math.call(name, builder, *operands)
        if kind == "macro":
            return _MACROS[name](builder, dtype, operands)
        if kind in _COMPARISONS:
            return _compare(builder, kind, name, operands)
        return _INSTRUCTIONS[kind](builder, *operands)

    def combine(
        self, builder: ir.IRBuilder, how: str, dtype: DType, a: ir.Value, b: ir.Value
    ) -> ir.Value:
        """`a` and `b` combined as a reduction does: "add", "mul", "max" or "min"."""
        return self.apply(builder, _COMBINATIONS[dtype.is_floating_point][how], (a, b), dtype)


def _lowering_of(primitive: str) -> Elementwise:
    lowering = get(primitive).lowering
    if not isinstance(lowering, Elementwise):
        raise CompileError(f"{primitive} is no elementwise primitive, so it has no scalar code")
    return lowering


def _code_of(primitive: str, source: DType) -> str:
    lowering = _lowering_of(primitive)
    code = lowering.llvm.get(source.kind) or lowering.llvm.get("any")
    if code is None:
        raise CompileError(f"{primitive} has no LLVM code for {source.name}")
    return code


_COMBINATIONS = {
    True: {"add": "fadd", "mul": "fmul", "max": "math maximum", "min": "math minimum"},
    False: {"add": "add", "mul": "mul", "max": "macro max", "min": "macro min"},
}


def _zero(value: ir.Value) -> ir.Constant:
    return constant(element_type(value), 0, width_of(value))


def _number(value: ir.Value, number: int) -> ir.Constant:
    return constant(element_type(value), number, width_of(value))


_INSTRUCTIONS: dict[str, Callable[..., ir.Value]] = {
    **{name: getattr(ir.IRBuilder, name) for name in ("fadd", "fsub", "fmul", "fdiv", "fneg")},
    **{name: getattr(ir.IRBuilder, name) for name in ("add", "sub", "mul", "and_", "or_", "xor")},
    "select": ir.IRBuilder.select,
    "neg": lambda builder, x: builder.sub(_zero(x), x),
    "not_": lambda builder, x: builder.xor(x, _number(x, True if element_type(x) == I1 else -1)),
}
_COMPARISONS = ("fcmp", "icmp", "ucmp")


def _compare(
    builder: ir.IRBuilder, kind: str, symbol: str, operands: Sequence[ir.Value]
) -> ir.Value:
    """A comparison; with nan only `!=` is true."""
    if kind == "icmp":
        return builder.icmp_signed(symbol, *operands)
    if kind == "ucmp":
        return builder.icmp_unsigned(symbol, *operands)
    emit = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
    return emit(symbol, *operands)


def less(builder: ir.IRBuilder, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    """a < b, whatever the kind of the dtype."""
    kind = {"float": "fcmp", "int": "icmp"}.get(dtype.kind, "ucmp")
    return _compare(builder, kind, "<", (a, b))


# --- macros ---------------------------------------------------------------------------------------


def _abs(builder: ir.IRBuilder, dtype: DType, operands: Sequence[ir.Value]) -> ir.Value:
    (x,) = operands
    return intrinsic(builder, "abs", x.type, [x, constant(I1, False)])


def _sign(builder: ir.IRBuilder, dtype: DType, operands: Sequence[ir.Value]) -> ir.Value:
    """(x > 0) - (x < 0), which is 0 for nan."""
    (x,) = operands
    zero, one = _zero(x), _number(x, 1)
    above, below = less(builder, dtype, zero, x), less(builder, dtype, x, zero)
    minus_one = _number(x, 1 if dtype.kind == "uint" else -1)
    return builder.select(above, one, builder.select(below, minus_one, zero))


def _safe_divisor(
    builder: ir.IRBuilder, dtype: DType, x: ir.Value, y: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Whether y is 0, and y with 1 for what traps: 0, and -1 below the smallest integer."""
    is_zero = builder.icmp_unsigned("==", y, _zero(y))
    bad = is_zero
    if dtype.kind == "int":
        overflows = builder.and_(
            builder.icmp_signed("==", y, _number(y, -1)),
            builder.icmp_signed("==", x, _number(x, -(1 << (dtype.bits - 1)))),
        )
        bad = builder.or_(is_zero, overflows)
    return is_zero, builder.select(bad, _number(y, 1), y)


def _floor_divide(builder: ir.IRBuilder, dtype: DType, operands: Sequence[ir.Value]) -> ir.Value:
    """x // y rounded down; 0 where y is 0, as NumPy has it."""
    x, y = operands
    is_zero, divisor = _safe_divisor(builder, dtype, x, y)
    if dtype.kind == "uint":
        return builder.select(is_zero, _zero(x), builder.udiv(x, divisor))
    quotient, rest = builder.sdiv(x, divisor), builder.srem(x, divisor)
    floored = builder.sub(quotient, _number(x, 1))
    quotient = builder.select(_signs_differ(builder, rest, divisor), floored, quotient)
    return builder.select(is_zero, _zero(x), quotient)


def _remainder(builder: ir.IRBuilder, dtype: DType, operands: Sequence[ir.Value]) -> ir.Value:
    """The remainder with the sign of y; 0 where y is 0, as NumPy has it."""
    x, y = operands
    _, divisor = _safe_divisor(builder, dtype, x, y)
    if dtype.kind == "uint":
        return builder.urem(x, divisor)
    rest = builder.srem(x, divisor)
    moved = builder.add(rest, divisor)
    return builder.select(_signs_differ(builder, rest, divisor), moved, rest)


def _signs_differ(builder: ir.IRBuilder, rest: ir.Value, divisor: ir.Value) -> ir.Value:
    """Whether a remainder is not 0 and has not the divisor's sign."""
    opposite = builder.icmp_signed("<", builder.xor(rest, divisor), _zero(rest))
    return builder.and_(opposite, builder.icmp_signed("!=", rest, _zero(rest)))


def _power(builder: ir.IRBuilder, dtype: DType, operands: Sequence[ir.Value]) -> ir.Value:
    """x ** y modulo 2**bits; for y < 0 that of 1/x rounded to zero, as PyTorch has it."""
    x, y = operands
    result = _power_loop(builder, x, y)
    if dtype.kind == "uint":
        return result
    one, minus_one = _number(x, 1), _number(x, -1)
    is_odd = builder.icmp_signed("!=", builder.and_(y, one), _zero(y))
    of_minus_one = builder.select(is_odd, minus_one, one)
    inverse = builder.select(builder.icmp_signed("==", x, one), one, _zero(x))
    inverse = builder.select(builder.icmp_signed("==", x, minus_one), of_minus_one, inverse)
    return builder.select(builder.icmp_signed("<", y, _zero(y)), inverse, result)


def _power_loop(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    before = builder.block
    inside, after = builder.append_basic_block("power"), builder.append_basic_block("after")
    builder.branch(inside)
    builder.position_at_end(inside)
    result, base, rest = (builder.phi(x.type) for _ in range(3))
    is_odd = builder.icmp_unsigned("!=", builder.and_(rest, _number(y, 1)), _zero(y))
    product = builder.select(is_odd, builder.mul(result, base), result)
    square, shifted = builder.mul(base, base), builder.lshr(rest, _number(y, 1))
    more = _any(builder, builder.icmp_unsigned("!=", shifted, _zero(y)))
    incoming = ((_number(x, 1), product), (x, square), (y, shifted))
    for phi, (first, following) in zip((result, base, rest), incoming, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(following, inside)
    builder.cbranch(more, inside, after)
    builder.position_at_end(after)
    return product


def _any(builder: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    if not width_of(mask):
        return mask
    function = f"llvm.vector.reduce.or.v{width_of(mask)}i1"
    if function not in builder.module.globals:
        ir.Function(builder.module, ir.FunctionType(I1, [mask.type]), function)
    return builder.call(builder.module.globals[function], [mask])


def _extremum(largest: bool) -> Macro:
    def emit(builder: ir.IRBuilder, dtype: DType, operands: Sequence[ir.Value]) -> ir.Value:
        x, y = operands
        if dtype.kind == "bool":
            return builder.or_(x, y) if largest else builder.and_(x, y)
        name = ("s" if dtype.kind == "int" else "u") + ("max" if largest else "min")
        return intrinsic(builder, name, x.type, [x, y])

    return emit


_MACROS: dict[str, Macro] = {
    "abs": _abs,
    "same": lambda builder, dtype, operands: operands[0],
    "fma": lambda builder, dtype, operands: intrinsic(builder, "fma", operands[0].type, operands),
    "sign": _sign,
    "floordiv": _floor_divide,
    "rem": _remainder,
    "pow": _power,
    "max": _extremum(True),
    "min": _extremum(False),
}
