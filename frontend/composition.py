"""Operations that eager mode runs and tapes as one, though they are several primitives.

An entry of the tape costs about as much as a small NumPy call, so that what layers are made of is
taped as a whole.  What it consists of is written once, as steps on whatever `run` takes: arrays
here, graph values where the tape becomes a graph, tensors while tracing.  So a graph holds the
same primitives either way, and derivatives read in between what they need by computing it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..compiler.ir import Value
from ..compiler.primitive import Primitive
from .trace import with_constants


class Composition:
    """Several primitives as one entry of the tape.

    Attributes:
        name, label: of the entry.
        steps: `(run, *operands, **params) -> result`, where `run(primitive, *operands, **params)`
            is the result of a primitive.
        reference: the steps on arrays.
    """

    view = False  # its result has memory of its own

    def __init__(self, name: str, steps: Callable[..., Any]) -> None:
        self.name, self.label, self.steps = name, name, steps

    def reference(self, *arrays: Any, **params: Any) -> Any:
        """The steps on arrays."""
        return self.steps(_on_arrays, *arrays, **params)

    def bind(self, *operands: Value, **params: Any) -> tuple[Value, ...]:
        """The steps as nodes of a graph."""
        return (self.steps(_on_values, *operands, **params),)


def _on_arrays(primitive: Primitive, *arrays: Any, **params: Any) -> Any:
    return primitive.reference(*arrays, **params)


def _on_values(primitive: Primitive, *operands: Any, **params: Any) -> Value:
    return primitive.bind(*with_constants(primitive, operands), **params)[0]
