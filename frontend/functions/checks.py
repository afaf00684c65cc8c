"""Conditions on values: tested at once in eager mode, by the running program in a trace.

The message of a program's check begins with the name of the exception that eager mode raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.aval import Dim
from ...compiler.primitives import reduce as R
from ..context import current
from ..frames import place
from ..tape import apply
from .logic import le, logical_and, lt
from .sizes import size_operand

if TYPE_CHECKING:
    from ..tensor import Tensor


def check_all(condition: Tensor, error: Exception) -> None:
    """Requires every element of a bool tensor to hold; `error` is what eager mode raises."""
    trace = current().trace
    if trace is None:
        assert condition.array is not None
        if not condition.array.all():
            raise error
        return
    whole = tuple(range(condition.ndim))
    holds = apply(R.reduce_min, condition, dims=whole) if whole else condition
    trace.check(trace.read(holds), f"{type(error).__name__}: {error}{place()}")


def check_range(index: Tensor, low: Dim, high: Dim, error: type[Exception], text: str) -> None:
    """Requires low <= i < high of every element i of an integer tensor.

    `index`: the positions.

    `low`, `high`: the bounds, which may be symbolic.

    `error`: the exception that eager mode raises.

    `text`: its message, with `{index}` where the offending position stands.
    """
    if current().trace is None:
        offender = _offender(index, low, high)
        if offender is not None:
            raise error(text.format(index=offender))
        return
    inside = logical_and(le(size_operand(low), index), lt(index, size_operand(high)))
    check_all(inside, error(text.replace("{index} ", "")))


def _offender(index: Tensor, low: Dim, high: Dim) -> int | None:
    array = index.array
    assert array is not None
    if not array.size or (array.min() >= low and array.max() < high):
        return None
    return int(array[(array < low) | (array >= high)].flat[0])
