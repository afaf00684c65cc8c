"""Primitives that are Python: a node of a derived graph that user code computes.

Eager mode calls the reference, which works on arrays; where tensors are traced or taped, `expand`
runs the code on them instead, so that what it does is recorded like anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..compiler.primitive import Primitive

if TYPE_CHECKING:
    from .tensor import Tensor


class Context:
    """What a forward pass in Python leaves for its backward pass: a residual that is no array."""


def _unexpanded(*_: Any) -> Any:
    raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class PythonPrimitive(Primitive):
    """A primitive that user code computes.

    Attributes:
        expand: `(operands, params) -> results`, on tensors.
    """

    expand: Callable[[Sequence[Any], dict[str, Any]], Sequence[Tensor]] = _unexpanded
