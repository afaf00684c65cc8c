"""Shifts of integers, as products and quotients of powers of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...compiler.primitives import elementwise as E
from ..core import TensorBase
from ..create import full_like
from ..tape import apply
from .dtype_names import LEGACY_NAMES
from .elementwise import power_of_number
from .logic import chosen, ge, logical_and, lt
from .operands import operands
from .promotion import together

if TYPE_CHECKING:
    from ..tensor import Tensor


def bitwise_left_shift(input: Any, other: Any) -> Tensor:
    """The bits of input moved up by other places; 0 where that is not in [0, width).

    Raises:
        NotImplementedError: an operand is floating.
    """
    x, places = _integers("lshift_cpu", "bitwise_left_shift", input, other)
    inside, count = _within(places)
    return chosen(inside, apply(E.mul, x, power_of_number(2, count)), 0)


def bitwise_right_shift(input: Any, other: Any) -> Tensor:
    """The bits of input moved down by other places, the sign filling up.

    Raises:
        NotImplementedError: an operand is floating.
    """
    x, places = _integers("rshift_cpu", "bitwise_right_shift", input, other)
    inside, count = _within(places)
    # In two halves: 2^(width - 1) is no positive number of a signed type.
    half = apply(E.floordiv, count, 2)
    first = apply(E.floordiv, x, power_of_number(2, half))
    shifted = apply(E.floordiv, first, power_of_number(2, apply(E.sub, count, half)))
    if x.dtype.is_signed:
        beyond: Any = apply(E.neg, apply(E.cast, lt(x, 0), dtype=x.dtype))
    else:
        beyond = 0
    return chosen(inside, shifted, beyond)


def _integers(kernel: str, name: str, input: Any, other: Any) -> tuple[Tensor, Tensor]:
    """Both operands as tensors of one integer type and shape."""
    given = together(*operands(name, input, other))
    like: Tensor = next(x for x in given if isinstance(x, TensorBase))  # type: ignore[assignment]  # a TensorBase is a Tensor
    if like.dtype.kind not in ("int", "uint"):
        raise NotImplementedError(
            f"\"{kernel}\" not implemented for '{LEGACY_NAMES[like.dtype.long_name]}'"
        )
    x, places = (g if isinstance(g, TensorBase) else full_like(like, g) for g in given)
    return x, places  # type: ignore[return-value]  # as above


def _within(places: Tensor) -> tuple[Tensor, Tensor]:
    """Where a number of places is less than the width, and the number, 0 elsewhere."""
    inside = logical_and(ge(places, 0), lt(places, places.dtype.bits))
    return inside, chosen(inside, places, 0)
