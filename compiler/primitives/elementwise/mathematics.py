"""Exponentials, logarithms, powers, trigonometry, and their like."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ir import Value
from ...primitive import Cotangents, Elementwise, Primitive
from ..create import full_like
from .arithmetic import add, div, mul, neg, sub
from .define import FLOAT, NUMBER, Array, binary, by_number, math_function, unary
from .logic import and_, eq, le, zero_where

exp = unary(
    "exp",
    FLOAT,
    np.exp,
    lambda ct, out, x: (mul(ct, out),),
    Elementwise("np.exp({0})", math_function("exp")),
    "e to the power x",
)
expm1 = unary(
    "expm1",
    FLOAT,
    np.expm1,
    lambda ct, out, x: (mul(ct, add(out, full_like(out, 1))),),
    Elementwise("np.expm1({0})", math_function("expm1")),
    "exp(x) - 1, accurate near 0",
)
log = unary(
    "log",
    FLOAT,
    np.log,
    lambda ct, out, x: (div(ct, x),),
    Elementwise("np.log({0})", math_function("log")),
    "natural logarithm",
)
log1p = unary(
    "log1p",
    FLOAT,
    np.log1p,
    lambda ct, out, x: (div(ct, add(x, full_like(x, 1))),),
    Elementwise("np.log1p({0})", math_function("log1p")),
    "log(1 + x), accurate near 0",
)
sqrt = unary(
    "sqrt",
    FLOAT,
    np.sqrt,
    lambda ct, out, x: (div(ct, mul(full_like(out, 2), out)),),
    Elementwise("np.sqrt({0})", math_function("sqrt")),
    "square root",
)


def _pow_vjp(ct: Value, out: Value, x: Value, y: Value) -> Cotangents:
    zero = full_like(x, 0)
    dx = mul(ct, mul(y, pow_(x, sub(y, full_like(y, 1)))))
    dy = mul(ct, mul(out, log(x)))
    at_zero = and_(eq(x, zero), le(zero, y))
    return zero_where(eq(y, zero), dx), zero_where(at_zero, dy)


def _power(x: Array, y: Array) -> Any:
    """NumPy's power, without its shortcuts for repeated exponents; integers as PyTorch has them."""
    x, y = np.broadcast_arrays(x, np.asarray(y, np.asarray(x).dtype))
    if x.dtype.kind == "f":
        return np.power(x, np.ascontiguousarray(y).reshape(y.shape))
    negative = np.where(np.abs(x) == 1, np.where(y % 2 == 0, x * x, x), 0)
    return np.where(y < 0, negative, np.power(x, np.maximum(y, 0)))


pow_ = binary(
    "pow",
    NUMBER,
    _power,
    _pow_vjp,
    Elementwise("{0} ** {1}", by_number("math pow", "macro pow")),
    "x to the power y",
)
sin = unary(
    "sin",
    FLOAT,
    np.sin,
    lambda ct, out, x: (mul(ct, cos(x)),),
    Elementwise("np.sin({0})", math_function("sin")),
    "sine",
)
cos: Primitive = unary(
    "cos",
    FLOAT,
    np.cos,
    lambda ct, out, x: (neg(mul(ct, sin(x))),),
    Elementwise("np.cos({0})", math_function("cos")),
    "cosine",
)
tanh = unary(
    "tanh",
    FLOAT,
    np.tanh,
    lambda ct, out, x: (mul(ct, sub(full_like(out, 1), mul(out, out))),),
    Elementwise("np.tanh({0})", math_function("tanh")),
    "hyperbolic tangent",
)


def _sigmoid(x: Array) -> Any:
    wide = np.asarray(x, np.float64)
    return (1 / (1 + np.exp(-wide))).astype(x.dtype)


sigmoid = unary(
    "sigmoid",
    FLOAT,
    _sigmoid,
    lambda ct, out, x: (mul(ct, mul(out, sub(full_like(out, 1), out))),),
    Elementwise("{t}(1.0 / (1.0 + np.exp(-np.float64({0}))))", math_function("sigmoid")),
    "1 / (1 + exp(-x))",
)


def _erf(x: Array) -> Any:
    from scipy.special import erf as scipy_erf  # here, since importing SciPy takes longer than taut

    return scipy_erf(x).astype(np.asarray(x).dtype)


def _erf_vjp(ct: Value, out: Value, x: Value) -> Cotangents:
    density = mul(full_like(x, 2 / math.sqrt(math.pi)), exp(neg(mul(x, x))))
    return (mul(ct, density),)


erf = unary(
    "erf",
    FLOAT,
    _erf,
    _erf_vjp,
    Elementwise("{t}(math.erf({0}))", math_function("erf")),
    "error function, 2/sqrt(pi) * integral of exp(-t*t) from 0 to x",
)
