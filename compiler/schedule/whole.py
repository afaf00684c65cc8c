"""Which values must lie in memory as a whole, because somebody takes their buffer."""

from __future__ import annotations

from ..errors import WhyNot
from ..ir import Graph, Node, Value
from ..primitive import Call, Gather, Matmul, Scatter, Window
from .access import is_literal, is_movement, plain_root
from .matrices import matrix_view


def whole_values(graph: Graph) -> frozenset[Value]:
    """The values that must lie in memory whole, because a step or the caller takes their buffer."""
    taken = [*graph.outputs, *(c.condition for c in graph.checks)]
    sources: list[Value] = []
    for node in graph.nodes:
        match node.prim.require_lowering():
            case Matmul():
                for operand in node.operands:
                    view = matrix_view(operand)
                    sources.append(plain_root(operand) if isinstance(view, WhyNot) else view.source)
            case Call():
                taken += node.operands
            case Gather():
                table = _behind(node.operands[0])
                sources += [] if is_literal(table.node) else [table]
            case Scatter() | Window() if node.prim.name != "concat":
                base = plain_root(node.operands[0])
                sources += [] if is_literal(base.node) else [base]
    return frozenset([*sources, *map(plain_root, taken)])


def _behind(value: Value) -> Value:
    """The value behind all movements."""
    while is_movement(value.node):
        value = value.node.operands[0]
    return value


def is_computed(node: Node, whole: frozenset[Value]) -> bool:
    """Whether a node is work: movements and constants are, only where they must lie in memory."""
    free = is_movement(node) or is_literal(node)
    return not free or node.results[0] in whole
