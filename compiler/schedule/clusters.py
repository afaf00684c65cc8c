"""Groups while they grow: which nodes run in one kernel, and which group needs which.

Two groups may become one only if no third one lies on a path between them.  Each group has a bit;
`above` is the set of bits of all groups that it needs, direct or not, so that this is a question of
a few machine words.  A merged group keeps the bits of both halves: whoever needed one of them needs
it still.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..aval import Dim, Shape
from ..ir import Node
from .access import Access, Runs


class Edge(NamedTuple):
    """`consumer` reads its operand number `position`, which comes from `access.source`."""

    access: Access
    consumer: Node
    position: int


@dataclass(eq=False)
class Cluster:
    """A group of nodes.

    Attributes:
        nodes: its members.
        bits, above: see the module.
        needs, serves: groups directly above and below, by number.
        shape: the iteration space, as the first member has it.
        size: its number of points.
        runs: how reductions divide it, once there are any.
        axes: the dimensions of `shape` that they reduce, for messages.
        inner: whether reductions run over lanes of the innermost loop.
        rows: members that have one element for each row, not for each point.
        columns: members that sum over the other dimensions; complete when the kernel ends.
        moved: members that are computed at other points than the space's own, for one consumer.
        alone: why no node may join, or "".
        check: the number of the first check that needs it; after the last check, how many there
            are.
        reads: edges from other groups to its members.
    """

    nodes: list[Node]
    bits: int
    shape: Shape
    size: Dim
    runs: Runs | None = None
    axes: tuple[int, ...] = ()
    inner: bool = False
    alone: str = ""
    check: int = 0
    reads: list[Edge] = field(default_factory=list)
    above: int = 0
    needs: set[int] = field(default_factory=set)
    serves: set[int] = field(default_factory=set)
    rows: set[Node] = field(default_factory=set)
    columns: set[Node] = field(default_factory=set)
    moved: set[Node] = field(default_factory=set)


class Clusters:
    """All groups, by number, and the group of each node."""

    def __init__(self) -> None:
        self._clusters: list[Cluster] = []
        self._number: dict[Node, int] = {}
        self._parent: list[int] = []

    def add(self, cluster: Cluster, needs: Iterable[Node]) -> None:
        """Adds a group of one node that reads the results of `needs`."""
        number = len(self._clusters)
        cluster.bits = 1 << number
        self._clusters.append(cluster)
        self._parent.append(number)
        self._number[cluster.nodes[0]] = number
        cluster.needs = {self._find(self._number[n]) for n in needs}
        for other in cluster.needs:
            above = self._clusters[other]
            above.serves.add(number)
            cluster.above |= above.bits | above.above

    def _find(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def number(self, node: Node) -> int:
        """The number of the node's group."""
        return self._find(self._number[node])

    def of(self, node: Node) -> Cluster:
        """The node's group."""
        return self._clusters[self.number(node)]

    def between(self, producer: Node, consumer: Node) -> bool:
        """Whether merging the two groups would leave a third one between them: a cycle."""
        p, c = self.number(producer), self.number(consumer)
        return self._path(p, c) or self._path(c, p)

    def apart(self, one: Cluster, other: Cluster) -> bool:
        """Whether neither of two groups needs the other."""
        return not (one.above & other.bits or other.above & one.bits)

    def _path(self, source: int, target: int) -> bool:
        """Whether `target` needs `source` by way of another group."""
        bits = self._clusters[source].bits
        if not self._clusters[source].serves:
            return False
        needed = {self._find(n) for n in self._clusters[target].needs} - {source, target}
        return any(self._clusters[n].above & bits for n in needed)

    def merge(self, kept: Cluster, gone: Cluster) -> None:
        """Makes one group of two; what it iterates over is the caller's to settle."""
        k, g = self.number(kept.nodes[0]), self.number(gone.nodes[0])
        self._parent[g] = k
        above = (kept.above | gone.above) & ~(kept.bits | gone.bits)
        told = set[int]()
        for half in (kept, gone):
            if half.serves and above | half.above != half.above:
                told |= half.serves
        kept.nodes += gone.nodes
        reads = (*kept.reads, *gone.reads)
        kept.reads = [e for e in reads if self.number(e.access.source.node) != k]
        kept.rows |= gone.rows
        kept.moved |= gone.moved
        kept.columns |= gone.columns
        kept.bits |= gone.bits
        kept.needs |= gone.needs
        kept.serves |= gone.serves
        kept.above = above
        self._tell(k, told)

    def _tell(self, number: int, told: set[int]) -> None:
        """Adds what a group needs to what the groups below it need."""
        stack = [(number, told)]
        while stack:
            source, below = stack.pop()
            above = self._clusters[source].above
            for served in {self._find(n) for n in below} - {self._find(source)}:
                cluster = self._clusters[served]
                all_above = cluster.above | above
                if all_above != cluster.above:
                    cluster.above = all_above
                    stack.append((served, cluster.serves))

    def all(self) -> list[Cluster]:
        """The groups, in the order of their first members."""
        return [self._clusters[i] for i in range(len(self._clusters)) if self._parent[i] == i]
