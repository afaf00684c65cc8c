"""Arithmetic and rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir import Value
from ...primitive import Cotangents, Elementwise, Primitive, no_gradient
from ..create import full_like
from .define import ANY, FLOAT, NUMBER, Array, binary, by_number, elementwise, math_function, unary
from .logic import eq, lt, select, zero_where

neg: Primitive = unary(
    "neg",
    NUMBER,
    np.negative,
    lambda ct, out, x: (neg(ct),),
    Elementwise("-{0}", by_number("fneg", "neg")),
    "-x",
)
abs_ = unary(
    "abs",
    NUMBER,
    np.abs,
    lambda ct, out, x: (mul(ct, sign(x)),),
    Elementwise("abs({0})", {"float": "math abs", "int": "macro abs", "uint": "macro same"}),
    "|x|",
)


def _sign(x: Array) -> Any:
    return np.where(np.isnan(x), np.zeros_like(x), np.sign(x))


sign: Primitive = unary(
    "sign",
    NUMBER,
    _sign,
    no_gradient,
    Elementwise("{t}(({0} > 0) - np.int8({0} < 0))", {"any": "macro sign"}),
    "-1, 0 or 1 by the sign of x; 0 of nan, as PyTorch has it",
)
add = binary(
    "add",
    NUMBER,
    np.add,
    lambda ct, out, x, y: (ct, ct),
    Elementwise("{0} + {1}", by_number("fadd", "add")),
    "x + y",
)
sub = binary(
    "sub",
    NUMBER,
    np.subtract,
    lambda ct, out, x, y: (ct, neg(ct)),
    Elementwise("{0} - {1}", by_number("fsub", "sub")),
    "x - y",
)
mul: Primitive = binary(
    "mul",
    NUMBER,
    np.multiply,
    lambda ct, out, x, y: (mul(ct, y), mul(ct, x)),
    Elementwise("{0} * {1}", by_number("fmul", "mul")),
    "x * y",
)
div: Primitive = binary(
    "div",
    FLOAT,
    np.divide,
    lambda ct, out, x, y: (div(ct, y), neg(div(mul(ct, out), y))),
    Elementwise("{0} / {1}", {"float": "fdiv"}),
    "x / y, of floats",
)


floordiv = binary(
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


rem = binary(
    "rem",
    NUMBER,
    _rem,
    _rem_vjp,
    Elementwise("remainder({0}, {1})", by_number("math rem", "macro rem")),
    "x - y * floor(x / y): the remainder with the sign of y; a zero has that of x",
)


def _split_ties(ct: Value, x: Value, y: Value, loser: Value) -> Value:
    """The cotangent where x won, half of it where x equals y, else 0 (PyTorch's rule)."""
    half = mul(ct, full_like(ct, 0.5))
    return zero_where(loser, select(eq(x, y), half, ct))


maximum = binary(
    "maximum",
    ANY,
    np.maximum,
    lambda ct, out, x, y: (_split_ties(ct, x, y, lt(x, y)), _split_ties(ct, y, x, lt(y, x))),
    Elementwise("np.maximum({0}, {1})", {"float": "math maximum", "any": "macro max"}),
    "the larger of x and y; nan if either is",
)
minimum = binary(
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


fma = elementwise(
    "fma",
    3,
    FLOAT,
    _fma,
    lambda ct, out, x, y, z: (mul(ct, y), mul(ct, x), ct),
    Elementwise("{t}(np.float64({0}) * np.float64({1}) + np.float64({2}))", {"float": "macro fma"}),
    "x * y + z, rounded once",
)


floor = unary(
    "floor",
    FLOAT,
    np.floor,
    no_gradient,
    Elementwise("np.floor({0})", math_function("floor")),
    "x rounded down",
)
ceil = unary(
    "ceil",
    FLOAT,
    np.ceil,
    no_gradient,
    Elementwise("np.ceil({0})", math_function("ceil")),
    "x rounded up",
)
trunc = unary(
    "trunc",
    FLOAT,
    np.trunc,
    no_gradient,
    Elementwise("np.trunc({0})", math_function("trunc")),
    "x rounded towards zero",
)
round_ = unary(
    "round",
    FLOAT,
    np.rint,
    no_gradient,
    Elementwise("np.rint({0})", math_function("round")),
    "x rounded to the nearest integer, ties to even",
)
