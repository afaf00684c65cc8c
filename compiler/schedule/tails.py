"""Tails: what a kernel does last, as another kernel does, is cut from it and joins that one.

The update of a weight is a kernel of its own.  The same update of a bias would be the end of the
kernel that sums the bias's gradient, once more as code, and in no sweep.  Where the end of a group
does to small or stored values what some other group does as a whole, it becomes a group of its own:

    pattern   %n = sub %w (mul %lr %g)                      all of a group
    tail      %b' = sub %b (mul %lr (reduce_sum %z))        the sum stays, the rest is cut off
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from ..errors import WhyNot
from ..ir import Node, Value
from ..primitive import Elementwise
from .access import Access, Accesses, is_literal
from .clusters import Cluster, Edge

MIN_NODES = 2
"""Operations from which a tail is worth a segment of a sweep."""
MAX_PATTERNS = 8
"""Patterns that are looked for, the longest ones: a bound on the time that this takes."""


class Tails(NamedTuple):
    """The groups after cutting, and the edges that this cut."""

    clusters: list[Cluster]
    cuts: list[tuple[Edge, WhyNot]]


def cut_tails(
    clusters: list[Cluster],
    readers: Mapping[Value, Sequence[Node]],
    whole: AbstractSet[Value],
    access: Accesses,
) -> Tails:
    """Cuts off tails that are the whole of another group.

    Args:
        clusters: the finished groups.
        readers: who reads a value.
        whole: values that are in memory whatever happens.
        access: how nodes read.
    """
    return _Cutter(readers, whole, _Reads(access)).run(clusters)


class _Reads:
    """What each node does, and to what; each answer is kept."""

    def __init__(self, access: Accesses) -> None:
        self._access = access
        self._accesses: dict[Node, list[Access]] = {}
        self._operations: dict[Node, object] = {}

    def __call__(self, node: Node) -> list[Access]:
        """How a node reads its operands."""
        found = self._accesses.get(node)
        if found is None:
            found = [self._access.operand(node, i) for i in range(len(node.operands))]
            self._accesses[node] = found
        return found

    def operation(self, node: Node) -> object:
        """What an elementwise node does, whatever the size."""
        found = self._operations.get(node)
        if found is None:
            dtypes = [v.aval.dtype.name for v in (*node.operands, *node.results)]
            found = node.prim.name, repr(sorted(node.params.items())), *dtypes
            self._operations[node] = found
        return found


class _Cutter:
    def __init__(
        self, readers: Mapping[Value, Sequence[Node]], whole: AbstractSet[Value], reads: _Reads
    ) -> None:
        self.readers, self.whole, self.reads = readers, whole, reads

    def run(self, clusters: list[Cluster]) -> Tails:
        patterns = self._patterns(clusters)
        result, cuts = [*clusters], list[tuple[Edge, WhyNot]]()
        for cluster in clusters if patterns else ():
            if cluster.alone or cluster.size == 1:
                continue
            for tail in self._tails(cluster, patterns):
                cuts += self._cut(cluster, tail)
                result.append(tail)
        return Tails(result, cuts)

    # --- patterns ---------------------------------------------------------------------------------

    def _patterns(self, clusters: list[Cluster]) -> list[tuple[Node, ...]]:
        """Groups, root first, that are the same operation at each point and end the program."""
        found: dict[object, tuple[Node, ...]] = {}
        for cluster in clusters:
            nodes = self._flat(cluster)
            if nodes:
                found.setdefault(self._form(nodes), nodes)
        longest = sorted(found.values(), key=len, reverse=True)
        return longest[:MAX_PATTERNS]

    def _flat(self, cluster: Cluster) -> tuple[Node, ...]:
        """The nodes of a group without rows, as reached from the one that ends it; or ()."""
        members = {*cluster.nodes}
        small = len(members) < MIN_NODES or cluster.size == 1
        if small or cluster.alone or cluster.runs is not None or cluster.moved:
            return ()
        roots = [n for n in cluster.nodes if self._is_last(n, members)]
        if len(roots) != 1 or not all(self._reads_points(n) for n in members):
            return ()
        reached = tuple(_reached(roots[0], members, self.reads))
        return reached if len(reached) == len(members) and self._ends(reached) else ()

    def _is_last(self, node: Node, members: AbstractSet[Node]) -> bool:
        return not any(r in members for v in node.results for r in self.readers.get(v, ()))

    def _reads_points(self, node: Node) -> bool:
        """Whether a node is elementwise, on values of its own points or single numbers."""
        return isinstance(node.prim.lowering, Elementwise) and all(
            a.relation == "same" or a.source.aval.size == 1 or is_literal(a.source.node)
            for a in self.reads(node)
        )

    def _ends(self, nodes: Sequence[Node]) -> bool:
        """Whether nobody else reads what nodes compute."""
        inside = {*nodes}
        return all(r in inside for n in nodes for v in n.results for r in self.readers.get(v, ()))

    def _form(self, nodes: tuple[Node, ...]) -> object:
        """What two groups must share to do the same."""
        number = {node: i for i, node in enumerate(nodes)}
        return tuple((self.reads.operation(n), *self._operands(n, number)) for n in nodes)

    def _operands(self, node: Node, number: Mapping[Node, int]) -> Iterator[object]:
        for access in self.reads(node):
            source = access.source
            yield number.get(source.node, (source.aval.size == 1, _literal(source.node)))

    # --- tails ------------------------------------------------------------------------------------

    def _tails(self, cluster: Cluster, patterns: Sequence[tuple[Node, ...]]) -> Iterator[Cluster]:
        """The tails of a group, each as a group of its own."""
        ends = [n for n in cluster.nodes if not any(map(self.readers.get, n.results))]
        for root in ends:
            for pattern in patterns:
                tail = self._matched(pattern, root, cluster)
                if tail:
                    shape = root.results[0].aval.shape
                    size = root.results[0].aval.size
                    yield Cluster(tail, 0, shape, size, check=cluster.check)
                    break

    def _matched(self, pattern: Sequence[Node], root: Node, cluster: Cluster) -> list[Node] | None:
        """The nodes that end in `root` and are the pattern's, if they can be cut off."""
        members = {*cluster.nodes}
        match = _Match({*pattern}, members, self.reads)
        if root in pattern or not match.nodes(pattern[0], root):
            return None
        tail = match.found
        inside = {*tail.values()}
        read = {a.source for n in inside for a in self.reads(n)}
        cut = [v for v in read if v.node in members and v.node not in inside]
        rows = cluster.runs is not None and root in cluster.rows
        if inside & cluster.moved or not cut or not self._ends([*inside]):
            return None
        if not rows and not all(v in self.whole for v in cut):
            return None
        return [n for n in cluster.nodes if n in inside]

    def _cut(self, cluster: Cluster, tail: Cluster) -> Iterator[tuple[Edge, WhyNot]]:
        """Takes the tail out of its group; the edges between them."""
        gone = {*tail.nodes}
        cluster.nodes = [n for n in cluster.nodes if n not in gone]
        cluster.rows -= gone
        kept = {*cluster.nodes}
        for node in tail.nodes:
            for position, access in enumerate(self.reads(node)):
                if access.source.node in kept:
                    why = WhyNot("it ends in what another kernel does: one sweep for both")
                    yield Edge(access, node, position), why


class _Match:
    """Pairs nodes of a pattern with nodes of a group that do the same."""

    def __init__(
        self, pattern: AbstractSet[Node], members: AbstractSet[Node], reads: _Reads
    ) -> None:
        self.pattern, self.members, self.reads = pattern, members, reads
        self.found: dict[Node, Node] = {}
        self.leaves: dict[Value, Value] = {}

    def nodes(self, one: Node, other: Node) -> bool:
        """Whether two nodes do the same to the same, all the way up."""
        stack = [(one, other)]
        while stack:
            p, t = stack.pop()
            is_new = self.found.get(p, t) is t and t in self.members
            if not is_new or self.reads.operation(p) != self.reads.operation(t):
                return False
            if p in self.found:
                continue
            self.found[p] = t
            pairs = zip(self.reads(p), self.reads(t), strict=True)
            for a, b in pairs:
                if a.source.node in self.pattern:
                    stack.append((a.source.node, b.source.node))
                elif not self._same_leaf(a, b):
                    return False
        tables = (self.found.values(), self.leaves.values())
        return all(len({*table}) == len(table) for table in tables)

    def _same_leaf(self, a: Access, b: Access) -> bool:
        """Whether both are single numbers, or both values of their points."""
        if _literal(a.source.node) != _literal(b.source.node):
            return False
        single = [x.source.aval.size == 1 for x in (a, b)]
        is_point = b.relation == "same" or single[1] or is_literal(b.source.node)
        if not is_point or single[0] != single[1]:
            return False
        return self.leaves.setdefault(a.source, b.source) is b.source


def _literal(node: Node) -> str:
    """The constant that a literal is; "" for other nodes."""
    return f"{node.prim.name} {node.params.get('value')!r}" if is_literal(node) else ""


def _reached(root: Node, members: AbstractSet[Node], reads: _Reads) -> Iterator[Node]:
    """The members that a node needs, itself first, in an order that follows from operands."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        yield node
        for found in reads(node):
            source = found.source.node
            if source in members and source not in seen:
                seen.add(source)
                stack.append(source)
