"""Narrow: compute first, repeat afterwards.

The law: an elementwise primitive does the same to equal elements, so that of operands that are all
repeated in the same way, it is enough to compute one copy.
"""

from __future__ import annotations

from ..aval import Shape
from ..ir import Graph, Node, Value
from ..primitive import Elementwise
from ..primitives.movement import broadcast
from .constants import element_of, full_of
from .rewrite import Rules, rewrite

RULES = Rules()


def run(graph: Graph) -> Graph:
    """Moves broadcasts behind elementwise primitives; see the module for the law."""
    return rewrite(graph, RULES)


@RULES.on(Elementwise)
def elementwise_of_broadcasts(node: Node) -> Value | None:
    """f(broadcast x, broadcast y, full c) -> broadcast f(x, y, full c)"""
    repeated = [o for o in node.operands if o.node.prim is broadcast]
    if not repeated:
        return None
    dims, narrow = repeated[0].node.params["dims"], repeated[0].node.operands[0].aval.shape
    operands: list[Value] = []
    for operand in node.operands:
        source = (
            operand.node.operands[0] if operand in repeated else _narrow_constant(operand, narrow)
        )
        if source is None or source.aval.shape != narrow:
            return None
        if operand in repeated and operand.node.params["dims"] != dims:
            return None
        operands.append(source)
    result = node.prim(*operands, **node.params)
    return broadcast(result, dims=dims, shape=node.results[0].aval.shape)


def _narrow_constant(value: Value, shape: Shape) -> Value | None:
    element = element_of(value)
    return None if element is None else full_of(element, value.aval.with_shape(shape))
