"""`evaluate`: what a graph means.  Every pass, kernel and back end is tested equal to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import CheckFailed, IRError
from .ir import Check, Graph, Node, Value, bind_sizes, solve_sizes
from .quiet import quiet

Array = npt.NDArray[Any]


def interpret(
    graph: Graph,
    inputs: Sequence[Any],
    apply: Callable[[Node, list[Any]], Sequence[Any]],
    test: Callable[[Check, Any], None] | None = None,
) -> Callable[[Value], Any]:
    """Runs the graph's nodes in order, and returns the look-up of a value.

    The one loop behind evaluation, differentiation's inlining and every pass that rebuilds a graph.

    Args:
        graph: what to run.
        inputs: what its inputs stand for.
        apply: the results of a node.
        test: is given each check, in order, and its condition before anything that it guards runs.
    """
    environment: dict[Value, Any] = dict(zip(graph.inputs, inputs, strict=True))
    untested = list(reversed(graph.checks)) if test else []

    def test_known() -> None:
        while test and untested and untested[-1].condition in environment:
            check = untested.pop()
            test(check, environment[check.condition])

    test_known()
    for node in graph.nodes:  # what a check needs comes before all that no earlier check needs
        results = apply(node, [environment[o] for o in node.operands])
        environment.update(zip(node.results, results, strict=True))
        test_known()
    return environment.__getitem__


def evaluate(graph: Graph, inputs: Sequence[Any]) -> list[Array]:
    """The outputs of `graph` on arrays, computed one primitive at a time by the NumPy references.

    Args:
        graph: any well-formed graph; symbolic sizes are read off the arrays' shapes.
        inputs: one array for each input, of its dtype.

    Raises:
        CheckFailed: a check does not hold.
        IRError: an array does not fit its input's type.
    """
    arrays = [np.asarray(x) for x in inputs]
    _require_fit(graph, arrays)
    sizes = solve_sizes([v.aval for v in graph.inputs], [a.shape for a in arrays])
    value_of = interpret(graph, arrays, lambda node, xs: apply_reference(node, xs, sizes), require)
    return [np.asarray(value_of(output)) for output in graph.outputs]


def require(check: Check, holds: Any) -> None:
    """Raises CheckFailed unless the check's condition holds."""
    if not holds:
        raise CheckFailed(check.message)


def apply_reference(node: Node, operands: Sequence[Any], sizes: Mapping[str, int]) -> Sequence[Any]:
    """Results of one node on arrays."""
    params = {k: bind_sizes(v, sizes) for k, v in node.params.items()} if sizes else node.params
    result = quiet.run(node.prim.reference, *operands, **params)
    return result if isinstance(result, tuple) else (result,)


def _require_fit(graph: Graph, arrays: Sequence[Array]) -> None:
    if len(arrays) != len(graph.inputs):
        raise IRError(f"{graph.name} takes {len(graph.inputs)} arguments, got {len(arrays)}")
    for position, (value, array) in enumerate(zip(graph.inputs, arrays, strict=True)):
        if array.dtype != value.aval.dtype.numpy:
            raise IRError(f"argument {position}: expected {value.aval}, got dtype {array.dtype}")
