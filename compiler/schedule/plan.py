"""The fusion plan: which nodes run together, what is stored, and why other edges stay cut."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

from ..aval import Shape
from ..errors import WhyNot
from ..ir import Graph, Node, Value
from ..primitive import Matmul

Kind: TypeAlias = Literal["kernel", "matmul", "call", "scatter", "window"]


@dataclass(frozen=True)
class Group:
    """Nodes that run together.

    Attributes:
        kind: "kernel" is one loop nest; the others are steps of their own, with what is fused into
            them: into a "matmul" the kernel that follows it.
        nodes: the members, operands before users.
        stores: the results that the rest of the program reads, which are written to memory.
        shape: the iteration space, as one member has it.
        reduced: the dimensions of `shape` that its reductions combine.
        inner: whether reductions run over lanes of the innermost loop.
        rows: members that have one element for each row, not for each point.
        columns: members that sum over rows beside reductions over columns, or scatter rows.
        moved: members that are computed at other points than the space's own.
        again: nodes of other groups that are computed here again rather than stored there.
        first, last: groups whose loops run once, before or after those of the others; their nodes,
            stores and `again` are among the group's.
    """

    kind: Kind
    nodes: tuple[Node, ...]
    stores: tuple[Value, ...]
    shape: Shape
    reduced: tuple[int, ...] = ()
    inner: bool = False
    rows: frozenset[Node] = frozenset()
    moved: frozenset[Node] = frozenset()
    columns: frozenset[Node] = frozenset()
    again: tuple[Node, ...] = ()
    first: tuple[Group, ...] = ()
    last: tuple[Group, ...] = ()

    @cached_property
    def main(self) -> Group:
        """The group without what runs once."""
        once = (*self.first, *self.last)
        nodes = {n for part in once for n in part.nodes}
        return replace(
            self,
            nodes=tuple(n for n in self.nodes if n not in nodes),
            stores=tuple(v for v in self.stores if v.node not in nodes),
            first=(),
            last=(),
        )

    @cached_property
    def members(self) -> frozenset[Node]:
        """The nodes, as a set."""
        return frozenset(self.nodes)

    @property
    def root(self) -> Node:
        """The node that a step of its own is for."""
        if self.kind == "matmul":
            return next(n for n in self.nodes if isinstance(n.prim.lowering, Matmul))
        return next(n for n in self.nodes if n not in self.moved)


@dataclass(frozen=True)
class Cut:
    """A producer and a consumer that are not fused, and the reason."""

    producer: Value
    consumer: Node
    why: WhyNot


@dataclass(frozen=True)
class FusionPlan:
    """The result of `fuse`.

    Attributes:
        graph: what was planned.
        groups: in an order in which they can run.
        cuts: every edge between groups.
        stored: all values that have memory: inputs, and what groups store.
        prologues: numbers of a kernel's group and of the product's before which it runs by blocks.
        sweeps: numbers of groups whose kernels run as one step, for each such step.
    """

    graph: Graph
    groups: tuple[Group, ...]
    cuts: tuple[Cut, ...]
    stored: frozenset[Value] = field(repr=False)
    prologues: tuple[tuple[int, int], ...] = ()
    sweeps: tuple[tuple[int, ...], ...] = ()

    @property
    def kernels(self) -> tuple[Group, ...]:
        """The groups that are kernels."""
        return tuple(g for g in self.groups if g.kind == "kernel")

    def why_not(self, producer: Value, consumer: Value) -> str | None:
        """The reason why an edge is cut, or None if it is not."""
        for cut in self.cuts:
            if cut.producer is producer and cut.consumer is consumer.node:
                return cut.why.reason
        return None
