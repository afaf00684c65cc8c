"""How two groups may become one: the laws of fusion that need no more than the two groups."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from ..aval import Shape, size_of
from ..errors import WhyNot
from ..ir import Node, Value
from ..primitive import Call, Gather, Matmul, Scatter, Window
from .access import Access, is_over_lanes, is_reduction, runs_of, scatters_rows
from .clusters import Cluster, Clusters, Edge

PRODUCT = "matmul is a step of its own"
OPERAND = "matmul reads its operands from memory"
FOLLOWING = "it follows a product, and both run by blocks"

MAX_COLUMNS = 4096
"""Columns whose sums are added up in memory, row by row: they must stay in the first cache."""


class Union(NamedTuple):
    """A merger that is allowed: `gone` becomes part of `kept`.

    With `rows_of`, what are points in `gone` are rows of `kept`; with `moved`, they come in another
    order; with `columns`, what `gone` reduces are sums over the rows of `kept`.
    """

    kept: Cluster
    gone: Cluster
    rows_of: bool = False
    moved: bool = False
    columns: bool = False

    def apply(self, clusters: Clusters) -> None:
        """Merges the groups."""
        kept, gone = self.kept, self.gone
        if self.rows_of:
            gone.rows.update(gone.nodes)
        if self.moved:
            gone.moved.update(gone.nodes)
        if self.columns:
            gone.columns, gone.rows, gone.runs = gone.rows, set(), None
        if gone.runs is not None:
            kept.shape, kept.axes = gone.shape, gone.axes
            kept.runs, kept.inner = gone.runs, gone.inner
        if len(gone.nodes) > len(kept.nodes):
            gone.shape, gone.axes, gone.size = kept.shape, kept.axes, kept.size
            gone.runs, gone.inner, gone.alone = kept.runs, kept.inner, kept.alone
            kept, gone = gone, kept
        clusters.merge(kept, gone)


def agreed(first: Union | WhyNot, second: Union | WhyNot) -> Union | WhyNot:
    """One merger that serves two edges between the same groups."""
    if isinstance(second, WhyNot) or first == second:
        return second
    return WhyNot("its kernel would be needed at two points of the space at once")


def fit_row(
    access: Access, producer_is_row: bool, consumer_is_row: bool, p: Cluster, c: Cluster
) -> Union | WhyNot:
    """A broadcast: the producer's elements are rows of the consumer's space."""
    spaces = WhyNot(f"iteration spaces differ: {_shape(p.shape)} against {_shape(c.shape)}")
    if consumer_is_row:
        return spaces
    if producer_is_row:
        return one_space(p, c) if p.runs == access.runs else spaces
    return Union(c, p, rows_of=True) if p.runs is None and c.runs == access.runs else spaces


def one_space(p: Cluster, c: Cluster) -> Union | WhyNot:
    """Both groups run over the same points."""
    if p.size != c.size:
        return WhyNot(f"iteration spaces differ: {_shape(p.shape)} against {_shape(c.shape)}")
    if p.runs is not None and c.runs is not None:
        for rows, columns in ((p, c), (c, p)):
            if reduce_across(rows, columns):
                return column_sums(rows, columns)
        if p.runs != c.runs:
            over = [f"{_shape(x.axes)} of {_shape(x.shape)}" for x in (p, c)]
            return WhyNot(f"reductions over different dimensions: {over[0]} against {over[1]}")
        if p.inner != c.inner:
            return WhyNot("reductions in different orders: one over lanes, one over rows")
    return Union(p, c)


def reduce_across(rows: Cluster, columns: Cluster) -> bool:
    """Whether one group reduces each row over lanes, and the other each column of the same rows."""
    if rows.runs is None or columns.runs is None or not rows.inner or len(rows.runs) != 2:
        return False
    return columns.runs == tuple((size, not reduced) for size, reduced in rows.runs)


def column_sums(
    rows: Cluster, columns: Cluster, end: AbstractSet[Node] = frozenset()
) -> Union | WhyNot:
    """Sums over columns in the kernel of the rows: each row is added to what is in memory.

    `end` is what will not join.
    """
    assert rows.runs is not None
    (count, _), (width, _) = rows.runs
    if not isinstance(count, int) or not isinstance(width, int):
        return WhyNot("sums over columns beside reductions over rows need sizes that are known")
    if count == 0:
        return WhyNot("without rows nothing would write the sums over columns")
    for node in (n for n in columns.nodes if n in columns.rows and n not in end):
        dtypes = {v.aval.dtype for v in (*node.operands, *node.results)}
        if node.prim.name != "reduce_sum" or not is_reduction(node) or len(dtypes) > 1:
            return WhyNot("only plain sums over columns can be made beside reductions over rows")
        if node.results[0].aval.dtype.name == "f16":
            return WhyNot("f16 is summed in f32, which memory does not hold")
    if width > MAX_COLUMNS:
        return WhyNot(f"sums over more than {MAX_COLUMNS} columns would not stay in the cache")
    return Union(rows, columns, columns=True)


def fit_product(edge: Edge, p: Cluster, c: Cluster) -> Union | WhyNot:
    """A kernel that takes a product's rows in blocks, right after they are made.

    Where one does already, this one becomes part of it.
    """
    reason = _why_apart(edge, p, c)
    if reason:
        return WhyNot(reason)
    return one_space(p, c) if p.alone == FOLLOWING else Union(c, p)


def _why_apart(edge: Edge, p: Cluster, c: Cluster) -> str:
    """Why a kernel cannot follow a product, or ""."""
    access, consumer = edge.access, edge.consumer
    found = ""
    if c.alone == FOLLOWING:
        found = "its kernel follows another product"
    elif c.alone or reads_memory(consumer, edge.position):
        found = c.alone or reads_memory(consumer, edge.position)
    elif access.relation == "other" or consumer in c.moved:
        found = f"a {access.via or 'movement'} lies between: the product must be complete"
    elif access.source.node in p.columns:
        found = incomplete(access.source.node)
    elif access.relation == "row" or p.size != c.size or _is_of_rows(edge, p, c):
        found = f"iteration spaces differ: {_shape(p.shape)} against {_shape(c.shape)}"
    elif _reduces_all_rows(edge, c) and not reduce_across(p, c):
        found = "it reduces over the product's rows: they must be complete"
    return found


def incomplete(node: Node) -> str:
    """Why the result of a sum over columns, or of rows written, is not read in its kernel."""
    if isinstance(node.prim.lowering, Scatter):
        return f"{node.prim.name} must be complete before it is read"
    return "a sum over columns is complete when its kernel ends"


def _is_of_rows(edge: Edge, p: Cluster, c: Cluster) -> bool:
    """Whether an edge carries an element for each row."""
    source, consumer = edge.access.source.node, edge.consumer
    return source in p.rows or (consumer in c.rows and not is_reduction(consumer))


def _reduces_all_rows(edge: Edge, c: Cluster) -> bool:
    """Whether a group reduces over the rows of a product of several."""
    aval = edge.access.source.aval
    return c.runs is not None and c.runs[0][1] and aval.shape[-1:] != (aval.size,)


def _shape(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def cluster_of(node: Node, reads: list[Edge], check: int) -> Cluster:
    """A group of one node, which the check of that number needs first."""
    shape = _space(node).aval.shape
    cluster = Cluster([node], 0, shape, size_of(shape), reads=list(reads), check=check)
    if scatters_rows(node):
        rows = tuple(range(node.operands[1].aval.ndim, len(shape)))
        cluster.runs, cluster.axes, cluster.inner = runs_of(shape, rows), rows, True
        cluster.columns.add(node)
        return cluster
    cluster.alone = _alone(node)
    if is_reduction(node):
        dims = node.params["dims"]
        cluster.runs, cluster.axes = runs_of(shape, dims), dims
        cluster.inner = is_over_lanes(shape, dims)
        cluster.rows.add(node)
    return cluster


def _space(node: Node) -> Value:
    """A value with an element for each point of a node's loops."""
    if scatters_rows(node):
        return node.operands[2]
    return node.operands[0] if is_reduction(node) else node.results[0]


def reads_memory(node: Node, position: int) -> str:
    """Why a node must find an operand in memory, or "": no producer can be fused into it there."""
    name = node.prim.name
    match node.prim.lowering:
        case Matmul():
            return OPERAND
        case Call():
            return _alone(node)
        case Gather() if position == 0:
            return "take reads its first operand at positions that are data"
        case Scatter() | Window() if position == 0 and name != "concat":
            return f"{name} writes into a copy of its first operand"
    return ""


def _alone(node: Node) -> str:
    """Why nothing may join the group of a node from below, or ""."""
    name = node.prim.name
    match node.prim.require_lowering():
        case Matmul():
            return PRODUCT
        case Call():
            return f"{name} is a native call"
        case Scatter() | Window():
            return f"{name} must be complete before it is read"
    return ""
