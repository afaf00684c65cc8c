"""Numbers in graphs: what a `full` holds, as rewrite rules ask for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..aval import Aval
from ..ir import Value
from ..primitives.create import Scalar, full


def element_of(value: Value) -> Any:
    """The number that a `full` holds, as a NumPy scalar of its dtype; None for other values.

    None too for a number that its dtype cannot hold: such a node fails when it runs.
    """
    if value.node.prim is not full:
        return None
    try:
        return value.aval.dtype.numpy.type(value.node.params["value"])
    except (OverflowError, ValueError):
        return None


def is_constant(value: Value, number: Scalar) -> bool:
    """Whether a value is `number` everywhere, signs of zeros included."""
    element = element_of(value)
    return element is not None and same_bits(element, element.dtype.type(number))


def same_bits(a: np.generic, b: np.generic) -> bool:
    """Whether two NumPy scalars are one number of one dtype; a nan is any other nan."""
    both_nan = bool(a != a) and bool(b != b)  # noqa: PLR0124  # true of nan alone
    return a.dtype == b.dtype and (both_nan or a.tobytes() == b.tobytes())


def full_of(element: np.generic, aval: Aval) -> Value:
    """A `full` of a type that holds a NumPy scalar."""
    return full(value=shortest(element), dtype=aval.dtype, shape=aval.shape)


def shortest(element: np.generic) -> Scalar:
    """The Python number that prints shortest of those that become `element`: 0.1 in any width."""
    if element.dtype.kind != "f":
        exact: Scalar = element.item()
        return exact
    short = float(str(element))
    return short if same_bits(element.dtype.type(short), element) else float(element)
