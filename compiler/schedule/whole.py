"""Which values must lie in memory whole, because a step or the caller takes their buffer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from ..errors import WhyNot
from ..ir import Graph, Node, Value
from ..primitive import Call, Gather, Matmul, Scatter, Window
from .access import is_literal, is_movement, plain_root
from .matrices import matrix_view

Place: TypeAlias = tuple[Node, int]


def memory_operands(graph: Graph) -> dict[Place, Value]:
    """For each (node, operand number) that is read from a buffer the value in it."""
    found: dict[Place, Value] = {}
    for node in graph.nodes:
        for position, operand in enumerate(node.operands):
            value = _in_memory(node, position, operand)
            if value is not None:
                found[node, position] = value
    return found


def _in_memory(node: Node, position: int, operand: Value) -> Value | None:
    match node.prim.require_lowering():
        case Matmul():
            view = matrix_view(operand)
            return plain_root(operand) if isinstance(view, WhyNot) else view.source
        case Call():
            return plain_root(operand)
        case Gather() if position == 0:
            return _unless_literal(_behind(operand))
        case Scatter() | Window() if position == 0 and node.prim.name != "concat":
            return _unless_literal(plain_root(operand))
    return None


def _unless_literal(value: Value) -> Value | None:
    return None if is_literal(value.node) else value


def _behind(value: Value) -> Value:
    """The value behind all movements."""
    while is_movement(value.node):
        value = value.node.operands[0]
    return value


def whole_values(graph: Graph, operands: Mapping[Place, Value]) -> frozenset[Value]:
    """The values whose buffers steps or the caller take."""
    taken: Iterable[Value] = (*graph.outputs, *(c.condition for c in graph.checks))
    return frozenset([*operands.values(), *map(plain_root, taken)])


def is_computed(node: Node, whole: frozenset[Value]) -> bool:
    """Whether a node is work: movements and constants are, only where they must lie in memory."""
    free = is_movement(node) or is_literal(node)
    return not free or node.results[0] in whole
