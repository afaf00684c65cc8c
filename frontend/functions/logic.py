"""Comparison, logic and choice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...compiler import dtypes
from ...compiler.primitive import Primitive
from ...compiler.primitives import elementwise as E
from ..core import TensorBase, shape_of
from ..create import filled
from ..tape import apply
from .dtype_names import LEGACY_NAMES
from .labels import named
from .operands import BinaryFunction, binary, described, operands
from .promotion import broadcast_shapes, broadcast_to, result_dtype, together

if TYPE_CHECKING:
    from ..tensor import Tensor

eq = binary(E.eq, "eq")
ne = binary(E.ne, "ne")
lt = binary(E.lt, "lt")
le = binary(E.le, "le")


def gt(input: Any, other: Any) -> Tensor:
    """input > other, elementwise with broadcasting."""
    return lt(other, input)


def ge(input: Any, other: Any) -> Tensor:
    """input >= other, elementwise with broadcasting."""
    return le(other, input)


def as_bool(x: Tensor) -> Tensor:
    """Whether each element differs from zero."""
    return x if x.dtype is dtypes.boolean else ne(x, 0)


def logical_not(input: Tensor) -> Tensor:
    """Whether each element is zero."""
    return apply(E.not_, as_bool(input))


def _logical(primitive: Primitive, name: str) -> BinaryFunction:
    def function(input: Any, other: Any) -> Tensor:
        given = operands(name, input, other)
        x, y = (as_bool(o) if isinstance(o, TensorBase) else bool(o) for o in given)  # type: ignore[arg-type]  # a TensorBase is a Tensor
        return apply(primitive, *together(x, y))

    return described(function, name, f"{primitive.doc} of what differs from zero.")  # type: ignore[no-any-return]  # the function itself


def _bitwise(primitive: Primitive, name: str) -> BinaryFunction:
    plain = binary(primitive, name)

    def function(input: Any, other: Any) -> Tensor:
        dtype = result_dtype(*operands(name, input, other))
        if dtype.is_floating_point:
            raise NotImplementedError(
                f"\"{name}_cpu\" not implemented for '{LEGACY_NAMES[dtype.long_name]}'"
            )
        return plain(input, other)

    return described(function, name, plain.__doc__ or "")  # type: ignore[no-any-return]  # as above


logical_and = _logical(E.and_, "logical_and")
logical_or = _logical(E.or_, "logical_or")
logical_xor = _logical(E.xor, "logical_xor")
bitwise_and = _bitwise(E.and_, "bitwise_and")
bitwise_or = _bitwise(E.or_, "bitwise_or")
bitwise_xor = _bitwise(E.xor, "bitwise_xor")


def bitwise_not(input: Tensor) -> Tensor:
    """Every bit inverted; for bools, the negation."""
    if input.dtype.is_floating_point:
        raise TypeError(
            "~ (operator.invert) is only implemented on integer and Boolean-type tensors"
        )
    return apply(E.not_, input)


def isnan(input: Tensor) -> Tensor:
    """Whether each element is nan."""
    return ne(input, input)


def isinf(input: Tensor) -> Tensor:
    """Whether each element is infinite."""
    if not input.dtype.is_floating_point:
        return ne(input, input)
    return apply(E.eq, apply(E.abs_, input), math.inf)


def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither infinite nor nan."""
    if not input.dtype.is_floating_point:
        return eq(input, input)
    return apply(E.lt, apply(E.abs_, input), math.inf)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """`input` where the condition holds, elsewhere `other`, with broadcasting.

    Without the two, the indices at which it holds (`nonzero(condition, as_tuple=True)`).

    Raises:
        RuntimeError: the condition is not bool.
    """
    if input is None and other is None:
        from .gather import nonzero

        return nonzero(condition, as_tuple=True)
    if condition.dtype is not dtypes.boolean:
        raise RuntimeError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{LEGACY_NAMES[condition.dtype.long_name]}"
        )
    operands("where", input, other, condition)
    if not (isinstance(input, TensorBase) or isinstance(other, TensorBase)):
        input = filled((), input, result_dtype(input, other))
    x, y = operands("where", input, other)
    broadcast_shapes(*(shape_of(t) for t in (condition, x, y) if isinstance(t, TensorBase)))
    return named(chosen(condition, *together(x, y)), "Where")


def chosen(condition: Tensor, x: Any, y: Any) -> Tensor:
    """`where` for operands of one dtype."""
    tensors = [t for t in (condition, x, y) if isinstance(t, TensorBase)]
    if any(shape_of(t) != shape_of(condition) for t in tensors):
        shape = broadcast_shapes(*map(shape_of, tensors))
        condition, x, y = (
            broadcast_to(t, shape) if isinstance(t, TensorBase) else t  # type: ignore[arg-type]  # a TensorBase is a Tensor
            for t in (condition, x, y)
        )
    return apply(E.select, condition, x, y)


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """|input - other| <= atol + rtol * |other|, or the same infinity (or, if asked for, nan)."""
    from .arithmetic import add, mul, sub
    from .elementwise import abs

    near = le(abs(sub(input, other)), add(mul(abs(other), rtol), atol))
    close = logical_or(logical_and(near, isfinite(other)), eq(input, other))
    return logical_or(close, logical_and(isnan(input), isnan(other))) if equal_nan else close


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close; see `isclose`."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._memory("allclose()").all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape and the same elements."""
    if shape_of(input) != shape_of(other):
        return False
    return bool(eq(input, other)._memory("equal()").all())
