"""Primitives that users write, compiled elsewhere: scalar functions, and functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import dtypes as dt
from ..aval import Aval, Shape
from ..dtypes import DType
from ..errors import IRError
from ..primitive import (
    CallFunction,
    Cotangents,
    ElementwiseFunction,
    Primitive,
    register_user,
)
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


def array_function(
    label: str,
    operands: tuple[Aval, ...],
    lowering: CallFunction,
    reference: Callable[..., Any],
    vjp: Callable[..., Cotangents],
) -> Primitive:
    """The primitive that calls a user's function on whole arrays.

    Its parameters are the dtypes and shapes of its results; one more result, the last, is whether
    the call succeeded.

    Args:
        label: what the user calls the function.
        operands: of which dtypes and how many dimensions operands are.
        lowering: the native function; its symbol is the primitive's name.
        reference: `(*arrays, dtypes, shapes)` -> the results.
        vjp: its VJP rule.
    """
    kinds = [(o.dtype, o.ndim) for o in operands]

    def type_rule(
        *avals: Aval, dtypes: tuple[DType, ...], shapes: tuple[Shape, ...]
    ) -> tuple[Aval, ...]:
        if [(a.dtype, a.ndim) for a in avals] != kinds:
            wanted, got = (", ".join(map(str, found)) for found in (operands, avals))
            raise IRError(f"expected operands like ({wanted}), got ({got})")
        results = (Aval(d, s) for d, s in zip(dtypes, shapes, strict=True))
        return (*results, Aval(dt.boolean, ()))

    doc = f"{label}, a function of arrays that a user wrote"
    symbol = lowering.function
    return register_user(Primitive(symbol, type_rule, reference, vjp, lowering, doc, label=label))
