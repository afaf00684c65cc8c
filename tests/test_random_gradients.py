"""Differentiation of random graphs: the gradient is the difference quotient, whatever the graph.

Rules of single primitives are in test_primitives.py; what is tried here is the loop over them:
values that are read several times, results that nobody needs, inputs that reach no output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from taut.compiler import dtypes
from taut.compiler.autodiff import backward_graph
from taut.compiler.evaluate import evaluate, interpret
from taut.compiler.ir import Graph, Node, Value
from taut.compiler.primitives.create import graph_input
from taut.frontend.testing import random_graph, random_inputs

Array = npt.NDArray[Any]

SMOOTH = (
    *("add", "sub", "mul", "neg", "sin", "cos", "tanh", "sigmoid", "erf", "fma", "select"),
    *("broadcast", "reshape", "transpose", "slice", "set_slice", "flip", "concat", "take"),
    *("scatter_add", "reduce_sum", "matmul"),
)
"""Primitives that are differentiable everywhere and do not grow fast."""


def in_double(graph: Graph) -> Graph:
    """The graph with every floating value in f64, and only floating outputs."""
    wide = {d: dtypes.f64 if d.is_floating_point else d for d in dtypes.ALL}
    avals = [v.aval for v in graph.inputs]
    inputs = [graph_input(i, type(a)(wide[a.dtype], a.shape)) for i, a in enumerate(avals)]

    def bind(node: Node, operands: list[Value]) -> Sequence[Value]:
        params = {k: wide.get(v, v) if k == "dtype" else v for k, v in node.params.items()}
        return node.prim.bind(*operands, **params)

    value_of = interpret(graph, inputs, bind)
    outputs = dict.fromkeys(value_of(o) for o in graph.outputs if o.aval.dtype.is_floating_point)
    return Graph("f", tuple(inputs), tuple(outputs))


@pytest.mark.parametrize("seed", range(100))
def test_gradient_is_the_difference_quotient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = in_double(random_graph(rng, 15, primitives=SMOOTH))
    arrays = random_inputs(rng, graph)
    floating = [i for i, v in enumerate(graph.inputs) if v.aval.dtype.is_floating_point]
    cts = [rng.normal(size=o.aval.shape) for o in graph.outputs]
    backward, residuals = backward_graph(graph, [graph.inputs[i] for i in floating])
    kept = evaluate(Graph("residuals", graph.inputs, residuals), arrays)
    grads = evaluate(backward, [*kept, *cts])
    ways = [rng.normal(size=g.shape) for g in grads]
    slope = sum(float((g * way).sum()) for g, way in zip(grads, ways, strict=True))

    def quotient(step: float) -> float:
        """The central difference of sum(ct * output) along `ways`."""
        sums = []
        for sign in (1, -1):
            moved = list(arrays)
            for i, way in zip(floating, ways, strict=True):
                moved[i] = arrays[i] + sign * step * way
            outputs = evaluate(graph, moved)
            sums.append(sum(float((c * o).sum()) for c, o in zip(cts, outputs, strict=True)))
        return (sums[0] - sums[1]) / (2 * step)

    rough, fine = quotient(2e-5), quotient(1e-5)
    # Half the step has a quarter of the error, so that `fine` is off by a third of their
    # difference; rounding adds 1e-16 of the sums over a step of 1e-5.
    scale = sum(float(abs(g * way).sum()) for g, way in zip(grads, ways, strict=True))
    assert abs(slope - fine) <= abs(rough - fine) + 1e-8 * (scale + 1)
