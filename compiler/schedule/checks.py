"""Which checks must pass before a group may run.

What a check needs runs before it, and what it guards runs after it: no row is read or written at
positions that are out of range, and no state changes in a call that fails.  A group that several
checks need runs before the first of them; so does everything that it needs.

Nothing of a cross entropy is dangerous while its targets are not known to be in range, so that
the check of the targets may be computed with the loss, and come after it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..ir import Graph, Node
from ..primitive import Gather, Scatter
from .access import is_literal, plain_root
from .clusters import Cluster


class Checks:
    """The laws of groups and checks.

    Attributes:
        first: for each node that checks need the number of the first one.
    """

    def __init__(self, graph: Graph, numbers: Mapping[Node, int]) -> None:
        """`numbers` are those of the nodes in `Cluster.bits`."""
        needing = _needing(graph)
        self.first = {node: (bits & -bits).bit_length() - 1 for node, bits in needing.items()}
        self._guarded = _guarded(graph, needing, numbers)
        self._states = 0
        for value, target in zip(graph.outputs, graph.donations, strict=True):
            number = numbers.get(plain_root(value).node)
            if target is not None and number is not None:
                self._states |= 1 << number

    def why_apart(self, one: Cluster, other: Cluster) -> str:
        """Why two groups cannot be one, or ""."""
        if one.check == other.check:
            return ""
        check, later = min(one.check, other.check), max(one, other, key=lambda c: c.check)
        moved = later.bits | later.above
        if moved & self._states:
            return "a check comes between them: it must pass before a state changes"
        if any(moved & bits for number, bits in self._guarded.items() if number >= check):
            return "a check comes between them: it must pass before rows are taken or written"
        return ""


def _needing(graph: Graph) -> dict[Node, int]:
    """For each node that a check needs a set of bits, one for each check that does."""
    found: dict[Node, int] = {}
    for number, check in enumerate(graph.checks):
        node = check.condition.node
        found[node] = found.get(node, 0) | 1 << number
    for node in reversed(graph.nodes):
        bits = found.get(node, 0)
        for operand in node.operands if bits else ():
            found[operand.node] = found.get(operand.node, 0) | bits
    return found


def _guarded(
    graph: Graph, needing: Mapping[Node, int], numbers: Mapping[Node, int]
) -> dict[int, int]:
    """For a check the bits of the nodes that it may guard, as the last of all.

    What takes or writes rows is guarded by a check of anything that its positions depend on.
    """
    about: dict[Node, int] = {}
    found: dict[int, int] = {}
    for node in graph.nodes if graph.checks else ():
        bits = 0 if is_literal(node) else needing.get(node, 0)
        for operand in node.operands:
            bits |= about.get(operand.node, needing.get(operand.node, 0))
        about[node] = bits
        if isinstance(node.prim.lowering, Gather | Scatter) and node in numbers:
            last = about.get(node.operands[1].node, needing.get(node.operands[1].node, 0))
            if last:
                number = last.bit_length() - 1
                found[number] = found.get(number, 0) | 1 << numbers[node]
    return found
