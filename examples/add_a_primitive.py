"""Adding a primitive: one block, and all know it: text, evaluation, gradients, both back ends.

`docs/adding-a-primitive.md` goes through the parts one by one.
"""

from __future__ import annotations

import numpy as np

import taut
from taut.compiler import dtypes
from taut.compiler.aval import Aval
from taut.compiler.errors import IRError
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph, Value
from taut.compiler.primitive import Cotangents, Elementwise, Primitive, register
from taut.compiler.primitives import elementwise as E
from taut.compiler.primitives.create import full_like, graph_input
from taut.compiler.text.parser import parse_graph
from taut.frontend.tape import apply  # how the front end's functions apply primitives
from taut.runtime.compile import compile_graph
from taut.runtime.options import default_options


def copysign_type(x: Aval, y: Aval) -> Aval:
    """One floating dtype and one shape, which the result has too."""
    if not x.dtype.is_floating_point or x != y:
        raise IRError(f"expected two floats of one type, got {x} and {y}")
    return x


def copysign_vjp(ct: Value, out: Value, x: Value, y: Value) -> Cotangents:
    """out = |x| * sign(y): the cotangent changes sign where x and out differ in theirs."""
    flipped = E.lt(E.mul(x, out), full_like(x, 0))
    return E.select(flipped, E.neg(ct), ct), None


copysign = register(
    Primitive(
        "copysign",
        copysign_type,
        np.copysign,
        copysign_vjp,
        Elementwise("np.copysign({0}, {1})", {"float": "math copysign"}),
        "the magnitude of x with the sign of y",
    )
)


def main() -> None:
    """Uses the new primitive in every way there is."""
    x, y = (graph_input(i, Aval(dtypes.f32, (4,))) for i in range(2))
    graph = Graph("f", (x, y), (E.mul(copysign(x, y), x),), names={x: "x", y: "y"})
    print(graph)
    assert parse_graph(str(graph)) == graph

    arrays = [np.array([1, -2, 3, -4], np.float32), np.array([-1, 1, -0.0, 0.0], np.float32)]
    print("evaluated", evaluate(graph, arrays)[0])
    for backend in ("llvm", "numba"):
        program = compile_graph(graph, default_options().replace(backend=backend))
        print(f"{backend:9}", program(arrays)[0])

    a, b = taut.tensor([1.0, -2.0], requires_grad=True), taut.tensor([-1.0, 3.0])
    apply(copysign, a, b).sum().backward()
    print("gradient ", a.grad)


if __name__ == "__main__":
    main()
