"""Mathematical functions on vectors, emitted as LLVM for the loops of kernels.

    math = VectorMath(module)
    y = math.call("exp", builder, x)  # x: float, double, <N x float> or <N x double>

Nothing calls a C library. All is strict IEEE 754: NaN, infinities, signed zeros and subnormal
numbers are treated as the standard says, and the bits of a lane depend neither on the width nor on
the other lanes. A fused multiply-add (`llvm.fma`) is assumed and vector rounding (SSE4.1 or the
like), nothing wider.

`FUNCTIONS` says how exact each function is, and `ULP` the same as a table by name and dtype. An ulp
is the distance of the two numbers of a format between which the exact result lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from llvmlite import ir

from ...errors import CompileError
from . import basic, erf, exp_log, hyperbolic, power, trig
from .formats import F32, F64
from .lanes import Lanes, Vec


@dataclass(frozen=True)
class Function:
    """One function of `VectorMath`.

    Attributes:
        emit: writes the formula: `emit(lanes, *operands)`.
        f32, f64: the largest error in ulp; 0.5 means correctly rounded, 0 exact.
        operands: how many it takes.
        form: "direct": a few instructions, emitted in place; "inline": an LLVM function that is
            inlined, which makes loops 5 to 30 % faster than calls do and costs 1 to 5 ms of
            compiling for each further use; "call": one so long that inlining it saves next to
            nothing.
    """

    emit: Callable[..., Vec]
    f32: float
    f64: float
    operands: int = 1
    form: Literal["direct", "inline", "call"] = "inline"


FUNCTIONS = {
    "exp": Function(exp_log.exp, f32=1.0, f64=1.1),
    "expm1": Function(exp_log.expm1, f32=1.2, f64=1.2),
    "log": Function(exp_log.log, f32=0.9, f64=0.9),
    "log1p": Function(exp_log.log1p, f32=1.5, f64=1.5),
    "sin": Function(trig.sin, f32=0.9, f64=1.1),
    "cos": Function(trig.cos, f32=0.9, f64=1.1),
    "tan": Function(trig.tan, f32=1.2, f64=1.3),
    "tanh": Function(hyperbolic.tanh, f32=1.2, f64=1.4),
    "sigmoid": Function(hyperbolic.sigmoid, f32=1.6, f64=1.6),
    "erf": Function(erf.erf, f32=1.4, f64=1.2),
    "pow": Function(power.pow, f32=1.1, f64=1.2, operands=2, form="call"),
    "sqrt": Function(basic.sqrt, f32=0.5, f64=0.5, form="direct"),
    "floor": Function(basic.floor, f32=0.0, f64=0.0, form="direct"),
    "ceil": Function(basic.ceil, f32=0.0, f64=0.0, form="direct"),
    "round": Function(basic.round, f32=0.0, f64=0.0, form="direct"),
    "trunc": Function(basic.trunc, f32=0.0, f64=0.0, form="direct"),
    "abs": Function(basic.abs, f32=0.0, f64=0.0, form="direct"),
    "copysign": Function(basic.copysign, f32=0.0, f64=0.0, operands=2, form="direct"),
    "maximum": Function(basic.maximum, f32=0.0, f64=0.0, operands=2, form="direct"),
    "minimum": Function(basic.minimum, f32=0.0, f64=0.0, operands=2, form="direct"),
    "rem": Function(basic.rem, f32=0.5, f64=0.5, operands=2),
}

ULP: dict[tuple[str, str], float] = {
    (name, dtype): bound
    for name, function in FUNCTIONS.items()
    for dtype, bound in (("f32", function.f32), ("f64", function.f64))
}


def _lanes(builder: ir.IRBuilder, type: ir.Type) -> Lanes:
    """The notation for values of that LLVM type; CompileError if it is not one of floats."""
    element = type.element if isinstance(type, ir.VectorType) else type
    width = type.count if isinstance(type, ir.VectorType) else 0
    if isinstance(element, ir.FloatType):
        return Lanes(builder, F32, width)
    if isinstance(element, ir.DoubleType):
        return Lanes(builder, F64, width)
    raise CompileError(f"vector math works on float and double and vectors of them, not on {type}")


class VectorMath:
    """Emits calls of mathematical functions into one LLVM module, and each function once a type."""

    def __init__(self, module: ir.Module) -> None:
        self.module = module

    def call(self, name: str, builder: ir.IRBuilder, *args: ir.Value) -> ir.Value:
        """Insert `name(*args)` at the builder's place; the result has the type of the operands.

        Raises:
            CompileError: there is no such function, or it does not take such operands.
        """
        function = self._check(name, args)
        lanes = _lanes(builder, args[0].type)
        if function.form == "direct":
            return function.emit(lanes, *(lanes.wrap(a) for a in args)).ir
        return builder.call(self._define(name, function, lanes), args)

    def _check(self, name: str, args: tuple[ir.Value, ...]) -> Function:
        if name not in FUNCTIONS:
            raise CompileError(f"vector math has no {name!r}; it has {', '.join(FUNCTIONS)}")
        function, types = FUNCTIONS[name], [a.type for a in args]
        if len(args) != function.operands or any(t != types[0] for t in types):
            got, n = ", ".join(map(str, types)), function.operands
            raise CompileError(f"{name} takes {n} operand(s) of one type, got ({got})")
        return function

    def _define(self, name: str, function: Function, like: Lanes) -> ir.Function:
        """The LLVM function for that type, emitted when first asked for."""
        symbol, t = f"taut.{name}.{like.suffix}", like.types["float"]
        if symbol not in self.module.globals:
            made = ir.Function(self.module, ir.FunctionType(t, [t] * function.operands), symbol)
            if function.form == "inline":
                made.linkage = "internal"
            made.attributes.add("alwaysinline" if function.form == "inline" else "noinline")
            made.attributes.add("nounwind")
            builder = ir.IRBuilder(made.append_basic_block("entry"))
            lanes = Lanes(builder, like.format, like.width)
            builder.ret(function.emit(lanes, *(lanes.wrap(a) for a in made.args)).ir)
        return self.module.globals[symbol]
