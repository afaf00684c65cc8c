"""Recomputation: a cheap value is computed again by its readers where that moves fewer bytes.

A comparison kept for the backward pass, a cast, `1 - t*t` beside `t`: storing it costs a write and
a read in each kernel that needs it; computing it again costs reads of its operands, if the kernel
does not read them anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from ..ir import Node, Value
from ..primitive import Elementwise
from .clusters import Cluster
from .cost import nominal_bytes, weight

MAX_WEIGHT = 8
"""The most that a value may cost to be computed again, in additions an element."""
MUCH_LARGER = 8
"""A value this many times smaller than another is as good as free to keep."""


class Storage:
    """Which values are in memory, and which groups read them.

    Attributes:
        position: the number of each node, in order.
        stored: values that groups write to memory.
        reads: what each group reads from memory.
        again: for each group the nodes of others that it computes again.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        members: Mapping[Node, Cluster],
        sources: Mapping[Node, Sequence[Value]],
        whole: frozenset[Value],
    ) -> None:
        self.position = {node: i for i, node in enumerate(nodes)}
        self.members, self.sources, self.whole = members, sources, whole
        self.reads: dict[Cluster, set[Value]] = {c: set() for c in members.values()}
        self.again: dict[Cluster, set[Node]] = {}
        self.stored = {v for v in whole if v.node in members}
        for node, cluster in members.items():
            for source in sources.get(node, ()):
                if source.is_input or members[source.node] is not cluster:
                    self.reads[cluster].add(source)
                    if not source.is_input:
                        self.stored.add(source)

    def read_by(self, nodes: Iterable[Node]) -> set[Value]:
        """The sources that nodes read."""
        return {s for n in nodes for s in self.sources.get(n, ())}

    def last_first(self, value: Value) -> tuple[int, int, Value]:
        """The value behind what orders values from the last to the first."""
        return -self.position[value.node], value.index, value

    def needed_for(self, stores: Iterable[Value], nodes: Sequence[Node]) -> tuple[Node, ...]:
        """Those of a group's nodes that lead to what it stores."""
        inside, needed = set(nodes), set[Node]()
        stack = [v.node for v in stores]
        while stack:
            node = stack.pop()
            if node in inside and node not in needed:
                needed.add(node)
                stack += [s.node for s in self.sources.get(node, ())]
        return tuple(n for n in nodes if n in needed)


class _Closure(NamedTuple):
    """What computes a value from memory: the nodes to run, and the values to read."""

    nodes: list[Node]
    leaves: set[Value]


def recompute(storage: Storage) -> None:
    """Takes values out of memory that are cheaper to compute again, the last ones first."""
    readers: dict[Value, list[Cluster]] = {}
    for cluster, values in storage.reads.items():
        for value in values:
            readers.setdefault(value, []).append(cluster)
    waiting = sorted(storage.last_first(v) for v in storage.stored - storage.whole)
    while waiting:
        value = heappop(waiting)[-1]
        closure = _closure(value, storage)
        if closure is not None and _saves(value, closure, readers[value], storage):
            for leaf in _apply(value, closure, readers, storage):
                heappush(waiting, storage.last_first(leaf))


def _closure(value: Value, storage: Storage) -> _Closure | None:
    """The cheap nodes behind `value`, down to what can be in memory; None if they are too many.

    A value of a row is taken from memory rather than computed again at each point of the row.
    """
    cost, found = 0, _Closure([], set())
    few = nominal_bytes(value) // MUCH_LARGER
    seen, stack = {value}, [value]
    while stack:
        current = stack.pop()
        if not _is_cheap(current) or (current is not value and nominal_bytes(current) <= few):
            if current is value or current.node in storage.members[current.node].moved:
                return None
            found.leaves.add(current)
            continue
        cost += weight(current.node)
        if cost > MAX_WEIGHT:
            return None
        found.nodes.append(current.node)
        for source in storage.sources.get(current.node, ()):
            if source in storage.stored or source.is_input:
                found.leaves.add(source)
            elif source not in seen:
                seen.add(source)
                stack.append(source)
    return found


def _is_cheap(value: Value) -> bool:
    node = value.node
    return isinstance(node.prim.lowering, Elementwise) and weight(node) <= MAX_WEIGHT


def _saves(value: Value, closure: _Closure, readers: Sequence[Cluster], storage: Storage) -> bool:
    """Whether fewer bytes move if each reader computes `value` itself."""
    saved = nominal_bytes(value) * (1 + len(readers))
    written = {leaf for leaf in closure.leaves if not (leaf.is_input or leaf in storage.stored)}
    spent = sum(map(nominal_bytes, written))
    for reader in readers:
        spent += sum(nominal_bytes(leaf) for leaf in closure.leaves - storage.reads[reader])
    return spent < saved


def _apply(
    value: Value, closure: _Closure, readers: dict[Value, list[Cluster]], storage: Storage
) -> set[Value]:
    """Lets the readers compute `value`; returns what must be stored for it that was not."""
    written = {leaf for leaf in closure.leaves if not leaf.is_input} - storage.stored
    storage.stored.remove(value)
    storage.stored |= written
    for reader in readers.pop(value):
        storage.reads[reader].remove(value)
        storage.again.setdefault(reader, set()).update(closure.nodes)
        for leaf in closure.leaves - storage.reads[reader]:
            storage.reads[reader].add(leaf)
            readers.setdefault(leaf, []).append(reader)
    return written
