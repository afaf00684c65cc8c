"""The stages of a fused kernel: what each loop over a row reduces, writes, and keeps for later.

A reduction can run once all reductions that it needs are complete: its *depth* is how many stand
one after the other. Values between are computed again in each loop that needs them, which costs
less than memory does; but what takes an exponential or the like is written by the first loop and
read by the later ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..ir import Node, Value
from ..primitive import Elementwise
from .access import Accesses, is_reduction
from .cost import TRANSCENDENTAL, weight
from .plan import Group


@dataclass
class Loop:
    """One loop over a row.

    Attributes:
        reductions: what it completes.
        columns: sums over all rows to which it adds.
        stores: the values that it writes.
    """

    reductions: list[Node] = field(default_factory=list)
    columns: list[Node] = field(default_factory=list)
    stores: list[Value] = field(default_factory=list)


@dataclass(frozen=True)
class Stages:
    """The loops of a kernel in order, and the values of rows that it writes."""

    loops: tuple[Loop, ...]
    rows: tuple[Value, ...]


def stages_of(group: Group, access: Accesses) -> Stages:
    """How a group that reduces is divided into loops."""
    depths = _depths(group, access)
    loops = [Loop() for _ in range(max(depths.values()) + 1)]
    for node in group.nodes:
        if node in group.columns:
            loops[depths[node]].columns.append(node)
        elif is_reduction(node):
            loops[depths[node] - 1].reductions.append(node)
    for value in group.stores:
        if value.node not in group.rows and value.node not in group.columns:
            loops[depths[value.node]].stores.append(value)
    _Keeper(group, access).keep(loops)
    rows = tuple(v for v in group.stores if v.node in group.rows)
    return Stages(tuple(x for x in loops if x.reductions or x.columns or x.stores), rows)


def _depths(group: Group, access: Accesses) -> dict[Node, int]:
    """For each member how many reductions, one after the other, it takes to complete it."""
    depths: dict[Node, int] = {}
    for node in group.nodes:
        sources = [access(o).source.node for o in node.operands]
        depth = max((depths.get(s, 0) for s in sources), default=0)
        depths[node] = depth + (is_reduction(node) and node not in group.columns)
    return depths


class _Keeper:
    """Finds the costly values that several loops need."""

    def __init__(self, group: Group, access: Accesses) -> None:
        self.group, self.access = group, access
        self.costs: dict[Value, int] = {}
        for node in group.nodes:
            if isinstance(node.prim.lowering, Elementwise):
                cost = sum(self.costs.get(v, 0) for v in self._operands(node))
                self.costs[node.results[0]] = min(weight(node) + cost, TRANSCENDENTAL)

    def _operands(self, node: Node) -> list[Value]:
        """The members that a node reads at its own point."""
        found = (self.access.operand(node, i) for i in range(len(node.operands)))
        return [a.source for a in found if a.relation == "same" and self._is_point(a.source.node)]

    def _is_point(self, node: Node) -> bool:
        group = self.group
        return node in group.members and node not in group.rows and node not in group.moved

    def keep(self, loops: list[Loop]) -> None:
        """Adds to the loops' stores what later loops had better read."""
        first: dict[Value, int] = {}
        written = {v: number for number, loop in enumerate(loops) for v in loop.stores}
        for number, loop in enumerate(loops):
            for value in self._needed(loop, number, first, written):
                loops[first[value]].stores.append(value)
                written[value] = first[value]

    def _needed(
        self, loop: Loop, number: int, first: dict[Value, int], written: dict[Value, int]
    ) -> list[Value]:
        """What a loop needs that an earlier one computed at some cost; notes what it computes."""
        kept: list[Value] = []
        met: set[Value] = set()
        nodes = [*loop.reductions, *loop.columns]
        stack = [v for node in nodes for v in self._operands(node)] + loop.stores
        while stack:
            value = stack.pop()
            if value in met or written.get(value, number) < number:
                continue
            met.add(value)
            if first.setdefault(value, number) < number and self._is_costly(value):
                kept.append(value)
            else:
                stack += self._operands(value.node)
        return kept

    def _is_costly(self, value: Value) -> bool:
        return self.costs.get(value, 0) >= TRANSCENDENTAL
