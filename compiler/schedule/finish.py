"""Finished groups: what each stores and runs, the order in which they can, and what stays cut."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from heapq import heappop, heappush

from ..errors import WhyNot
from ..ir import Node, Value
from ..primitive import Call, Matmul, Scatter, Window
from .clusters import Cluster, Edge
from .edges import Edges
from .plan import Cut, Group, Kind
from .recompute import Storage


def storage_of(edges: Edges, groups: Sequence[Cluster], turned: Collection[Value]) -> Storage:
    """Which value is read by which group, and which must be in memory whatever happens.

    Products are, but for those that only a transpose of is (`turned`).
    """
    members = {n: c for c in groups for n in c.nodes}
    products = {n.results[0] for n in edges.nodes if isinstance(n.prim.lowering, Matmul)}
    return Storage(edges.nodes, members, edges.sources, edges.whole | (products - {*turned}))


def group_of(cluster: Cluster, storage: Storage) -> Group:
    """What a finished group of nodes is."""
    nodes = sorted(cluster.nodes, key=storage.position.__getitem__)
    kind = _kind([n for n in nodes if n not in cluster.moved | cluster.columns])
    stores = tuple(r for n in nodes for r in n.results if r in storage.stored)
    if kind not in ("kernel", "matmul"):
        stores = next(n for n in nodes if n not in cluster.moved).results
    again = sorted(storage.again.get(cluster, ()), key=storage.position.__getitem__)
    return Group(
        kind,
        storage.needed_for(stores, nodes),
        stores,
        cluster.shape,
        cluster.axes,
        cluster.inner,
        frozenset(cluster.rows),
        frozenset(cluster.moved),
        frozenset(cluster.columns),
        tuple(again),
    )


def _kind(nodes: list[Node]) -> Kind:
    """What a group is, which has at most one node that is not computed point by point."""
    for node in nodes:
        match node.prim.lowering:
            case Matmul():
                return "matmul"
            case Call():
                return "call"
            case Scatter():
                return "scatter"
            case Window():
                return "window"
    return "kernel"


def cuts_of(
    refused: list[tuple[Edge, WhyNot]], groups: list[Group], rank: Mapping[Node, int]
) -> tuple[Cut, ...]:
    """The edges between groups, each once, without those whose producer is computed again."""
    again = {(n, m) for group in groups for n in group.again for m in (*group.nodes, *group.again)}
    home = {n: group for group in groups if group.first or group.last for n in group.nodes}
    cuts: dict[tuple[Value, Node], Cut] = {}
    for edge, why in refused:
        producer, consumer = edge.access.source, edge.consumer
        inside = home.get(producer.node)
        joined = inside is not None and inside is home.get(consumer)
        if (producer.node, consumer) not in again and not joined:
            cuts.setdefault((producer, consumer), Cut(producer, consumer, why))
    return tuple(sorted(cuts.values(), key=lambda cut: rank[cut.consumer]))


def in_order(groups: list[Group], storage: Storage) -> list[Group]:
    """The groups in an order in which they can run: by their first members, if possible."""
    home = {v: i for i, group in enumerate(groups) for v in group.stores}
    waits: list[int] = []
    below: list[list[int]] = [[] for _ in groups]
    for i, group in enumerate(groups):
        needs = {home[v] for v in storage.read_by((*group.nodes, *group.again)) if v in home} - {i}
        waits.append(len(needs))
        for need in needs:
            below[need].append(i)
    rank = [storage.position[group.nodes[0]] for group in groups]
    ready = [(rank[i], i) for i, count in enumerate(waits) if not count]
    ordered: list[Group] = []
    ready.sort()
    while ready:
        _, i = heappop(ready)
        ordered.append(groups[i])
        for j in below[i]:
            waits[j] -= 1
            if not waits[j]:
                heappush(ready, (rank[j], j))
    return ordered
