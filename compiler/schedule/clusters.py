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


@dataclass(eq=False, slots=True)
class Cluster:
    """A group of nodes.

    Attributes:
        nodes: its members.
        bits, above: see the module.
        needs, serves: groups directly above and below.
        shape: the iteration space, as the first member has it.
        size: its number of points.
        runs: how reductions divide it, once there are any.
        axes: the dimensions of `shape` that they reduce, for messages.
        inner: whether reductions run over lanes of the innermost loop.
        rows: members that have one element for each row, not for each point.
        columns: members whose results are complete when the kernel ends: sums over the other
            dimensions, and rows that are written at positions that are data.
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
    needs: set[Cluster] = field(default_factory=set)
    serves: set[Cluster] = field(default_factory=set)
    rows: set[Node] = field(default_factory=set)
    columns: set[Node] = field(default_factory=set)
    moved: set[Node] = field(default_factory=set)


class Clusters:
    """All groups, and the group of each node."""

    def __init__(self) -> None:
        self._of: dict[Node, Cluster] = {}
        self._all: dict[Cluster, None] = {}

    def add(self, cluster: Cluster, needs: Iterable[Node]) -> None:
        """Adds a group of one node that reads the results of `needs`."""
        cluster.bits = 1 << len(self._of)
        self._of[cluster.nodes[0]] = cluster
        self._all[cluster] = None
        cluster.needs = {self._of[n] for n in needs}
        for other in cluster.needs:
            other.serves.add(cluster)
            cluster.above |= other.bits | other.above

    def of(self, node: Node) -> Cluster:
        """The node's group."""
        return self._of[node]

    def between(self, producer: Node, consumer: Node) -> bool:
        """Whether merging the two groups would leave a third one between them: a cycle."""
        p, c = self._of[producer], self._of[consumer]
        return _path(p, c) or _path(c, p)

    def apart(self, one: Cluster, other: Cluster) -> bool:
        """Whether neither of two groups needs the other."""
        return not (one.above & other.bits or other.above & one.bits)

    def merge(self, kept: Cluster, gone: Cluster) -> None:
        """Makes one group of two; what it iterates over is the caller's to settle."""
        above = (kept.above | gone.above) & ~(kept.bits | gone.bits)
        for half in (kept, gone):
            if half.serves and half.above | above != half.above:
                _tell(above, half.serves - {kept, gone})
        kept.bits |= gone.bits
        kept.above = above
        self._move_nodes(kept, gone)
        _move_neighbours(kept, gone)
        if kept.check != gone.check:
            _come_before(min(kept.check, gone.check), kept)
        del self._all[gone]

    def _move_nodes(self, kept: Cluster, gone: Cluster) -> None:
        self._of.update(dict.fromkeys(gone.nodes, kept))
        kept.nodes += gone.nodes
        kept.rows |= gone.rows
        kept.moved |= gone.moved
        kept.columns |= gone.columns
        reads = (*kept.reads, *gone.reads)
        kept.reads = [e for e in reads if self._of[e.access.source.node] is not kept]

    def all(self) -> list[Cluster]:
        """The groups, in the order of their first members."""
        return list(self._all)


def _path(source: Cluster, target: Cluster) -> bool:
    """Whether `target` needs `source` by way of another group."""
    others = target.needs if source.serves else ()
    return any(c.above & source.bits for c in others if c is not source)


def _move_neighbours(kept: Cluster, gone: Cluster) -> None:
    """Lets those above and below `gone` know `kept` in its place."""
    for above in gone.needs:
        above.serves.remove(gone)
        above.serves.add(kept)
    for below in gone.serves:
        below.needs.remove(gone)
        below.needs.add(kept)
    kept.needs = (kept.needs | gone.needs) - {kept, gone}
    kept.serves = (kept.serves | gone.serves) - {kept, gone}


def _come_before(check: int, cluster: Cluster) -> None:
    """Notes that a check needs a group, and all that the group needs."""
    stack = [cluster]
    while stack:
        needed = stack.pop()
        needed.check = check
        stack += [other for other in needed.needs if other.check > check]


def _tell(above: int, below: Iterable[Cluster]) -> None:
    """Adds to what groups need, and all groups below them."""
    stack = [*below]
    while stack:
        cluster = stack.pop()
        known = cluster.above
        cluster.above = known | above
        if cluster.above != known:
            stack += cluster.serves
