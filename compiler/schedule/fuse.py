"""`fuse`: which nodes of a graph run together in one kernel.

Nodes are met in order, operands first, and each joins the groups of what it reads where that is
possible.  A group has an iteration space and, once something in it reduces, rows: its members have
an element for each point or for each row, and a row's element may be broadcast back over the row.
So softmax is one group, and so is a GELU, an optimizer's update, or a loss with its reduction.  An
edge that stays cut carries the reason.

Movement nodes belong to no group: whoever reads their result reads their operand through an index
map.  A producer in another order can be fused too, if it is for this consumer alone: it is computed
where it is needed (`moved`).

Once a kernel is complete it may follow a product that it reads row by row: both run by blocks of
rows, so that the kernel finds each block in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ..errors import WhyNot
from ..ir import Graph, Node, Value
from ..primitive import Matmul
from .access import is_movement, is_reduction
from .attach import attach
from .checks import Checks
from .clusters import Cluster, Clusters, Edge
from .cost import nominal_bytes
from .edges import Edges
from .finish import cuts_of, group_of, in_order, storage_of
from .matrices import out_view
from .plan import FusionPlan
from .recompute import recompute
from .tails import Tails, cut_tails
from .unions import (
    FOLLOWING,
    Union,
    agreed,
    cluster_of,
    column_sums,
    fit_product,
    fit_row,
    incomplete,
    one_space,
    reads_memory,
    reduce_across,
)

Fit: TypeAlias = Callable[[Edge, Cluster, Cluster], Union | WhyNot]

MAX_NODES = 200
"""Operations in one kernel, at most: compile time of straight code grows faster than its length."""


_LATER = WhyNot("not yet")


def fuse(graph: Graph, *, enabled: bool = True) -> FusionPlan:
    """Groups the nodes of `graph`; unless `enabled`, each is a kernel of its own (for tests)."""
    return _Fuser(graph, enabled).plan()


class _Fuser:
    def __init__(self, graph: Graph, enabled: bool) -> None:
        self.graph, self.enabled = graph, enabled
        self.edges, self.clusters = Edges(graph), Clusters()
        self.turned: set[Value] = set()  # products that only a transpose of is in memory
        self.checks = Checks(graph, {node: i for i, node in enumerate(self.edges.nodes)})

    # --- grouping ---------------------------------------------------------------------------------

    def plan(self) -> FusionPlan:
        """Groups everything, the edges that carry most first: single numbers come last."""
        cuts, before = self._enter_all(), -1
        while self.enabled and len(cuts) != before:  # once reductions are known, more may fit
            before = len(cuts)
            cuts = self._refused([edge for edge, _ in cuts])
        for _ in range(2 if self.enabled else 0):  # sums over columns join what follows already
            cuts = self._follow_products(cuts)
        self._merge_siblings()
        self._merge_scalars()
        clusters, more = self._final()
        storage = storage_of(self.edges, clusters, self.turned)
        if self.enabled:
            recompute(storage)
        groups = {c: group_of(c, storage) for c in clusters}
        groups = {c: group for c, group in groups.items() if group.stores}
        joined = [*groups.values()]
        if self.enabled:
            joined = attach(groups, storage, self.clusters, self.checks.why_apart)
        ordered = in_order(joined, storage)
        stored = frozenset({*self.graph.inputs, *(v for g in ordered for v in g.stores)})
        left = cuts_of([*cuts, *more], ordered, storage.position)
        return FusionPlan(self.graph, tuple(ordered), left, stored)

    def _enter_all(self) -> list[tuple[Edge, WhyNot]]:
        """Makes a group of each node and joins it to those above; returns what stays cut."""
        by_consumer: dict[Node, list[Edge]] = {}
        for edge in self.edges.all:
            by_consumer.setdefault(edge.consumer, []).append(edge)
        cuts: list[tuple[Edge, WhyNot]] = []
        for node in self.edges.nodes:
            edges = by_consumer.get(node, [])
            cluster = cluster_of(node, edges, self.checks.first.get(node, len(self.graph.checks)))
            self.clusters.add(cluster, [e.access.source.node for e in edges])
            large = [e for e in edges if e.access.source.aval.size != 1]
            cuts += self._refused(large)
            cuts += [(e, _LATER) for e in edges if e.access.source.aval.size == 1]
        return cuts

    def _refused(self, edges: list[Edge]) -> list[tuple[Edge, WhyNot]]:
        """Joins what can be joined, what saves most bytes first; returns the rest with reasons."""
        if len(edges) > 1:
            edges = sorted(edges, key=_rank)
        verdicts = [(edge, self._join(edge)) for edge in edges]
        return [(edge, why) for edge, why in verdicts if why is not None]

    def _follow_products(self, cuts: list[tuple[Edge, WhyNot]]) -> list[tuple[Edge, WhyNot]]:
        """Lets kernels, once they are complete, follow the products that they read."""
        left = []
        for edge, why in cuts:
            node = edge.access.source.node
            verdict: WhyNot | None = why
            if isinstance(node.prim.lowering, Matmul) and edge.access.source not in self.turned:
                turned = is_movement(edge.consumer)
                verdict = self._join(edge, self._fit_turned if turned else self._fit_product)
            if verdict is None:
                self.clusters.of(node).alone = FOLLOWING
            else:
                left.append((edge, verdict))
        return left

    def _fit_product(self, edge: Edge, p: Cluster, c: Cluster) -> Union | WhyNot:
        """How a kernel would follow a product, or join the kernel that does.

        Each block reads the product's operands again, so that none may be overwritten meanwhile.
        """
        product = next(n for n in p.nodes if isinstance(n.prim.lowering, Matmul))
        if any(
            self.edges.replaces.get(operand) in c.nodes for operand in self.edges.sources[product]
        ):
            return WhyNot("its result takes the memory of the product's operand")
        apart = self.checks.why_apart(p, c)
        return WhyNot(apart) if apart else fit_product(edge, p, c)

    def _fit_turned(self, edge: Edge, p: Cluster, c: Cluster) -> Union | WhyNot:
        """How a product would be written in the order of a transpose, and in no other."""
        product, written = edge.access.source, edge.consumer.results[0]
        view = out_view(product, written)
        if isinstance(view, WhyNot):
            return view
        is_only = self._is_only_for(p, product, edge.consumer)
        if not is_only or p.alone == FOLLOWING or c.nodes != [edge.consumer]:
            return WhyNot("others read the product in its own order")
        apart = self.checks.why_apart(p, c)
        if apart:
            return WhyNot(apart)
        self.turned.add(product)
        return Union(c, p)

    def _join(self, edge: Edge, fit: Fit | None = None) -> WhyNot | None:
        """Makes one group of producer and consumer, or says why not."""
        producer = edge.access.source.node
        p, c = self.clusters.of(producer), self.clusters.of(edge.consumer)
        if p is c:
            return None
        fit = fit or self._fit
        verdict = fit(edge, p, c)
        for other in c.reads:
            if isinstance(verdict, WhyNot):
                return verdict
            if other is not edge and self.clusters.of(other.access.source.node) is p:
                verdict = agreed(verdict, fit(other, p, c))
        if isinstance(verdict, WhyNot):
            return verdict
        if len(p.nodes) + len(c.nodes) > MAX_NODES:
            return WhyNot(f"the kernel would have more than {MAX_NODES} operations")
        if self.clusters.between(producer, edge.consumer):
            return WhyNot(
                "fusing would make a cycle: a step between them needs one and feeds the other"
            )
        verdict.apply(self.clusters)
        return None

    def _merge_siblings(self) -> None:
        """Joins groups that read one large value at the same points and do not need each other."""
        for value, nodes in self.edges.readers_of_all().items() if self.enabled else ():
            found = dict.fromkeys(self.clusters.of(n) for n in nodes)
            spaces: dict[object, Cluster] = {}
            for cluster in found:
                if cluster.alone or cluster.size != value.aval.size or cluster.size == 1:
                    continue
                key = cluster.size, cluster.runs, cluster.inner, cluster.check
                spaces[key] = self._merged(spaces.setdefault(key, cluster), cluster)

    def _merge_scalars(self) -> None:
        """Joins all work on single numbers: a kernel costs more than what it does there."""
        first: dict[int, Cluster] = {}
        for cluster in self.clusters.all() if self.enabled else ():
            if cluster.size == 1 and cluster.runs is None and not cluster.alone:
                kept = first.setdefault(cluster.check, cluster)
                first[cluster.check] = self._merged(kept, cluster)

    def _merged(self, one: Cluster, other: Cluster) -> Cluster:
        """One group of two that are independent, if so; the first of them otherwise."""
        small = len(one.nodes) + len(other.nodes) <= MAX_NODES
        if one is other or not small or not self.clusters.apart(one, other):
            return one
        Union(one, other).apply(self.clusters)
        return self.clusters.of(one.nodes[0])

    # --- laws -------------------------------------------------------------------------------------

    def _fit(self, edge: Edge, p: Cluster, c: Cluster) -> Union | WhyNot:
        """How the two groups would be one."""
        access, consumer = edge.access, edge.consumer
        forbidden = p.alone or reads_memory(consumer, edge.position)
        if access.source.node in p.columns:
            forbidden = incomplete(access.source.node)
        forbidden = forbidden or self.checks.why_apart(p, c)
        if forbidden or not self.enabled:
            return WhyNot(forbidden if self.enabled else "fusion is off")
        if c.alone or access.relation == "other":
            return self._fit_moved(edge, p, c)
        producer_is_row = access.source.node in p.rows
        consumer_is_row = consumer in c.rows and not is_reduction(consumer)
        if access.relation == "row":
            return fit_row(access, producer_is_row, consumer_is_row, p, c)
        if producer_is_row == consumer_is_row:
            return one_space(p, c)
        rows, points = (c, p) if producer_is_row else (p, c)
        if rows.runs is not None:
            return WhyNot("it reduces what is reduced already: one kernel reduces once a row")
        return Union(points, rows, rows_of=True)

    def _fit_moved(self, edge: Edge, p: Cluster, c: Cluster) -> Union | WhyNot:
        """A producer computed at the consumer's points, in whatever order those come."""
        access, consumer = edge.access, edge.consumer
        between = f"a {access.via} lies between" if access.via else f"{consumer.prim.name} moves it"
        if access.expands:
            return WhyNot(f"{between}: each element would be computed many times")
        if p.runs is not None or p.moved:
            return WhyNot(f"{between}, and the producer's kernel has an order of its own")
        if not self._is_only_for(p, access.source, consumer):
            return WhyNot(f"{between}, and others read the value or its kernel's other results")
        return Union(c, p, moved=True)

    def _is_only_for(self, cluster: Cluster, value: Value, reader: Node) -> bool:
        """Whether a group has one result for the rest of the program, and this one reader."""
        inside = set(cluster.nodes)
        for node in cluster.nodes:
            for result in node.results:
                outside = {n for n in self.edges.readers.get(result, ()) if n not in inside}
                if result in self.edges.whole or outside - ({reader} if result is value else set()):
                    return False
        return True

    # --- results ----------------------------------------------------------------------------------

    def _final(self) -> Tails:
        """All groups, with tails cut off that are a kernel elsewhere."""
        if not self.enabled:
            return Tails(self.clusters.all(), [])
        before = self.clusters.all()
        tails = cut_tails(before, self.edges.readers, self.edges.whole, self.edges.access)
        ends = [*self._merge_columns()]
        gone = {*before} - {*self.clusters.all()}
        return Tails([c for c in (*tails.clusters, *ends) if c not in gone], tails.cuts)

    def _merge_columns(self) -> Iterator[Cluster]:
        """Joins sums over columns to a kernel that reads the same value row by row.

        What was computed of the sums becomes a group of its own.
        """
        for value, nodes in self.edges.readers_of_all().items():
            found = dict.fromkeys(map(self.clusters.of, nodes))
            kernels = [c for c in found if c.alone in ("", FOLLOWING)]
            rows = [c for c in kernels if c.inner and c.size == value.aval.size]
            for cluster in kernels if rows else ():
                if self.clusters.of(cluster.nodes[0]) is cluster and not cluster.alone:
                    yield from self._join_columns(self.clusters.of(rows[0].nodes[0]), cluster)

    def _join_columns(self, rows: Cluster, columns: Cluster) -> Iterator[Cluster]:
        small = len(rows.nodes) + len(columns.nodes) <= MAX_NODES
        if not small or rows.check != columns.check or not reduce_across(rows, columns):
            return
        end = [n for n in columns.nodes if n in columns.rows and not is_reduction(n)]
        read = {r for n in end for v in n.results for r in self.edges.readers.get(v, ())}
        verdict = column_sums(rows, columns, {*end})
        if isinstance(verdict, WhyNot) or not self._are_beside(rows, columns):
            return
        if read & ({*columns.nodes} - {*end}):
            return
        columns.rows -= {*end}
        verdict.apply(self.clusters)
        joined = self.clusters.of(rows.nodes[0])
        joined.nodes = [n for n in joined.nodes if n not in end]
        if end:
            aval = end[0].results[0].aval
            yield Cluster(end, 0, aval.shape, aval.size, check=columns.check)

    def _are_beside(self, rows: Cluster, columns: Cluster) -> bool:
        """Whether sums over columns need nothing of rows but what those have at the same points."""
        if rows.above & columns.bits or self.clusters.between(rows.nodes[0], columns.nodes[0]):
            return False
        later = rows.rows | rows.columns
        ends = {n for n in columns.rows if not is_reduction(n)}
        return not any(
            e.access.relation != "same" or e.access.source.node in later or e.consumer in ends
            for e in columns.reads
            if self.clusters.of(e.access.source.node) is rows
        )


def _rank(edge: Edge) -> tuple[bool, int]:
    """The order in which edges are tried: those in the order of elements first, then large ones."""
    return edge.access.relation == "other", -nominal_bytes(edge.access.source)
