"""Names of kernels and buffers, from the program."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Graph, Node, Value
from .access import is_literal, is_movement

MAX_LENGTH = 48


def value_names(graph: Graph) -> dict[Value, str]:
    """A name for every value: the graph's, else the primitive's and a number."""
    names: dict[Value, str] = {}
    taken = set(graph.names.values())
    counts: dict[str, int] = {}
    for value in (*graph.inputs, *(r for n in graph.nodes for r in n.results)):
        name = graph.names.get(value)
        while name is None or (name in taken and value not in graph.names):
            stem = value.node.prim.label
            counts[stem] = counts.get(stem, 0) + 1
            name = f"{stem}{counts[stem]}"
        names[value] = name
    return names


def kernel_name(nodes: Sequence[Node]) -> str:
    """What a kernel does: its operations in order, as `max_sub_exp_sum_div`."""
    working = [n for n in nodes if not (is_movement(n) or is_literal(n))] or nodes
    stems: list[str] = []
    for node in working:
        stem = node.prim.label.removeprefix("reduce_")
        if not stems or stems[-1] != stem:
            stems.append(stem)
    kept = 0
    while kept < len(stems) and len("_".join(stems[: kept + 1])) <= MAX_LENGTH - len("_etc"):
        kept += 1
    return "_".join(stems if kept == len(stems) else [*stems[:kept], "etc"])
