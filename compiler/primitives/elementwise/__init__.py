"""Elementwise primitives: one scalar program applied to every element.

Operands have one shape and, but for `select`'s condition, one dtype: the front end inserts the
broadcasts and casts that PyTorch implies.  Each VJP rule reads as the derivative does in a
textbook.
"""

from __future__ import annotations

from .arithmetic import (
    abs_,
    add,
    ceil,
    div,
    floor,
    floordiv,
    fma,
    maximum,
    minimum,
    mul,
    neg,
    rem,
    round_,
    sign,
    sub,
    trunc,
)
from .logic import and_, cast, eq, le, lt, ne, not_, or_, select, stop_gradient, xor
from .mathematics import cos, erf, exp, expm1, log, log1p, pow_, sigmoid, sin, sqrt, tanh

__all__ = [
    "abs_",
    "add",
    "and_",
    "cast",
    "ceil",
    "cos",
    "div",
    "eq",
    "erf",
    "exp",
    "expm1",
    "floor",
    "floordiv",
    "fma",
    "le",
    "log",
    "log1p",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "neg",
    "not_",
    "or_",
    "pow_",
    "rem",
    "round_",
    "select",
    "sigmoid",
    "sign",
    "sin",
    "sqrt",
    "stop_gradient",
    "sub",
    "tanh",
    "trunc",
    "xor",
]
