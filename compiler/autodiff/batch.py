"""Batching of a graph: one program for many slices at once, by each primitive's batching rule.

The law: slice i of each output is what the graph computes from slice i of the batched inputs and
from the other inputs as they are.  A value of the result is batched where it has one dimension more
than the value it stands for, the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..aval import Aval, Dim
from ..errors import CompileError
from ..evaluate import interpret
from ..ir import Graph, Node, Value
from ..primitives import batching
from ..primitives.create import graph_input
from ..primitives.reduce import reduce_min

RANDOMNESS = ("error", "different", "same")


def batch(
    graph: Graph, size: Dim, batched: Sequence[bool], randomness: str = "error"
) -> tuple[Graph, tuple[bool, ...]]:
    """The graph over a batch.

    Args:
        graph: what to compute for each slice; nothing may be donated.
        size: number of slices.
        batched: for each input, whether it gets a batch dimension; the others serve all slices.
        randomness: what random primitives do: "different" draws for each slice, "same" draws once
            for all, "error" refuses them.

    Returns:
        The batched graph, and for each output whether it has a batch dimension: it has none if it
        depends on no batched input.  A check holds if it holds for every slice.

    Raises:
        CompileError: a primitive has no batching rule, or a random one was refused.
    """
    inputs = [
        graph_input(i, _with_batch(v.aval, size) if b else v.aval)
        for i, (v, b) in enumerate(zip(graph.inputs, batched, strict=True))
    ]
    value_of = interpret(graph, inputs, _rule(size, randomness))
    outputs = tuple(value_of(o) for o in graph.outputs)
    found = zip(outputs, graph.outputs, strict=True)
    checks = tuple(c.__class__(_all(value_of(c.condition)), c.message, c.loc) for c in graph.checks)
    made = Graph(f"{graph.name}_batch", tuple(inputs), outputs, checks=checks)
    return made, tuple(batching.is_batched(new, old) for new, old in found)


def _with_batch(aval: Aval, size: Dim) -> Aval:
    return Aval(aval.dtype, (size, *aval.shape))


def _all(condition: Value) -> Value:
    return reduce_min(condition, dims=(0,)) if condition.aval.ndim else condition


def _rule(size: Dim, randomness: str) -> Callable[[Node, list[Value]], Sequence[Value]]:
    def apply(node: Node, operands: list[Value]) -> Sequence[Value]:
        draws = node.prim.batch is batching.draw
        if draws and randomness == "error":
            raise CompileError(
                f"vmap: {node.prim} draws random numbers; say randomness='different' for other "
                "numbers in each slice, or randomness='same' for the same in all"
            )
        pairs = zip(operands, node.operands, strict=True)
        if any(batching.is_batched(x, before) for x, before in pairs):
            if draws:
                raise CompileError(f"vmap: {node.prim} draws from a generator that is batched")
            results: Sequence[Value] = node.prim.require_batch()(size, node, operands)
            return results
        if draws and randomness == "different":
            return batching.draw(size, node, operands)
        return node.prim.bind(*operands, **node.params)

    return apply
