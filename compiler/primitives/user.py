"""Primitives that users write: scalar functions, compiled elsewhere, that fuse like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval
from ..dtypes import DType
from ..errors import IRError
from ..primitive import Cotangents, ElementwiseFunction, Primitive, register_user
from . import batching
from .elementwise.define import require_same, result_aval


def elementwise_function(
    label: str,
    arity: int,
    dtype: DType,
    result: DType,
    lowering: ElementwiseFunction,
    reference: Callable[..., Any],
    vjp: Callable[..., Cotangents],
) -> Primitive:
    """The primitive that applies a user's scalar function to each element.

    Args:
        label: what the user calls the function.
        arity: how many operands it takes.
        dtype: of all operands.
        result: of the result.
        lowering: its code; the symbol is the primitive's name.
        reference: what it means, on arrays that broadcast.
        vjp: its VJP rule.
    """

    def type_rule(*avals: Aval) -> Aval:
        if len(avals) != arity or avals[0].dtype is not dtype:
            got = ", ".join(map(str, avals))
            raise IRError(f"expected {arity} operands of dtype {dtype.name}, got ({got})")
        require_same(*avals)
        return result_aval(avals, result)

    doc = f"{label}, a scalar function that a user wrote"
    made = Primitive(
        lowering.symbol,
        type_rule,
        reference,
        vjp,
        lowering,
        doc,
        batch=batching.elementwise,
        label=label,
    )
    return register_user(made)
