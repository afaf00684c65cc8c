"""`verify`: the laws that every graph obeys.

It runs after each pass in tests and under `TAUT_CHECK=1`.
"""

from __future__ import annotations

from . import dtypes
from .aval import Aval
from .errors import IRError
from .ir import Graph, Node


def verify(graph: Graph) -> Graph:
    """Returns `graph` if it is well formed.

    Raises:
        IRError: an input is out of place, a value comes from no input, a node's type is not what
            its type rule says, a symbol is bound by no input, a check is not a bool scalar, or a
            donated input has another type.
    """
    _verify_inputs(graph)
    for node in graph.nodes:
        _verify_node(graph, node)
    _verify_closed(graph)
    _verify_checks(graph)
    _verify_donations(graph)
    _verify_names(graph)
    return graph


def _verify_inputs(graph: Graph) -> None:
    for position, value in enumerate(graph.inputs):
        if not value.is_input or value.node.params["position"] != position:
            raise IRError(f"{graph.name}: input {position} is {value!r}")


def _verify_node(graph: Graph, node: Node) -> None:
    avals = node.prim.infer(tuple(o.aval for o in node.operands), node.params)
    if avals != tuple(r.aval for r in node.results):
        raise IRError(f"{graph.name}: {node!r} should have type {', '.join(map(str, avals))}")
    for param in node.params.values():
        for region in param if isinstance(param, tuple) else (param,):
            if isinstance(region, Graph):
                verify(region)


def _verify_closed(graph: Graph) -> None:
    known = set(graph.inputs)
    bound = set(graph.symbols)
    for node in graph.nodes:
        for operand in node.operands:
            if operand.is_input and operand not in known:
                raise IRError(f"{graph.name}: {node!r} reads {operand!r}, which is no input")
        free = frozenset().union(*(r.aval.symbols for r in node.results)) - bound
        if free:
            raise IRError(f"{graph.name}: no input binds the size {min(free)} of {node!r}")
    for output in graph.outputs:
        if output.is_input and output not in known:
            raise IRError(f"{graph.name}: output {output!r} is no input of the graph")


def _verify_checks(graph: Graph) -> None:
    for check in graph.checks:
        if check.condition.aval != Aval(dtypes.boolean):
            raise IRError(f"{graph.name}: check {check.message!r} is no bool scalar")


def _verify_donations(graph: Graph) -> None:
    taken = [d for d in graph.donations if d is not None]
    if len(graph.donations) != len(graph.outputs) or len(taken) != len(set(taken)):
        raise IRError(f"{graph.name}: donations {graph.donations} do not match the outputs")
    for output, donated in zip(graph.outputs, graph.donations, strict=True):
        if donated is None:
            continue
        if not 0 <= donated < len(graph.inputs):
            raise IRError(f"{graph.name}: donation of input {donated}, which does not exist")
        given = graph.inputs[donated].aval
        if (given.dtype, given.shape) != (output.aval.dtype, output.aval.shape):
            raise IRError(f"{graph.name}: {output.aval} cannot replace input {donated}: {given}")


def _verify_names(graph: Graph) -> None:
    names = list(graph.names.values())
    if len(names) != len(set(names)):
        raise IRError(f"{graph.name}: two values have one name")
