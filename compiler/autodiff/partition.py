"""Which values of the forward pass to keep for a backward pass that runs later, as a program apart.

Everything that the backward graph reads of the forward pass must be kept or computed again from
what is kept.  Products, reductions, random draws and the like are never computed again; what is
elementwise or moves data may be.  Of all sets that allow this, the one that moves the fewest bytes
is a minimum cut: between the inputs and costly results, and what the backward pass reads (Chen et
al., Training Deep Nets with Sublinear Memory Cost, 2016, keep by hand; the cut is PyTorch's).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..aval import dim_symbols, evaluate_dim, symbol
from ..ir import Graph, Node, Value, topological
from ..primitive import Elementwise, Literal, Movement, Window
from ..primitives.create import graph_input

TYPICAL_SIZE = 64
"""What a named size counts as."""
Place = tuple[Value, bool]
"""A value on the way in, or (True) on the way out: between them lies the cost of keeping it."""


class Split(NamedTuple):
    """A backward graph and what it reads.

    Attributes:
        backward: its inputs are the residuals, followed by the cotangents.
        residuals: values of the forward graph: inputs of it, outputs, or what it has to give beside
            them.
    """

    backward: Graph
    residuals: tuple[Value, ...]


def partition(forward: Graph, backward: Graph) -> Split:
    """Lets a backward graph start from residuals, instead of from the forward graph's inputs.

    Args:
        forward: the forward graph.
        backward: a graph whose inputs are those of `forward`, followed by cotangents; what it needs
            of the forward pass it computes again.
    """
    seeds = backward.inputs[len(forward.inputs) :]
    late = _depending(backward, seeds)
    read = [o for n in backward.nodes if n in late for o in n.operands]
    frontier = [v for v in (*read, *backward.outputs) if v.node not in late and v not in seeds]
    kept = _cut(frontier, set(forward.outputs))
    kept += _binding_sizes(forward.inputs, (*kept, *seeds))
    return Split(_starting_at(backward, kept, seeds), kept)


def _depending(graph: Graph, sources: Sequence[Value]) -> set[Node]:
    """The nodes that some values lead to."""
    found: set[Node] = set()
    for node in graph.nodes:
        if any(o in sources or o.node in found for o in node.operands):
            found.add(node)
    return found


def _is_cheap(node: Node) -> bool:
    """Whether a node may be computed again."""
    return isinstance(node.prim.lowering, (Elementwise, Movement, Window))


def _cost(value: Value, outputs: set[Value]) -> int:
    """Bytes to keep a value: read once, and written unless the forward pass has it anyway."""
    symbols = dim_symbols(value.aval.nbytes)
    nbytes = evaluate_dim(value.aval.nbytes, dict.fromkeys(symbols, TYPICAL_SIZE))
    return 1 + nbytes * (1 if value.is_input or value in outputs else 2)


def _cut(frontier: Iterable[Value], outputs: set[Value]) -> tuple[Value, ...]:
    """The values to keep: a minimum cut between what is given and what is read."""
    wanted = [v for v in dict.fromkeys(frontier) if not _is_literal(v)]
    order = [n for n in topological(wanted) if not isinstance(n.prim.lowering, Literal)]
    flow = _Flow()
    for node in order:
        for value in node.results:
            flow.add((value, False), (value, True), _cost(value, outputs))
            if value.is_input or not _is_cheap(node):
                flow.sources.append((value, False))
            for operand in node.operands if _is_cheap(node) else ():
                if not _is_literal(operand):
                    flow.add((operand, True), (value, False), None)
    reached = flow.saturate({(v, True) for v in wanted})
    kept = [v for n in order for v in n.results]
    return tuple(v for v in kept if (v, False) in reached and (v, True) not in reached)


def _binding_sizes(inputs: Sequence[Value], read: Sequence[Value]) -> tuple[Value, ...]:
    """Inputs that have to be read for a named size, which nothing else has by itself."""
    known = {d for v in read for d in v.aval.shape}
    extra: list[Value] = []
    for value in inputs:
        named = [d for d in value.aval.shape if any(d == symbol(n) for n in dim_symbols(d))]
        if any(d not in known for d in named):
            extra.append(value)
            known.update(value.aval.shape)
    return tuple(extra)


def _is_literal(value: Value) -> bool:
    return isinstance(value.node.prim.lowering, Literal)


class _Flow:
    """A network of capacities, None for no limit; `sources` are fed without limit."""

    def __init__(self) -> None:
        self.sources: list[Place] = []
        self._left: dict[Place, dict[Place, float]] = {}

    def add(self, start: Place, end: Place, capacity: int | None) -> None:
        """An edge."""
        edges = self._left.setdefault(start, {})
        edges[end] = float("inf") if capacity is None else edges.get(end, 0) + capacity
        self._left.setdefault(end, {}).setdefault(start, 0)

    def saturate(self, sinks: set[Place]) -> set[Place]:
        """Sends as much as possible (Edmonds-Karp); returns what the sources still reach."""
        while True:
            parents = self._search(sinks)
            end = next((s for s in sinks if s in parents), None)
            if end is None:
                return set(parents)
            path = [end]
            while (before := parents[path[-1]]) is not None:
                path.append(before)
            edges = list(zip(path[1:], path, strict=False))
            amount = min(self._left[a][b] for a, b in edges)
            for a, b in edges:
                self._left[a][b] -= amount
                self._left[b][a] += amount

    def _search(self, sinks: set[Place]) -> dict[Place, Place | None]:
        """How each place is reached by the fewest edges that have something left."""
        parents: dict[Place, Place | None] = dict.fromkeys(self.sources)
        queue = deque(self.sources)
        while queue:
            place = queue.popleft()
            for end, left in self._left[place].items():
                if left > 0 and end not in parents:
                    parents[end] = place
                    if end in sinks:
                        return parents
                    queue.append(end)
        return parents


def _starting_at(backward: Graph, kept: Sequence[Value], seeds: Sequence[Value]) -> Graph:
    """The backward graph with what is kept, and the cotangents, as its inputs."""
    inputs = tuple(graph_input(i, v.aval) for i, v in enumerate((*kept, *seeds)))
    renamed: dict[Value, Value] = dict(zip((*kept, *seeds), inputs, strict=True))
    locs = {}
    for node in _needed(backward.outputs, set(renamed)):
        made = node.prim.bind(*(renamed[o] for o in node.operands), **node.params)
        for old, new in zip(node.results, made, strict=True):
            renamed.setdefault(old, new)
        if made and node in backward.locs:
            locs[made[0].node] = backward.locs[node]
    outputs = tuple(renamed[o] for o in backward.outputs)
    return backward.replace(inputs=inputs, outputs=outputs, names={}, locs=locs)


def _needed(outputs: Iterable[Value], known: set[Value]) -> list[Node]:
    """The nodes that lead from known values to the outputs, in order."""
    needed: set[Node] = set()
    stack = [o for o in outputs if o not in known]
    while stack:
        node = stack.pop().node
        if node not in needed:
            needed.add(node)
            stack += [o for o in node.operands if o not in known]
    return [n for n in topological(outputs) if n in needed]
