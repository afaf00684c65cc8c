"""How elementwise primitives are declared: their type rules, and the tables of lowerings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from ...aval import Aval
from ...dtypes import DType
from ...errors import IRError
from ...primitive import Cotangents, Elementwise, Primitive, register
from .. import batching

Array = npt.NDArray[Any]
FLOAT = ("float",)
NUMBER = ("float", "int", "uint")
ANY = ("float", "int", "uint", "bool")


def _require_kind(aval: Aval, kinds: tuple[str, ...]) -> None:
    if aval.dtype.kind not in kinds:
        raise IRError(f"expected a dtype of kind {' or '.join(kinds)}, got {aval}")


def require_same(first: Aval, *others: Aval) -> None:
    """Raises IRError unless all operands have one dtype and one shape."""
    for other in others:
        if other.shape != first.shape or other.dtype is not first.dtype:
            raise IRError(f"operands must have one dtype and one shape, got {first} and {other}")


def result_aval(avals: tuple[Aval, ...], dtype: DType) -> Aval:
    """The operands' shape, in a dtype; weak if all of them are."""
    return Aval(dtype, avals[0].shape, all(a.weak for a in avals))


def elementwise(
    name: str,
    arity: int,
    kinds: tuple[str, ...],
    reference: Callable[..., Any],
    vjp: Callable[..., Cotangents],
    lowering: Elementwise,
    doc: str,
    result: DType | None = None,
) -> Primitive:
    """Registers a primitive on operands of one dtype, of one of the kinds, and of one shape."""

    def type_rule(*avals: Aval) -> Aval:
        if len(avals) != arity:
            raise IRError(f"expected {arity} operands, got {len(avals)}")
        _require_kind(avals[0], kinds)
        require_same(*avals)
        return result_aval(avals, result or avals[0].dtype)

    batch = batching.elementwise
    return register(Primitive(name, type_rule, reference, vjp, lowering, doc, batch=batch))


def unary(name: str, kinds: tuple[str, ...], *args: Any, **kwargs: Any) -> Primitive:
    """`elementwise` with one operand."""
    return elementwise(name, 1, kinds, *args, **kwargs)


def binary(name: str, kinds: tuple[str, ...], *args: Any, **kwargs: Any) -> Primitive:
    """`elementwise` with two operands."""
    return elementwise(name, 2, kinds, *args, **kwargs)


def math_function(function: str) -> dict[str, str]:
    """The lowering to a function of vector mathematics, of floats alone."""
    return {"float": f"math {function}"}


def by_number(float_op: str, int_op: str) -> dict[str, str]:
    """The lowering to one instruction for floats, another for integers."""
    return {"float": float_op, "int": int_op, "uint": int_op}
