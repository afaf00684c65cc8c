"""Helpers for tests of tensor programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compiler.evaluate import apply_reference, interpret, require
from ..compiler.ir import Graph, Node, solve_sizes
from .random_graph import random_graph, random_inputs

__all__ = ["assert_same_bits", "evaluate_contiguous", "random_graph", "random_inputs"]

Array = npt.NDArray[Any]


def evaluate_contiguous(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of `graph` as `evaluate` gives them, each result in row-major memory of its own.

    NumPy adds up, and multiplies matrices, in an order that depends on how its operands lie in
    memory.  Here they always lie alike, so that equal graphs have bit-equal outputs.

    Raises:
        CheckFailed: a check does not hold.
    """
    sizes = solve_sizes([v.aval for v in graph.inputs], [x.shape for x in inputs])

    def apply(node: Node, operands: list[Any]) -> list[Array]:
        return [np.array(r, order="C") for r in apply_reference(node, operands, sizes)]

    with np.errstate(all="ignore"):
        value_of = interpret(graph, inputs, apply, require)
    return [value_of(output) for output in graph.outputs]


def assert_same_bits(got: Sequence[Array], expected: Sequence[Array]) -> None:
    """Passes if the arrays are equal in dtype, shape and every bit; a nan equals any other nan."""
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)
        if a.dtype.kind == "f":
            number = ~np.isnan(a)
            np.testing.assert_array_equal(np.signbit(a[number]), np.signbit(b[number]))
