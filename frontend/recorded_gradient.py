"""VJP rules that users write in operations on tensors, as rules on values of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..compiler.ir import Value
from ..compiler.primitive import Cotangents
from .context import Mode, current, using
from .core import TensorBase, shape_of
from .frames import place
from .functions.promotion import converted
from .trace import Trace


def recorded(
    origin: str, gradient: Callable[..., Any], given: Sequence[Value], operands: Sequence[Value]
) -> Cotangents:
    """The cotangents of `operands`: nodes of nobody's graph, like those of any VJP rule.

    Args:
        origin: whose gradient it is, for messages.
        gradient: on tensors for `given`; returns the cotangent of the operand, or a tuple of them.
        given: what it is called on.
        operands: what the cotangents are to fit.

    Raises:
        RuntimeError: the gradient reads a tensor from elsewhere, or does not fit the operands.
    """
    outer, trace = current().trace, Trace("gradient")
    if outer is not None:
        trace.outside = outer.outside
    with using(Mode(trace, False)):
        found = gradient(*map(trace.wrap, given))
        found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        if len(found) != len(operands):
            raise RuntimeError(
                f"the gradient of {origin} returned {len(found)} cotangents for {len(operands)} "
                f"operands{place()}"
            )
        values = [_fitting(origin, trace, c, x) for c, x in zip(found, operands, strict=True)]
    if trace.inputs:
        raise RuntimeError(f"the gradient of {origin} reads a tensor that it is not given{place()}")
    return values


def _fitting(origin: str, trace: Trace, found: Any, operand: Value) -> Value | None:
    """A cotangent as a value of its operand's type; none of an operand that is not floating."""
    if found is None or not operand.aval.dtype.is_floating_point:
        return None
    if not isinstance(found, TensorBase) or shape_of(found) != operand.aval.shape:
        raise RuntimeError(
            f"the gradient of {origin} must be a tensor of the operand's shape "
            f"{operand.aval.shape} or None, not {found!r}{place()}"
        )
    fitting: Any = converted(found, operand.aval.dtype)  # type: ignore[arg-type]  # a tensor
    return trace.read(fitting)
