"""Who reads what: the edges of a graph, between nodes that are work."""

from __future__ import annotations

from ..ir import Graph, Node, Value
from .access import Access, Accesses, is_literal, is_movement, plain_root
from .clusters import Edge
from .whole import is_computed, memory_operands, whole_values


class Edges:
    """What the nodes of a graph read, through movements.

    Attributes:
        access: how values are reached.
        whole: values that must lie in memory, whoever reads them.
        nodes: those that are work, in order.
        all: an edge for each read of a value that is computed.
        sources: what each node reads, inputs too.
        readers: the nodes that read each computed value.
        replaces: for each input that gives its memory to a result the node that computes this.
    """

    def __init__(self, graph: Graph) -> None:
        self.access, self._memory = Accesses(), memory_operands(graph)
        self.whole = whole_values(graph, self._memory)
        self.nodes = [n for n in graph.nodes if is_computed(n, self.whole)]
        reads = [edge for node in self.nodes for edge in self._of(node)]
        self.all = [edge for edge in reads if not edge.access.source.is_input]
        self.sources: dict[Node, list[Value]] = {}
        for edge in reads:
            self.sources.setdefault(edge.consumer, []).append(edge.access.source)
        self.readers: dict[Value, list[Node]] = {}
        for edge in self.all:
            self.readers.setdefault(edge.access.source, []).append(edge.consumer)
        pairs = zip(graph.donations, graph.outputs, strict=True)
        self.replaces = {
            graph.inputs[i]: plain_root(value).node for i, value in pairs if i is not None
        }

    def _of(self, node: Node) -> list[Edge]:
        if is_movement(node):
            accesses = [self.access(node.results[0])]
        else:
            accesses = [self._access(node, i) for i in range(len(node.operands))]
        return [
            Edge(access, node, position)
            for position, access in enumerate(accesses)
            if (node, position) in self._memory or not is_literal(access.source.node)
        ]

    def _access(self, node: Node, position: int) -> Access:
        value = self._memory.get((node, position))
        return self.access.operand(node, position) if value is None else Access(value)

    def readers_of_all(self) -> dict[Value, list[Node]]:
        """Who reads each value, inputs too."""
        readers: dict[Value, list[Node]] = {}
        for consumer, sources in self.sources.items():
            for source in sources:
                readers.setdefault(source, []).append(consumer)
        return readers
