"""Reverse-mode differentiation of a graph: one loop over VJP rules, backwards.

Source of the method: Baydin et al., Automatic Differentiation in Machine Learning: a Survey, JMLR
18 (2018), 3.2. The result is ordinary graph values: optimised, printed and differentiated again
like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..errors import IRError
from ..ir import Graph, Loc, Node, Value, topological
from ..primitives.create import full_like, graph_input
from ..primitives.elementwise import add


def cotangents(
    outputs: Mapping[Value, Value],
    inputs: Sequence[Value],
    stop: Iterable[Value] = (),
) -> dict[Value, Value]:
    """Cotangents of `inputs`, given those of `outputs`, by the chain rule.

    Args:
        outputs: the cotangent of each differentiated value.
        inputs: the values to differentiate with respect to; an input that no output depends on is
            left out of the result, since its cotangent is zero.
        stop: values that count as constant: nothing flows through them.
    """
    totals: dict[Value, Value] = dict(outputs)
    wanted = set(inputs)
    constant = set(stop) - wanted
    order = list(topological(outputs))
    active = _depends_on(order, wanted, constant)
    for node in reversed(order):
        if node in active and any(r in totals for r in node.results):
            for operand, ct in zip(node.operands, _pull_back(node, totals), strict=False):
                if ct is not None and (operand in wanted or operand.node in active):
                    totals[operand] = add(totals[operand], ct) if operand in totals else ct
    return {value: totals[value] for value in inputs if value in totals}


def _depends_on(order: Sequence[Node], wanted: set[Value], constant: set[Value]) -> set[Node]:
    """The nodes through which a cotangent must flow to reach a wanted value."""
    active: set[Node] = set()
    for node in order:
        sources = (o for o in node.operands if o not in constant)
        if any(o in wanted or o.node in active for o in sources):
            active.add(node)
    return active


def _pull_back(node: Node, totals: Mapping[Value, Value]) -> Sequence[Value | None]:
    rule = node.prim.require_vjp()
    if len(node.results) == 1:
        out = node.results[0]
        return rule(totals[out], out, *node.operands, **node.params)
    cts = tuple(totals.get(r) for r in node.results)
    return rule(cts, node.results, *node.operands, **node.params)


def backward_graph(
    graph: Graph, wrt: Sequence[Value], kept: Collection[Value] | None = None
) -> tuple[Graph, tuple[Value, ...]]:
    """The backward half of `graph`: from residuals and cotangents of outputs to those of inputs.

    Every value of the forward graph that the backward half reads becomes an input of it, so nothing
    of the forward pass is computed again.

    Args:
        graph: the forward graph; its floating outputs are differentiated.
        wrt: the values of the graph to differentiate with respect to, inputs or not.
        kept: the values that may be residuals, all inputs among them, where it is not all: the
            backward half computes the others again.

    Returns:
        The backward graph, whose inputs are the residuals followed by one cotangent for each
        output, and the residuals as values of `graph`.  A value that no output depends on gets
        zeros.
    """
    for value in wrt:
        if not value.aval.dtype.is_floating_point:
            raise IRError(f"{graph.name}: {value!r} is not floating, so it has no gradient")
    base = len(graph.inputs)
    seeds = [graph_input(base + i, o.aval) for i, o in enumerate(graph.outputs)]
    totals: dict[Value, Value] = {}
    for output, seed in zip(graph.outputs, seeds, strict=True):
        if output.aval.dtype.is_floating_point:
            totals[output] = add(totals[output], seed) if output in totals else seed
    found = cotangents(totals, wrt)
    outputs = tuple(found[t] if t in found else full_like(t, 0) for t in wrt)
    return cut(graph, outputs, seeds, kept)


def cut(
    graph: Graph,
    outputs: Sequence[Value],
    seeds: Sequence[Value],
    kept: Collection[Value] | None = None,
) -> tuple[Graph, tuple[Value, ...]]:
    """Splits `outputs` off the forward graph, whose values they read as inputs, before `seeds`.

    Where not all values are `kept`, the outputs compute the others again.
    """
    forward = {*graph.inputs, *(r for n in graph.nodes for r in n.results)} - set(seeds)
    literals = {r for n in graph.nodes if not n.operands for r in n.results}
    forward -= literals
    if kept is not None:
        forward.intersection_update(kept)
    residuals: dict[Value, None] = {}
    later = [n for n in topological(outputs) if not forward & {*n.results}]
    for node in later:
        residuals.update((o, None) for o in node.operands if o in forward)
    residuals.update((o, None) for o in outputs if o in forward)
    sources = (*residuals, *seeds)
    renamed = {v: graph_input(i, v.aval) for i, v in enumerate(sources)}
    for node in later:
        if node.prim.name != "input":
            operands = tuple(renamed[o] for o in node.operands)
            renamed.update(zip(node.results, node.prim.bind(*operands, **node.params), strict=True))
    inputs = tuple(renamed[v] for v in sources)
    name = f"{graph.name}_backward"
    return Graph(name, inputs, tuple(renamed[o] for o in outputs)), tuple(residuals)


def mark_grad(locs: Iterable[Loc]) -> tuple[Loc, ...]:
    """The lines of nodes derived from a node with these lines."""
    return tuple(loc._replace(grad=True) for loc in locs)
