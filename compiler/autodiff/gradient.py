"""A graph with its gradients: what `loss.backward()` derives in a traced step, of any graph."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import IRError
from ..ir import Graph, Loc, Node, Value
from ..primitives.create import full_like
from .vjp import cotangents, mark_grad


def gradient_graph(graph: Graph, wrt: Sequence[Value | str]) -> Graph:
    """The graph that returns what `graph` does, then the gradients of its first result.

    Args:
        graph: its first result is a floating scalar.
        wrt: the values to differentiate with respect to, or their names.  A value that the result
            does not depend on gets zeros.

    Raises:
        IRError: the first result is no floating scalar, or a value of `wrt` is not floating or not
            of this graph.
    """
    loss = graph.outputs[0] if graph.outputs else None
    if loss is None or loss.aval.shape != () or not loss.aval.dtype.is_floating_point:
        got = "nothing" if loss is None else str(loss.aval)
        raise IRError(f"{graph.name}: a gradient is that of a floating scalar, not of {got}")
    targets = [_value(graph, target) for target in wrt]
    found = cotangents({loss: full_like(loss, 1)}, targets)
    gradients = [found[t] if t in found else full_like(t, 0) for t in targets]
    joint = graph.replace(
        outputs=(*graph.outputs, *gradients),
        donations=(*graph.donations, *[None] * len(gradients)),
    )
    return joint.replace(locs=_located(graph, joint), names=_named(graph, targets, gradients))


def _value(graph: Graph, target: Value | str) -> Value:
    if isinstance(target, str):
        known = {name: value for value, name in graph.names.items()}
        if target not in known:
            raise IRError(f"{graph.name} has no value called {target!r}")
        target = known[target]
    if not target.aval.dtype.is_floating_point:
        raise IRError(f"{graph.name}: {target!r} is not floating, so it has no gradient")
    if target not in {*graph.inputs, *(r for node in graph.nodes for r in node.results)}:
        raise IRError(f"{target!r} is no value of {graph.name}")
    return target


def _located(graph: Graph, joint: Graph) -> dict[Node, tuple[Loc, ...]]:
    """Derived nodes have the first line, marked `grad`, of what they read."""
    locs = dict(graph.locs)
    own = set(graph.nodes)
    for node in joint.nodes:
        sources = sorted(loc for o in node.operands for loc in locs.get(o.node, ()))
        if node not in own and sources:
            locs[node] = mark_grad(sources[:1])
    return locs


def _named(graph: Graph, targets: Sequence[Value], gradients: Sequence[Value]) -> dict[Value, str]:
    names = dict(graph.names)
    for target, gradient in zip(targets, gradients, strict=True):
        name = f"grad_{names.get(target, '')}"
        if target in names and gradient not in names and name not in names.values():
            names[gradient] = name
    return names
