"""Building a graph by hand: the compiler as a library, without tensors and without tracing.

The program fits a line by gradient descent.  Its graph is built of primitives, differentiated,
optimised, compiled, and run as a function of NumPy arrays.
"""

from __future__ import annotations

import numpy as np

from taut.compiler import (
    Graph,
    GraphBuilder,
    evaluate_graph,
    gradient_graph,
    ops,
    parse_graph,
    run_passes,
    verify_graph,
)
from taut.runtime import compile_graph


def loss_graph() -> Graph:
    """The squared error of `slope * x + start` against y; sizes are known when it runs."""
    build = GraphBuilder("fit")
    x, y = build.input("x", "f32[N]"), build.input("y", "f32[N]")
    slope, start = build.input("slope", "f32[]"), build.input("start", "f32[]")
    line = ops.mul(x, ops.broadcast(slope, dims=(), shape=x.aval.shape))
    line = ops.add(line, ops.broadcast(start, dims=(), shape=x.aval.shape))
    error = build.name("error", ops.sub(line, y))
    return build.returns(build.name("loss", ops.reduce_sum(ops.mul(error, error), dims=(0,))))


def step_graph(rate: float) -> Graph:
    """A step of gradient descent: new values of both parameters, in place of the old ones."""
    joint = gradient_graph(loss_graph(), ["slope", "start"])
    loss, *gradients = joint.outputs
    stepped = [
        ops.sub(old, ops.mul(gradient, ops.full(value=rate, dtype=old.aval.dtype, shape=())))
        for old, gradient in zip(joint.inputs[2:], gradients, strict=True)
    ]
    return verify_graph(joint.replace(outputs=(loss, *stepped), donations=(None, 2, 3)))


def main() -> None:
    """Prints the graph before and after the passes, and runs it."""
    graph = step_graph(0.01)
    assert parse_graph(str(graph)) == graph
    print(f"As derived:\n\n{graph}\nAs optimised:\n\n{run_passes(graph, check=True)}")

    x = np.linspace(-1, 1, 32, dtype=np.float32)
    arrays = [x, 3 * x + 1, np.float32(0), np.float32(0)]
    print("evaluated", *evaluate_graph(graph, arrays))
    program = compile_graph(graph)
    print("compiled ", *program(arrays))
    for _ in range(100):
        loss, *arrays[2:] = program(arrays)
    slope, start = arrays[2:]
    print(f"loss {float(loss):.6f}  slope {float(slope):.3f}  start {float(start):.3f}")


if __name__ == "__main__":
    main()
