"""Fold: what can be computed from constants alone is one constant.

The law: a primitive's reference, applied to the numbers that its operands hold everywhere, gives
the number that its result holds everywhere.  It runs once for one element, whatever the shape.
"""

from __future__ import annotations

import numpy as np

from ..ir import Graph, Node, Value
from ..primitive import Elementwise, Movement
from ..primitives.create import full, full_like
from ..primitives.index import scatter, take
from ..primitives.movement import concat, set_slice
from ..primitives.reduce import reduce_max, reduce_min, reduce_prod, reduce_sum
from .constants import element_of, full_of, is_constant, same_bits, shortest
from .rewrite import Rules, rewrite

RULES = Rules()


def run(graph: Graph) -> Graph:
    """Computes constants; see the module for the law."""
    return rewrite(graph, RULES)


@RULES.on(full)
def shortest_constant(node: Node) -> Value | None:
    """full 0.10000000149011612 -> full 0.1,  of f32: one node for each number"""
    element = element_of(node.results[0])
    if element is None:
        return None
    value, given = shortest(element), node.params["value"]
    same = type(value) is type(given) and repr(value) == repr(given)
    return None if same else full_of(element, node.results[0].aval)


@RULES.on(Elementwise)
def elementwise_of_constants(node: Node) -> Value | None:
    """f(full a, full b) -> full f(a, b)"""
    elements = [element_of(operand) for operand in node.operands]
    if any(element is None for element in elements):
        return None
    aval = node.results[0].aval
    one = (1,) * aval.ndim  # not always a scalar: NumPy computes some powers of scalars otherwise
    try:
        arrays = [np.full(one, element) for element in elements]
        result = node.prim.reference(*arrays, **node.params)
    except (ArithmeticError, ValueError):  # 2 ** -1 of integers: left to fail when it runs
        return None
    return full_of(np.ravel(result)[0], aval)


@RULES.on(Movement)
def moved_constant(node: Node) -> Value | None:
    """move(full a) -> full a"""
    return _constant_like(node, node.operands[0])


@RULES.on(take)
def rows_of_constant(node: Node) -> Value | None:
    """take(full a, i) -> full a"""
    return _constant_like(node, node.operands[0])


@RULES.on(concat)
def joined_constants(node: Node) -> Value | None:
    """concat(full a, full a) -> full a"""
    return _constant_like(node, node.operands[0]) if _all_same(node.operands) else None


@RULES.on(set_slice, scatter)
def written_constant(node: Node) -> Value | None:
    """set_slice(full a, full a),  scatter(full a, i, full a) -> full a"""
    written = node.operands[-1]
    return node.operands[0] if _all_same((node.operands[0], written)) else None


@RULES.on(reduce_max, reduce_min)
def extremum_of_constant(node: Node) -> Value | None:
    """reduce_max(full a), reduce_min(full a) -> full a,  over at least one element"""
    shape = node.operands[0].aval.shape
    sizes = [shape[d] for d in node.params["dims"]]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    return _constant_like(node, node.operands[0])


@RULES.on(reduce_sum, reduce_prod)
def reduced_identity(node: Node) -> Value | None:
    """reduce_sum(full 0) -> full 0,  reduce_prod(full 1) -> full 1,  over any number of elements"""
    identity = 0 if node.prim is reduce_sum else 1
    if not is_constant(node.operands[0], identity):
        return None
    return full_like(node.results[0], identity)


def _constant_like(node: Node, constant: Value) -> Value | None:
    element = element_of(constant)
    return None if element is None else full_of(element, node.results[0].aval)


def _all_same(values: tuple[Value, ...]) -> bool:
    elements = [element_of(value) for value in values]
    first = elements[0]
    return first is not None and all(e is not None and same_bits(first, e) for e in elements)
