"""The difference of two graphs as text, whatever their values are called.

Nodes are interned, so what both graphs compute is one node.  The rest is aligned in order: by
operation, attributes and type, then between such matches by operation, then by type.  Values that
correspond print under one name, so that a line differs only if it says something else.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..ir import Graph, Node, Value
from .canonical import canonical_text
from .printer import print_graph


def difference(a: Graph, b: Graph, names: tuple[str, str] = ("a", "b")) -> str:
    """A unified diff of the two graphs; empty exactly if they are the same program.

    Names of functions and values and source lines do not count.

    Args:
        a: before.
        b: after.
        names: what to call them, in the diff's first lines.
    """
    if canonical_text(a) == canonical_text(b):
        return ""
    before, after = map(_lines, (a, b), _labels(a, b))
    found = difflib.unified_diff(before, after, *names, lineterm="")
    return "".join(f"{line}\n" for line in found)


def _lines(graph: Graph, labels: dict[Value, str]) -> list[str]:
    checks = tuple(replace(check, loc=None) for check in graph.checks)
    bare = graph.replace(name="", names=labels, locs={}, checks=checks)
    return print_graph(bare).splitlines()


def _labels(a: Graph, b: Graph) -> tuple[dict[Value, str], dict[Value, str]]:
    """Names for the values of both, the same where they correspond."""
    first = _names(a, set())
    pairs = dict(_matched_values(a, b))
    second = _names(b, {*first.values()})
    return first, {v: first[pairs[v]] if v in pairs else second[v] for v in second}


def _names(graph: Graph, taken: set[str]) -> dict[Value, str]:
    """The graph's own names, and for the rest the primitive's with a number."""
    names: dict[Value, str] = {}
    used = taken | set(graph.names.values())
    for value in (*graph.inputs, *(r for n in graph.nodes for r in n.results)):
        name = graph.names.get(value)
        if name is None or name in taken:
            stem, number = value.node.prim.name if name is None else name, 1
            while f"{stem}{number}" in used:
                number += 1
            name = f"{stem}{number}"
        used.add(name)
        names[value] = name
    return names


def _matched_values(a: Graph, b: Graph) -> Iterator[tuple[Value, Value]]:
    """Values of `b` with those of `a` that they correspond to."""
    yield from zip(b.inputs, a.inputs, strict=False)
    for x, y in matched_nodes(a.nodes, b.nodes):
        yield from zip(y.results, x.results, strict=True)


def matched_nodes(a: Sequence[Node], b: Sequence[Node]) -> Iterator[tuple[Node, Node]]:
    """Pairs of nodes of two graphs that correspond."""
    same = set(a) & set(b)
    yield from ((node, node) for node in same)
    left, right = ([n for n in nodes if n not in same] for nodes in (a, b))
    yield from _aligned(left, right, (_statement, _operation, _types))


def _aligned(
    left: Sequence[Node], right: Sequence[Node], likenesses: Sequence[Callable[[Node], str]]
) -> Iterator[tuple[Node, Node]]:
    """Pairs in order: of nodes that are alike in the first way, and between them in the next."""
    if not (left and right and likenesses):
        return
    keys = [[likenesses[0](node) for node in nodes] for nodes in (left, right)]
    matcher = difflib.SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            yield from zip(left[i:j], right[k:m], strict=True)
        else:
            yield from _aligned(left[i:j], right[k:m], likenesses[1:])


def _statement(node: Node) -> str:
    params = {k: v for k, v in node.params.items() if not isinstance(v, Graph)}
    return f"{_operation(node)} {params} {_types(node)}"


def _operation(node: Node) -> str:
    return f"{node.prim.name} {len(node.results)}"


def _types(node: Node) -> str:
    return ", ".join(str(r.aval) for r in node.results)
