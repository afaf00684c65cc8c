"""Writes in place: memory, version, the trace's record and the gradient's history together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiler import dtypes
from ..compiler.dtypes import DType
from ..compiler.primitives import elementwise as E
from .context import current
from .core import TensorBase, shape_of
from .create import as_tensor, filled, require_number, zeros_like
from .frames import place
from .functions.conversion import clone
from .functions.dtype_names import LEGACY_NAMES
from .functions.labels import named
from .functions.promotion import broadcast_to, converted
from .functions.sizes import same_size, stretches
from .tape import apply
from .writes import write_through

if TYPE_CHECKING:
    from .tensor import Tensor

_RANK = {"bool": 0, "uint": 1, "int": 1, "float": 2}


def assign(x: Tensor, value: Tensor, checked: bool = True, label: str | None = None) -> Tensor:
    """Writes `value` into the memory that `x` views; returns `x`.

    Args:
        x: what is written to, which may be a view.
        value: broadcast to the shape of `x`, and converted to its dtype.
        checked: refuse a value whose kind of dtype ranks above `x`'s, as arithmetic does (`copy_`
            converts instead).
        label: what the history calls the write, if not what computed the value.

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
    elif mode.grad and x.base is not None and x.base._requires_grad and mode.trace is None:
        raise RuntimeError(
            "A view was created in no_grad mode and is being modified inplace with grad mode "
            "enabled. Move both the view and the write inside the no_grad block, or both outside."
        )
    _write(x, fitted)
    if taped:
        adopt(x, fitted, label)
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


def adopt(x: Tensor, value: Tensor, label: str | None = None) -> None:
    """Makes the written value's history the tensor's, through the base if it is a view.

    A value without history leaves the tensor its own, past which no gradient comes.
    """
    base = x.base
    target, source = x, value
    if base is not None:
        target = base
        source = write_through(base, x.steps[len(base.steps) :], value, apply)
    if not source._requires_grad:
        source = apply(E.select, zeros_like(source, dtype=dtypes.boolean), target, source)
    label = label if base is None else "CopySlices"
    if label is not None:
        named(source, label)
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
    return _copied(x, as_tensor(source), "CopyBackwards")


def _copied(x: Tensor, source: Tensor, label: str) -> Tensor:
    if current().grad and source._requires_grad:
        source = clone(source)  # a step of its own in the history
    return assign(x, source, checked=False, label=label)


def fill_(x: Tensor, value: Any) -> Tensor:
    """Writes one number into every element."""
    if not isinstance(value, TensorBase):
        require_number("fill_", "value", 1, value)
        return assign(x, filled(shape_of(x), value, x.dtype), checked=False, label="FillBackward2")
    if value.ndim:
        raise RuntimeError(
            f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} "
            "dimensions."
        )
    return _copied(x, value, "FillBackward3")  # type: ignore[arg-type]  # a TensorBase is a Tensor


def zero_(x: Tensor) -> Tensor:
    """Writes zero into every element."""
    return assign(x, filled(shape_of(x), 0, x.dtype), checked=False, label="Zero")
