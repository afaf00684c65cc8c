"""Forward-mode differentiation of a graph, derived from the VJP rules.

A VJP rule is a program for c -> c J, which is linear in the cotangent c.  Its own transpose, by the
same rules, is the program for t -> J t: the law is `<c J, t> = <c, J t>` for every c.  So one table
of rules serves both modes (the converse of Radul et al., You Only Linearize Once, POPL 2023, which
transposes the forward mode).  This is done node by node, and so tangents flow forward with the
values, and of each rule only what is linear in c remains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..errors import CompileError
from ..ir import Graph, Node, Value, topological
from ..primitive import no_gradient
from ..primitives.create import full_like, graph_input
from ..primitives.elementwise import add
from .vjp import cotangents, cut


def tangents(
    outputs: Iterable[Value], inputs: Mapping[Value, Value], stop: Iterable[Value] = ()
) -> dict[Value, Value]:
    """Tangents of `outputs`, given those of `inputs`, by the chain rule.

    Args:
        outputs: what to differentiate; one that depends on no input is left out of the result,
            since its tangent is zero.
        inputs: the tangent of each value that varies.
        stop: values that count as constant.
    """
    known, constant = dict(inputs), set(stop) - set(inputs)
    wanted = list(outputs)
    for node in topological(wanted):
        operands = {o: known[o] for o in node.operands if o in known and o not in constant}
        if operands:
            for result, tangent in _push_forward(node, operands).items():
                known.setdefault(result, tangent)
    return {value: known[value] for value in wanted if value in known}


def _push_forward(node: Node, moving: Mapping[Value, Value]) -> dict[Value, Value]:
    """Tangents of a node's results: the transpose of its VJP rule, on its operands' tangents."""
    if node.prim.vjp is no_gradient:
        return {}
    floating = [r for r in node.results if r.aval.dtype.is_floating_point]
    probes = {r: graph_input(-1 - r.index, r.aval) for r in floating}
    pulled = _pull(node, probes)
    seeds: dict[Value, Value] = {}
    for operand, ct in zip(node.operands, pulled, strict=False):
        if ct is not None and operand in moving:
            tangent = moving[operand]
            seeds[ct] = add(seeds[ct], tangent) if ct in seeds else tangent
    found = cotangents(seeds, list(probes.values()))
    return {r: _linear(node, found[p], probes) for r, p in probes.items() if p in found}


def _pull(node: Node, probes: Mapping[Value, Value]) -> Sequence[Value | None]:
    rule = node.prim.require_vjp()
    if len(node.results) == 1:
        out = node.results[0]
        return rule(probes[out], out, *node.operands, **node.params) if probes else ()
    cts = tuple(probes.get(r) for r in node.results)
    return rule(cts, node.results, *node.operands, **node.params)


def _linear(node: Node, tangent: Value, probes: Mapping[Value, Value]) -> Value:
    used = {n.results[0] for n in topological([tangent])}
    if used & set(probes.values()):
        raise CompileError(f"the VJP rule of {node.prim} is not linear in the cotangent")
    return tangent


def tangent_graph(
    graph: Graph, wrt: Sequence[Value], kept: Collection[Value] | None = None
) -> tuple[Graph, tuple[Value, ...]]:
    """The tangent half of `graph`: from residuals and tangents of `wrt` to those of the outputs.

    Args:
        graph: the graph to differentiate; its outputs are floating.
        wrt: the values that vary, inputs or not.
        kept: see `backward_graph`.

    Returns:
        The graph, whose inputs are the residuals followed by one tangent for each value of `wrt`,
        and the residuals as values of `graph`.  An output that depends on none gets zeros.
    """
    base = len(graph.inputs)
    seeds = {v: graph_input(base + i, v.aval) for i, v in enumerate(wrt)}
    found = tangents(graph.outputs, seeds)
    outputs = tuple(found[o] if o in found else full_like(o, 0) for o in graph.outputs)
    made, residuals = cut(graph, outputs, tuple(seeds.values()), kept)
    return made.replace(name=f"{graph.name}_tangent"), residuals
