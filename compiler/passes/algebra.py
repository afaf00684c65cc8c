"""Algebra: identities of arithmetic that hold for every value, bit for bit.

Floats obey IEEE 754, so `x * 0`, `x - x` and `x + 0.0` (which turns -0.0 into 0.0) stay; a nan may
change its sign and payload.  Integers wrap around.
"""

from __future__ import annotations

import numpy as np

from ..ir import Graph, Node, Value
from ..primitives.create import full_like
from ..primitives.elementwise import (
    abs_,
    add,
    and_,
    ceil,
    div,
    eq,
    floor,
    floordiv,
    mul,
    ne,
    neg,
    not_,
    or_,
    pow_,
    rem,
    round_,
    stop_gradient,
    sub,
    trunc,
    xor,
)
from .constants import element_of, full_of, is_constant
from .rewrite import Rules, made_by, rewrite

RULES = Rules()


def run(graph: Graph) -> Graph:
    """Applies the identities; see the module for what they keep."""
    return rewrite(graph, RULES)


def _is_float(value: Value) -> bool:
    return value.aval.dtype.is_floating_point


def _is_integer(value: Value) -> bool:
    return value.aval.dtype.kind in ("int", "uint")


# --- neutral and absorbing elements -------------------------------------------------------------


@RULES.on(add, mul, and_, or_, xor, eq, ne)
def constant_second(node: Node) -> Value | None:
    """c + x -> x + c,  for every commutative primitive"""
    x, y = node.operands
    if element_of(x) is None or element_of(y) is not None:
        return None
    return node.prim(y, x)


@RULES.on(mul, div, floordiv)
def times_one(node: Node) -> Value | None:
    """x * 1, x / 1, x // 1 -> x"""
    x, y = node.operands
    return x if is_constant(y, 1) else None


@RULES.on(add)
def plus_zero(node: Node) -> Value | None:
    """x + 0 -> x,  of floats x + -0.0 -> x"""
    x, y = node.operands
    return x if is_constant(y, -0.0 if _is_float(x) else 0) else None


@RULES.on(sub)
def minus_zero(node: Node) -> Value | None:
    """x - 0 -> x"""
    x, y = node.operands
    return x if is_constant(y, 0) else None


@RULES.on(mul)
def times_zero(node: Node) -> Value | None:
    """x * 0 -> 0,  not of floats"""
    x, y = node.operands
    return y if is_constant(y, 0) and not _is_float(x) else None


@RULES.on(rem)
def remainder_of_one(node: Node) -> Value | None:
    """x % 1 -> 0,  of integers"""
    x, y = node.operands
    return full_like(x, 0) if _is_integer(x) and is_constant(y, 1) else None


@RULES.on(sub)
def minus_itself(node: Node) -> Value | None:
    """x - x -> 0,  not of floats"""
    x, y = node.operands
    return full_like(x, 0) if x is y and not _is_float(x) else None


# --- markers ------------------------------------------------------------------------------------


@RULES.on(stop_gradient)
def marker(node: Node) -> Value | None:
    """stop_gradient x -> x,  where differentiation is over"""
    return node.operands[0]


# --- signs --------------------------------------------------------------------------------------


@RULES.on(neg, not_)
def involution(node: Node) -> Value | None:
    """-(-x), ~(~x) -> x"""
    return made_by(node.operands[0], node.prim)


@RULES.on(abs_)
def sign_before_abs(node: Node) -> Value | None:
    """|-x|, ||x|| -> |x|,  not of unsigned integers, whose -x wraps around"""
    x = made_by(node.operands[0], neg, abs_)
    return None if x is None or x.aval.dtype.kind == "uint" else abs_(x)


@RULES.on(mul, div)
def times_minus_one(node: Node) -> Value | None:
    """x * -1, x / -1 -> -x"""
    x, y = node.operands
    return neg(x) if y.aval.dtype.is_signed and is_constant(y, -1) else None


@RULES.on(sub)
def zero_minus(node: Node) -> Value | None:
    """0 - x -> -x,  of floats -0.0 - x -> -x"""
    x, y = node.operands
    return neg(y) if is_constant(x, -0.0 if _is_float(x) else 0) else None


@RULES.on(add)
def plus_negative(node: Node) -> Value | None:
    """x + -y -> x - y,  -x + y -> y - x"""
    x, y = node.operands
    if (subtracted := made_by(y, neg)) is not None:
        return sub(x, subtracted)
    subtracted = made_by(x, neg)
    return None if subtracted is None else sub(y, subtracted)


@RULES.on(sub)
def minus_negative(node: Node) -> Value | None:
    """x - -y -> x + y"""
    x, y = node.operands
    added = made_by(y, neg)
    return None if added is None else add(x, added)


@RULES.on(mul, div)
def both_negative(node: Node) -> Value | None:
    """-x * -y -> x * y,  -x / -y -> x / y"""
    x, y = (made_by(operand, neg) for operand in node.operands)
    return None if x is None or y is None else node.prim(x, y)


@RULES.on(mul, div)
def negative_times_constant(node: Node) -> Value | None:
    """-x * c -> x * -c,  -x / c -> x / -c,  of floats"""
    x, y = made_by(node.operands[0], neg), _negated(node.operands[1])
    return None if x is None or y is None else node.prim(x, y)


@RULES.on(neg)
def negative_of_scaled(node: Node) -> Value | None:
    """-(x * c) -> x * -c,  -(x / c) -> x / -c,  of floats"""
    scaled = node.operands[0].node
    if scaled.prim not in (mul, div):
        return None
    x, y = scaled.operands[0], _negated(scaled.operands[1])
    return None if y is None else scaled.prim(x, y)


def _negated(value: Value) -> Value | None:
    """A float constant with the other sign."""
    element = element_of(value)
    return full_of(-element, value.aval) if element is not None and _is_float(value) else None


# --- powers -------------------------------------------------------------------------------------


@RULES.on(div)
def divided_by_power_of_two(node: Node) -> Value | None:
    """x / 2**k -> x * 2**-k,  where 2**-k is a normal number: both round the same exact quotient"""
    x, y = node.operands
    element = element_of(y)
    if element is None or abs(np.frexp(element)[0]) != 0.5:
        return None
    inverse = 1 / element
    normal = np.finfo(element.dtype).tiny <= abs(inverse) < np.inf
    return mul(x, full_of(inverse, y.aval)) if normal else None


@RULES.on(pow_)
def small_power(node: Node) -> Value | None:
    """x ** 0 -> 1,  x ** 1 -> x,  x ** 2 -> x * x,  correctly rounded, as pow may not be"""
    x, y = node.operands
    if is_constant(y, 0):
        return full_like(x, 1)
    if is_constant(y, 1):
        return x
    return mul(x, x) if is_constant(y, 2) else None


@RULES.on(floor, ceil, trunc, round_)
def rounded_twice(node: Node) -> Value | None:
    """floor(round x) -> round x,  for each way of rounding to an integer"""
    inner = node.operands[0]
    return inner if inner.node.prim in (floor, ceil, trunc, round_) else None
