"""Elementwise primitives: one scalar program applied to every element.

Operands have one shape and, but for `select`'s condition, one dtype: the front end inserts the
broadcasts and casts that PyTorch implies.  Each VJP rule reads as the derivative does in a
textbook.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import dtypes
from ..aval import Aval
from ..dtypes import DType
from ..errors import IRError
from ..ir import Value
from ..primitive import Cotangents, Elementwise, Primitive, no_gradient, register
from . import batching
from .create import full_like

Array = npt.NDArray[Any]
FLOAT = ("float",)
NUMBER = ("float", "int", "uint")
ANY = ("float", "int", "uint", "bool")


def _require_kind(aval: Aval, kinds: tuple[str, ...]) -> None:
    if aval.dtype.kind not in kinds:
        raise IRError(f"expected a dtype of kind {' or '.join(kinds)}, got {aval}")


def _require_same(first: Aval, *others: Aval) -> None:
    for other in others:
        if other.shape != first.shape or other.dtype is not first.dtype:
            raise IRError(f"operands must have one dtype and one shape, got {first} and {other}")


def _result(avals: tuple[Aval, ...], dtype: DType) -> Aval:
    return Aval(dtype, avals[0].shape, all(a.weak for a in avals))


def _elementwise(
    name: str,
    arity: int,
    kinds: tuple[str, ...],
    reference: Callable[..., Any],
    vjp: Callable[..., Cotangents],
    lowering: Elementwise,
    doc: str,
    result: DType | None = None,
) -> Primitive:
    def type_rule(*avals: Aval) -> Aval:
        if len(avals) != arity:
            raise IRError(f"expected {arity} operands, got {len(avals)}")
        _require_kind(avals[0], kinds)
        _require_same(*avals)
        return _result(avals, result or avals[0].dtype)

    batch = batching.elementwise
    return register(Primitive(name, type_rule, reference, vjp, lowering, doc, batch=batch))


def _unary(name: str, kinds: tuple[str, ...], *args: Any, **kwargs: Any) -> Primitive:
    return _elementwise(name, 1, kinds, *args, **kwargs)


def _binary(name: str, kinds: tuple[str, ...], *args: Any, **kwargs: Any) -> Primitive:
    return _elementwise(name, 2, kinds, *args, **kwargs)


def _math(function: str) -> dict[str, str]:
    return {"float": f"math {function}"}


def _number(float_op: str, int_op: str) -> dict[str, str]:
    return {"float": float_op, "int": int_op, "uint": int_op}


# --- arithmetic -----------------------------------------------------------------------------------

neg: Primitive = _unary(
    "neg",
    NUMBER,
    np.negative,
    lambda ct, out, x: (neg(ct),),
    Elementwise("-{0}", _number("fneg", "neg")),
    "-x",
)
abs_ = _unary(
    "abs",
    NUMBER,
    np.abs,
    lambda ct, out, x: (mul(ct, sign(x)),),
    Elementwise("abs({0})", {"float": "math abs", "int": "macro abs", "uint": "macro same"}),
    "|x|",
)


def _sign(x: Array) -> Any:
    return np.where(np.isnan(x), np.zeros_like(x), np.sign(x))


sign: Primitive = _unary(
    "sign",
    NUMBER,
    _sign,
    no_gradient,
    Elementwise("{t}(({0} > 0) - np.int8({0} < 0))", {"any": "macro sign"}),
    "-1, 0 or 1 by the sign of x; 0 of nan, as PyTorch has it",
)
add = _binary(
    "add",
    NUMBER,
    np.add,
    lambda ct, out, x, y: (ct, ct),
    Elementwise("{0} + {1}", _number("fadd", "add")),
    "x + y",
)
sub = _binary(
    "sub",
    NUMBER,
    np.subtract,
    lambda ct, out, x, y: (ct, neg(ct)),
    Elementwise("{0} - {1}", _number("fsub", "sub")),
    "x - y",
)
mul: Primitive = _binary(
    "mul",
    NUMBER,
    np.multiply,
    lambda ct, out, x, y: (mul(ct, y), mul(ct, x)),
    Elementwise("{0} * {1}", _number("fmul", "mul")),
    "x * y",
)
div: Primitive = _binary(
    "div",
    FLOAT,
    np.divide,
    lambda ct, out, x, y: (div(ct, y), neg(div(mul(ct, out), y))),
    Elementwise("{0} / {1}", {"float": "fdiv"}),
    "x / y, of floats",
)


floordiv = _binary(
    "floordiv",
    ("int", "uint"),
    np.floor_divide,
    no_gradient,
    Elementwise("{0} // {1}", {"int": "macro floordiv", "uint": "macro floordiv"}),
    "x / y rounded down, of integers",
)


def _rem(x: Array, y: Array) -> Any:
    """C's fmod, plus y if the signs differ: unlike NumPy's, a zero keeps the sign of x."""
    if np.asarray(x).dtype.kind != "f":
        return np.remainder(x, y)
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


def _rem_vjp(ct: Value, out: Value, x: Value, y: Value) -> Cotangents:
    return ct, neg(mul(ct, round_(div(sub(x, out), y))))  # x / y itself may round up


rem = _binary(
    "rem",
    NUMBER,
    _rem,
    _rem_vjp,
    Elementwise("remainder({0}, {1})", _number("math rem", "macro rem")),
    "x - y * floor(x / y): the remainder with the sign of y; a zero has that of x",
)


def _zero_where(condition: Value, x: Value) -> Value:
    return select(condition, full_like(x, 0), x)


def _pow_vjp(ct: Value, out: Value, x: Value, y: Value) -> Cotangents:
    zero = full_like(x, 0)
    dx = mul(ct, mul(y, pow_(x, sub(y, full_like(y, 1)))))
    dy = mul(ct, mul(out, log(x)))
    at_zero = and_(eq(x, zero), le(zero, y))
    return _zero_where(eq(y, zero), dx), _zero_where(at_zero, dy)


def _power(x: Array, y: Array) -> Any:
    """NumPy's power, without its shortcuts for repeated exponents; integers as PyTorch has them."""
    x, y = np.broadcast_arrays(x, np.asarray(y, np.asarray(x).dtype))
    if x.dtype.kind == "f":
        return np.power(x, np.ascontiguousarray(y).reshape(y.shape))
    negative = np.where(np.abs(x) == 1, np.where(y % 2 == 0, x * x, x), 0)
    return np.where(y < 0, negative, np.power(x, np.maximum(y, 0)))


pow_ = _binary(
    "pow",
    NUMBER,
    _power,
    _pow_vjp,
    Elementwise("{0} ** {1}", _number("math pow", "macro pow")),
    "x to the power y",
)


def _split_ties(ct: Value, x: Value, y: Value, loser: Value) -> Value:
    """The cotangent where x won, half of it where x equals y, else 0 (PyTorch's rule)."""
    half = mul(ct, full_like(ct, 0.5))
    return _zero_where(loser, select(eq(x, y), half, ct))


maximum = _binary(
    "maximum",
    ANY,
    np.maximum,
    lambda ct, out, x, y: (_split_ties(ct, x, y, lt(x, y)), _split_ties(ct, y, x, lt(y, x))),
    Elementwise("np.maximum({0}, {1})", {"float": "math maximum", "any": "macro max"}),
    "the larger of x and y; nan if either is",
)
minimum = _binary(
    "minimum",
    ANY,
    np.minimum,
    lambda ct, out, x, y: (_split_ties(ct, x, y, lt(y, x)), _split_ties(ct, y, x, lt(x, y))),
    Elementwise("np.minimum({0}, {1})", {"float": "math minimum", "any": "macro min"}),
    "the smaller of x and y; nan if either is",
)


def _fma(x: Array, y: Array, z: Array) -> Any:
    """The product of two float32s is exact in float64; of float64s, long double serves."""
    wide = np.float64 if np.asarray(x).dtype.itemsize < 8 else np.longdouble
    total = np.add(np.multiply(x, y, dtype=wide), z, dtype=wide)
    return total.astype(np.asarray(x).dtype)


fma = _elementwise(
    "fma",
    3,
    FLOAT,
    _fma,
    lambda ct, out, x, y, z: (mul(ct, y), mul(ct, x), ct),
    Elementwise("{t}(np.float64({0}) * np.float64({1}) + np.float64({2}))", {"float": "macro fma"}),
    "x * y + z, rounded once",
)

# --- rounding -------------------------------------------------------------------------------------

floor = _unary(
    "floor",
    FLOAT,
    np.floor,
    no_gradient,
    Elementwise("np.floor({0})", _math("floor")),
    "x rounded down",
)
ceil = _unary(
    "ceil",
    FLOAT,
    np.ceil,
    no_gradient,
    Elementwise("np.ceil({0})", _math("ceil")),
    "x rounded up",
)
trunc = _unary(
    "trunc",
    FLOAT,
    np.trunc,
    no_gradient,
    Elementwise("np.trunc({0})", _math("trunc")),
    "x rounded towards zero",
)
round_ = _unary(
    "round",
    FLOAT,
    np.rint,
    no_gradient,
    Elementwise("np.rint({0})", _math("round")),
    "x rounded to the nearest integer, ties to even",
)

# --- functions ------------------------------------------------------------------------------------

exp = _unary(
    "exp",
    FLOAT,
    np.exp,
    lambda ct, out, x: (mul(ct, out),),
    Elementwise("np.exp({0})", _math("exp")),
    "e to the power x",
)
expm1 = _unary(
    "expm1",
    FLOAT,
    np.expm1,
    lambda ct, out, x: (mul(ct, add(out, full_like(out, 1))),),
    Elementwise("np.expm1({0})", _math("expm1")),
    "exp(x) - 1, accurate near 0",
)
log = _unary(
    "log",
    FLOAT,
    np.log,
    lambda ct, out, x: (div(ct, x),),
    Elementwise("np.log({0})", _math("log")),
    "natural logarithm",
)
log1p = _unary(
    "log1p",
    FLOAT,
    np.log1p,
    lambda ct, out, x: (div(ct, add(x, full_like(x, 1))),),
    Elementwise("np.log1p({0})", _math("log1p")),
    "log(1 + x), accurate near 0",
)
sqrt = _unary(
    "sqrt",
    FLOAT,
    np.sqrt,
    lambda ct, out, x: (div(ct, mul(full_like(out, 2), out)),),
    Elementwise("np.sqrt({0})", _math("sqrt")),
    "square root",
)
sin = _unary(
    "sin",
    FLOAT,
    np.sin,
    lambda ct, out, x: (mul(ct, cos(x)),),
    Elementwise("np.sin({0})", _math("sin")),
    "sine",
)
cos: Primitive = _unary(
    "cos",
    FLOAT,
    np.cos,
    lambda ct, out, x: (neg(mul(ct, sin(x))),),
    Elementwise("np.cos({0})", _math("cos")),
    "cosine",
)
tanh = _unary(
    "tanh",
    FLOAT,
    np.tanh,
    lambda ct, out, x: (mul(ct, sub(full_like(out, 1), mul(out, out))),),
    Elementwise("np.tanh({0})", _math("tanh")),
    "hyperbolic tangent",
)


def _sigmoid(x: Array) -> Any:
    wide = np.asarray(x, np.float64)
    return (1 / (1 + np.exp(-wide))).astype(x.dtype)


sigmoid = _unary(
    "sigmoid",
    FLOAT,
    _sigmoid,
    lambda ct, out, x: (mul(ct, mul(out, sub(full_like(out, 1), out))),),
    Elementwise("{t}(1.0 / (1.0 + np.exp(-np.float64({0}))))", _math("sigmoid")),
    "1 / (1 + exp(-x))",
)


def _erf(x: Array) -> Any:
    from scipy.special import erf as scipy_erf  # here, since importing SciPy takes longer than taut

    return scipy_erf(x).astype(np.asarray(x).dtype)


def _erf_vjp(ct: Value, out: Value, x: Value) -> Cotangents:
    density = mul(full_like(x, 2 / math.sqrt(math.pi)), exp(neg(mul(x, x))))
    return (mul(ct, density),)


erf = _unary(
    "erf",
    FLOAT,
    _erf,
    _erf_vjp,
    Elementwise("{t}(math.erf({0}))", _math("erf")),
    "error function, 2/sqrt(pi) * integral of exp(-t*t) from 0 to x",
)

# --- comparison and logic -------------------------------------------------------------------------


def _comparison(name: str, symbol: str, reference: Any) -> Primitive:
    operation = {
        "float": f"fcmp {symbol}",
        "int": f"icmp {symbol}",
        "uint": f"ucmp {symbol}",
        "bool": f"ucmp {symbol}",
    }
    lowering = Elementwise(f"{{0}} {symbol} {{1}}", operation)
    doc = f"x {symbol} y"
    return _binary(name, ANY, reference, no_gradient, lowering, doc, dtypes.boolean)


eq = _comparison("eq", "==", np.equal)
ne = _comparison("ne", "!=", np.not_equal)
lt: Primitive = _comparison("lt", "<", np.less)
le = _comparison("le", "<=", np.less_equal)

BITS = ("int", "uint", "bool")
and_ = _binary(
    "and",
    BITS,
    np.bitwise_and,
    no_gradient,
    Elementwise("{0} & {1}", {"any": "and_"}),
    "bitwise and",
)
or_ = _binary(
    "or",
    BITS,
    np.bitwise_or,
    no_gradient,
    Elementwise("{0} | {1}", {"any": "or_"}),
    "bitwise or",
)
xor = _binary(
    "xor",
    BITS,
    np.bitwise_xor,
    no_gradient,
    Elementwise("{0} ^ {1}", {"any": "xor"}),
    "bitwise exclusive or",
)
not_ = _unary(
    "not",
    BITS,
    np.invert,
    no_gradient,
    Elementwise("np.invert({0})", {"any": "not_"}),
    "bitwise complement",
)


def _select_type(condition: Aval, x: Aval, y: Aval) -> Aval:
    if condition.dtype is not dtypes.boolean or condition.shape != x.shape:
        raise IRError(f"the condition must be bool of shape {x.shape}, got {condition}")
    _require_same(x, y)
    return _result((x, y), x.dtype)


def _select_vjp(ct: Value, out: Value, condition: Value, x: Value, y: Value) -> Cotangents:
    zero = full_like(ct, 0)
    return None, select(condition, ct, zero), select(condition, zero, ct)


select = register(
    Primitive(
        "select",
        _select_type,
        np.where,
        _select_vjp,
        Elementwise("({1} if {0} else {2})", {"any": "select"}),
        "x where the condition holds, else y",
        batch=batching.elementwise,
    )
)


def _cast_type(x: Aval, *, dtype: DType) -> Aval:
    return Aval(dtype, x.shape)


def _cast_reference(x: Array, *, dtype: DType) -> Any:
    return np.asarray(x).astype(dtype.numpy)


def _cast_vjp(ct: Value, out: Value, x: Value, *, dtype: DType) -> Cotangents:
    floating = x.aval.dtype.is_floating_point and dtype.is_floating_point
    return (cast(ct, dtype=x.aval.dtype) if floating else None,)


cast = register(
    Primitive(
        "cast",
        _cast_type,
        _cast_reference,
        _cast_vjp,
        Elementwise("{t}({0})", {"any": "cast"}),
        "x converted to another dtype, floats to integers towards zero",
        from_type=("dtype",),
        batch=batching.elementwise,
    )
)
stop_gradient = _unary(
    "stop_gradient",
    ANY,
    lambda x: x.view(),
    no_gradient,
    Elementwise("{0}", {"any": "macro same"}),
    "x, as a constant to differentiation",
)
