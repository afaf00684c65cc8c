"""Logic: identities of bits, comparisons and conditions that hold for every value.

A nan equals nothing, not even itself, and is neither less than a number nor not less than it.
"""

from __future__ import annotations

import numpy as np

from ..ir import Graph, Node, Value
from ..primitives.create import full_like
from ..primitives.elementwise import (
    and_,
    eq,
    le,
    lt,
    maximum,
    minimum,
    ne,
    not_,
    or_,
    select,
    xor,
)
from .constants import element_of, is_constant
from .rewrite import Rules, made_by, rewrite

RULES = Rules()


def run(graph: Graph) -> Graph:
    """Applies the identities; see the module."""
    return rewrite(graph, RULES)


def _is_float(value: Value) -> bool:
    return value.aval.dtype.is_floating_point


def _is_bool(value: Value) -> bool:
    return value.aval.dtype.kind == "bool"


def _all_ones(value: Value) -> bool:
    """Whether every bit is set: -1, the largest unsigned number or true, everywhere."""
    element = element_of(value)
    return element is not None and bool(np.invert(element) == 0)


# --- bits and comparisons -----------------------------------------------------------------------


@RULES.on(and_, or_, xor)
def neutral_bits(node: Node) -> Value | None:
    """x & ~0, x | 0, x ^ 0 -> x"""
    x, y = node.operands
    neutral = _all_ones(y) if node.prim is and_ else is_constant(y, 0)
    return x if neutral else None


@RULES.on(and_, or_)
def absorbing_bits(node: Node) -> Value | None:
    """x & 0 -> 0,  x | ~0 -> ~0"""
    _, y = node.operands
    absorbs = _all_ones(y) if node.prim is or_ else is_constant(y, 0)
    return y if absorbs else None


@RULES.on(and_, or_, maximum, minimum)
def idempotent(node: Node) -> Value | None:
    """x & x, x | x, max(x, x), min(x, x) -> x"""
    x, y = node.operands
    return x if x is y else None


@RULES.on(xor)
def differing_from_itself(node: Node) -> Value | None:
    """x ^ x -> 0"""
    x, y = node.operands
    return full_like(x, 0) if x is y else None


@RULES.on(eq, ne, le, lt)
def compared_to_itself(node: Node) -> Value | None:
    """x == x, x <= x -> true,  x != x -> false,  not of floats;  x < x -> false"""
    x, y = node.operands
    if x is not y or (_is_float(x) and node.prim is not lt):
        return None
    return full_like(node.results[0], node.prim in (eq, le))


@RULES.on(eq, ne, xor)
def compared_to_truth(node: Node) -> Value | None:
    """x == true, x != false -> x,  x == false, x != true, x ^ true -> ~x"""
    x, y = node.operands
    element = element_of(y)
    if element is None or not _is_bool(y):
        return None
    keeps = bool(element) == (node.prim is eq)
    return x if keeps else not_(x)


@RULES.on(not_)
def negated_comparison(node: Node) -> Value | None:
    """~(x == y) -> x != y,  ~(x != y) -> x == y,  not of floats ~(x < y) -> y <= x and back"""
    comparison = node.operands[0].node
    opposite = {eq: ne, ne: eq, lt: le, le: lt}.get(comparison.prim)
    if opposite is None:
        return None
    x, y = comparison.operands
    if opposite in (eq, ne):
        return opposite(x, y)
    return None if _is_float(x) else opposite(y, x)


# --- conditions ---------------------------------------------------------------------------------


@RULES.on(select)
def select_between_equals(node: Node) -> Value | None:
    """select(c, x, x) -> x"""
    _, x, y = node.operands
    return x if x is y else None


@RULES.on(select)
def select_by_constant(node: Node) -> Value | None:
    """select(true, x, y) -> x,  select(false, x, y) -> y"""
    condition, x, y = node.operands
    element = element_of(condition)
    return None if element is None else x if element else y


@RULES.on(select)
def select_by_negation(node: Node) -> Value | None:
    """select(~c, x, y) -> select(c, y, x)"""
    condition, x, y = node.operands
    negated = made_by(condition, not_)
    return None if negated is None else select(negated, y, x)


@RULES.on(select)
def select_again(node: Node) -> Value | None:
    """select(c, select(c, x, y), z) -> select(c, x, z),  and likewise in the other branch"""
    condition, x, y = node.operands
    if x.node.prim is select and x.node.operands[0] is condition:
        return select(condition, x.node.operands[1], y)
    if y.node.prim is select and y.node.operands[0] is condition:
        return select(condition, x, y.node.operands[2])
    return None


@RULES.on(select)
def select_of_truths(node: Node) -> Value | None:
    """select(c, true, false) -> c,  select(c, false, true) -> ~c"""
    condition, x, y = node.operands
    if not _is_bool(x):
        return None
    if is_constant(x, True) and is_constant(y, False):
        return condition
    return not_(condition) if is_constant(x, False) and is_constant(y, True) else None
