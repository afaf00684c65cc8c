"""Small sums beside a pass over rows join its kernel: they run once, before or after the rows.

The mean of a cross entropy sums what the kernel has for each row: a pass of its own over a value
that is a row's length smaller, and was written a moment ago.  The number of rows that count, which
the gradient of each row needs, comes before the first row.

Sums that do the same, as the norms of all gradients, are one step already (`sweeps`).  They join
only if all of them can, and the kernels that they join do the same, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..aval import Dim, size_of
from ..ir import Value
from .clusters import Cluster, Clusters
from .plan import Group
from .recompute import Storage
from .unions import FOLLOWING


def attach(
    groups: Mapping[Cluster, Group],
    storage: Storage,
    clusters: Clusters,
    why_apart: Callable[[Cluster, Cluster], str],
) -> list[Group]:
    """The groups, with sums over rows as part of the kernels that have the rows.

    Args:
        groups: each finished group.
        storage: what they read.
        clusters: which group needs which.
        why_apart: which check parts two groups, or "".
    """
    return _Attacher(groups, storage, clusters, why_apart).run()


class _Attacher:
    def __init__(
        self,
        groups: Mapping[Cluster, Group],
        storage: Storage,
        clusters: Clusters,
        why_apart: Callable[[Cluster, Cluster], str],
    ) -> None:
        self.groups, self.storage = dict(groups), storage
        self.clusters, self.why_apart = clusters, why_apart
        self.whole = {*clusters.all()} & {*groups}  # of others, the ends have been cut off
        self.totals = {c: c.size for c in self.whole if _is_total(c, groups[c])}
        self.readers: dict[Value, list[Cluster]] = {}
        for cluster, values in storage.reads.items():
            for value in values:
                self.readers.setdefault(value, []).append(cluster)

    def run(self) -> list[Group]:
        found = {c: [*self._beside(c)] for c in self._in_order(self.whole)} if self.totals else {}
        hosts = self._hosts(found)
        count = Counter(map(self._form, self.totals))
        for cluster, beside in found.items():
            waiting = [t for t in beside if t in self.totals]
            waiting = [t for t in waiting if _alike(hosts[self._form(t)], count[self._form(t)])]
            self._join_all(cluster, waiting)
        return list(self.groups.values())

    def _hosts(self, found: Mapping[Cluster, Sequence[Cluster]]) -> dict[object, list[object]]:
        """For each form of sums the forms of the kernels that these would join."""
        first: dict[Cluster, Cluster] = {}
        for cluster, beside in found.items():
            for total in beside:
                first.setdefault(total, cluster)
        hosts: dict[object, list[object]] = {}
        for total, cluster in first.items():
            hosts.setdefault(self._form(total), []).append(self._form(cluster))
        return hosts

    def _in_order(self, clusters: Iterable[Cluster]) -> list[Cluster]:
        position = self.storage.position
        return sorted(clusters, key=lambda c: position[self.groups[c].nodes[0]])

    def _form(self, cluster: Cluster) -> object:
        """What a group does, whatever the sizes."""
        group = self.groups[cluster]
        nodes = sorted({*group.nodes, *group.again}, key=self.storage.position.__getitem__)
        return tuple((n.prim.name, n.results[0].aval.dtype.name) for n in nodes)

    def _beside(self, cluster: Cluster) -> list[Cluster]:
        """Sums over as many elements as a kernel has rows: which it needs, or which need it.

        So do those that belong to these, and those that read what the kernel reads.
        """
        rows = _rows(cluster)
        found: set[Cluster] = set()
        stack = [cluster] if rows is not None else []
        while stack:
            for other in self._neighbours(stack.pop()):
                if other not in found and self.totals.get(other) == rows:
                    found.add(other)
                    stack.append(other)
        return self._in_order(found)

    def _neighbours(self, cluster: Cluster) -> Iterator[Cluster]:
        for value in self.storage.reads[cluster]:
            if not value.is_input:
                yield self.storage.members[value.node]
            if value.aval.size == cluster.size or value.aval.size == _rows(cluster):
                yield from self.readers[value]
        for value in self.groups[cluster].stores:
            yield from self.readers.get(value, ())

    # --- joining ----------------------------------------------------------------------------------

    def _join_all(self, cluster: Cluster, waiting: list[Cluster]) -> None:
        """Joins sums to a kernel, until none of them can."""
        before = len(waiting) + 1
        while waiting and len(waiting) < before:
            before = len(waiting)
            waiting = [total for total in waiting if not self._joins(cluster, total)]

    def _joins(self, cluster: Cluster, total: Cluster) -> bool:
        """Makes one group of a kernel and a sum, if nothing comes between them."""
        group, other = self.groups[cluster], self.groups[total]
        kept, gone = (self.clusters.of(g.nodes[0]) for g in (group, other))
        between = self.clusters.between(group.nodes[0], other.nodes[0])
        if between or self._reads_parted(kept, gone, total) or self.why_apart(kept, gone):
            return False
        self.clusters.merge(kept, gone)
        self.groups[cluster] = self._with(group, other)
        del self.groups[total], self.totals[total]
        return True

    def _reads_parted(self, kept: Cluster, gone: Cluster, total: Cluster) -> bool:
        """Whether a sum reads what has been cut off from one of the groups since."""
        sources = [v.node for v in self.storage.reads[total] if not v.is_input]
        cut_off = [n for n in sources if self.storage.members[n] not in self.whole]
        return any(self.clusters.of(node) in (kept, gone) for node in cut_off)

    def _with(self, group: Group, other: Group) -> Group:
        position = self.storage.position.__getitem__
        nodes = tuple(sorted((*group.nodes, *other.nodes), key=position))
        stores = {*group.stores, *other.stores}
        joined = replace(
            group,
            nodes=nodes,
            stores=tuple(v for n in nodes for v in n.results if v in stores),
            again=tuple(sorted({*group.again, *other.again}, key=position)),
        )
        if self._needs(other, (group.main, *group.last)):
            return replace(joined, last=self._as_needed((*group.last, other)))
        return replace(joined, first=self._as_needed((*group.first, other)))

    def _needs(self, group: Group, others: Iterable[Group]) -> bool:
        read = self.storage.read_by((*group.nodes, *group.again))
        return any(v in read for other in others for v in other.stores)

    def _as_needed(self, parts: Sequence[Group]) -> tuple[Group, ...]:
        """Parts of a kernel, each after those whose results it reads."""
        waiting, ordered = [*parts], list[Group]()
        while waiting:
            ready = next(p for p in waiting if not self._needs(p, (o for o in waiting if o != p)))
            ordered.append(ready)
            waiting.remove(ready)
        return tuple(ordered)


def _alike(hosts: Sequence[object], count: int) -> bool:
    """Whether as many sums as there are of a form have kernels to join, and of one form."""
    return len(hosts) == count and len({*hosts}) == 1


def _is_total(cluster: Cluster, group: Group) -> bool:
    """Whether a group combines all that it reads, over lanes."""
    runs = cluster.runs or ()
    is_whole = len(runs) == 1 and runs[0][1] and cluster.inner
    return is_whole and group.kind == "kernel" and not cluster.columns


def _rows(cluster: Cluster) -> Dim | None:
    """How many rows a kernel reduces, if it has any."""
    kept = [size for size, reduced in cluster.runs or () if not reduced]
    is_kernel = cluster.alone in ("", FOLLOWING) and len(kept) < len(cluster.runs or ())
    return size_of(tuple(kept)) if kept and is_kernel else None
