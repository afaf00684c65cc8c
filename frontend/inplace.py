"""Writes in place: memory, version, the trace's record and the gradient's history together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiler import dtypes
from ..compiler.dtypes import DType
from .context import current
from .core import TensorBase, shape_of
from .frames import place
from .functions.dtype_names import LEGACY_NAMES
from .functions.promotion import broadcast_to, converted
from .functions.sizes import same_size, stretches
from .tape import apply
from .writes import write_through

if TYPE_CHECKING:
    from .tensor import Tensor

_RANK = {"bool": 0, "uint": 1, "int": 1, "float": 2}


def assign(x: Tensor, value: Tensor, checked: bool = True) -> Tensor:
    """Writes `value` into the memory that `x` views; returns `x`.

    Args:
        x: what is written to, which may be a view.
        value: broadcast to the shape of `x`, and converted to its dtype.
        checked: refuse a value whose kind of dtype ranks above `x`'s, as arithmetic does (`copy_`
            converts instead).

    Raises:
        RuntimeError: the value does not fit `x`'s dtype or shape, or `x` is a leaf that needs a
            gradient.
    """
    if checked:
        _require_castable(value.dtype, x.dtype)
    fitted: Any = converted(value, x.dtype)
    if shape_of(fitted) != shape_of(x):
        fitted = _fitted(fitted, x)
    mode = current()
    taped = mode.grad and (x._requires_grad or fitted._requires_grad)
    if taped:
        _require_not_leaf(x)
    _write(x, fitted)
    if taped:
        _adopt(x, fitted)
    return x


def _write(x: Tensor, value: Tensor) -> None:
    trace = current().trace
    if trace is not None:
        trace.write(x, trace.read(value))
        return
    assert x.array is not None
    assert value.array is not None
    if not x.array.flags.writeable:
        raise RuntimeError("the tensor's memory is read-only (it came from a read-only array)")
    if 0 in x.array.strides and x.array.size > 1 and x.storage.array is not x.array:
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )
    np.copyto(x.array, value.array)
    x.storage.version += 1


def _adopt(x: Tensor, value: Tensor) -> None:
    """Makes the written value's history the tensor's, through the base if it is a view."""
    base = x.base
    if base is None:
        target, source = x, value
    else:
        target = base
        source = write_through(base, x.steps[len(base.steps) :], value, apply)
    target._changing()
    target.entry, target.index = source.entry, source.index
    target._requires_grad = source._requires_grad
    target.history += 1


def _require_castable(given: DType, wanted: DType) -> None:
    if _RANK[given.kind] > _RANK[wanted.kind]:
        raise RuntimeError(
            f"result type {LEGACY_NAMES[given.long_name]} can't be cast to the desired output type "
            f"{LEGACY_NAMES[wanted.long_name]}"
        )


def _fitted(value: Tensor, x: Tensor) -> Tensor:
    """`value` broadcast to `x`'s shape."""
    own, given = shape_of(x), shape_of(value)
    while len(given) > len(own) and same_size(given[0], 1):
        value = value.squeeze(0)
        given = given[1:]
    tail = own[len(own) - len(given) :]
    if len(given) > len(own) or not all(map(stretches, given, tail)):
        raise RuntimeError(
            f"output with shape {list(own)} doesn't match the broadcast shape {list(given)}"
            f"{place()}"
        )
    return broadcast_to(value, own)


def _require_not_leaf(x: Tensor) -> None:
    if x.base is not None and x.base._requires_grad and x.base.entry is None:
        raise RuntimeError(
            "a view of a leaf Variable that requires grad is being used in an in-place operation."
        )
    if x._requires_grad and x.entry is None:
        raise RuntimeError(
            "a leaf Variable that requires grad is being used in an in-place operation."
        )


def copy_(x: Tensor, source: Any) -> Tensor:
    """Writes `source`, converted and broadcast, into `x`."""
    from .create import as_tensor

    return assign(x, as_tensor(source), checked=False)


def fill_(x: Tensor, value: Any) -> Tensor:
    """Writes one number into every element."""
    from .create import filled, require_number

    if isinstance(value, TensorBase):
        if value.ndim:
            raise RuntimeError(
                "fill_ only supports 0-dimension value tensor but got tensor with "
                f"{value.ndim} dimensions."
            )
        return copy_(x, value)
    require_number("fill_", "value", 1, value)
    return assign(x, filled(shape_of(x), value, x.dtype), checked=False)


def zero_(x: Tensor) -> Tensor:
    """Writes zero into every element."""
    return fill_(x, False if x.dtype is dtypes.boolean else 0)
