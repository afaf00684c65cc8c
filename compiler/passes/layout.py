"""Layout: `(x @ y)^T -> y^T @ x^T`, so that a product is written in the order in which it is read.

The law holds to the bit: the same factors are multiplied and added in the same order.  The gradient
of a weight is the transpose of a product; without this it would be written in one order and read,
with a stride, in the other, by the optimizer.  Transposes of a product's operands cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Graph, Node, Value
from ..primitives.linalg import matmul, swap_last
from ..primitives.movement import transpose
from .rewrite import rebuild


def run(graph: Graph) -> Graph:
    """Turns round each product that only its transpose is read of."""
    kept = {*graph.outputs, *(check.condition for check in graph.checks)}

    def turned(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        if node.prim is not transpose or not _swaps_last(node.params["perm"]):
            return None
        product = node.operands[0]
        if product.node.prim is not matmul or product in kept or len(graph.users[product]) > 1:
            return None
        x, y = operands[0].node.operands
        return (matmul(swap_last(y), swap_last(x)),)

    return rebuild(graph, turned)


def _swaps_last(perm: tuple[int, ...]) -> bool:
    n = len(perm)
    return n >= 2 and perm == (*range(n - 2), n - 1, n - 2)
