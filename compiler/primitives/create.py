"""Primitives without tensor operands: a graph's inputs, and values of the position alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import dtypes
from ..aval import Aval, Dim, Shape
from ..dtypes import DType
from ..errors import IRError
from ..ir import Value
from ..primitive import Literal, Primitive, no_gradient, register

Array = npt.NDArray[Any]
Scalar = bool | int | float


def _input_type(*, position: int, aval: Aval) -> Aval:
    return aval


def _input_reference(*, position: int, aval: Aval) -> Array:
    raise IRError(f"input {position} has no value of its own")


input_ = register(
    Primitive("input", _input_type, _input_reference, no_gradient, None, "an argument of the graph")
)


def graph_input(position: int, aval: Aval) -> Value:
    """The argument at `position` of a graph; equal positions and types are one value."""
    return input_(position=position, aval=aval)


def _full_type(*, value: Scalar, dtype: DType, shape: Shape) -> Aval:
    is_integer = dtype.kind in ("int", "uint")
    if is_integer and (isinstance(value, float) or dtypes.number(value, dtype) != value):
        raise IRError(f"{value} is no {dtype.name}")
    return Aval(dtype, shape)


def _full_reference(*, value: Scalar, dtype: DType, shape: tuple[int, ...]) -> Array:
    return np.full(shape, value, dtype.numpy)


full = register(
    Primitive(
        "full",
        _full_type,
        _full_reference,
        no_gradient,
        Literal(),
        "the same number everywhere",
        from_type=("dtype", "shape"),
    )
)


def full_like(x: Value, value: Scalar) -> Value:
    """A number in the shape and dtype of `x`."""
    return constant(value, x.aval)


def constant(value: Scalar, aval: Aval) -> Value:
    """A number as a value of the given type; floats and integers are converted as C does."""
    return full(value=dtypes.number(value, aval.dtype), dtype=aval.dtype, shape=aval.shape)


def _iota_type(*, dim: int, dtype: DType, shape: Shape) -> Aval:
    if not 0 <= dim < len(shape):
        raise IRError(f"dim {dim} is out of range for shape {shape}")
    return Aval(dtype, shape)


def _iota_reference(*, dim: int, dtype: DType, shape: tuple[int, ...]) -> Array:
    along = np.arange(shape[dim], dtype=dtype.numpy)
    column = along.reshape([-1 if axis == dim else 1 for axis in range(len(shape))])
    return np.broadcast_to(column, shape)


iota = register(
    Primitive(
        "iota",
        _iota_type,
        _iota_reference,
        no_gradient,
        Literal(),
        "each element's index along one dimension",
        from_type=("dtype", "shape"),
    )
)


def _size_type(*, value: Dim) -> Aval:
    return Aval(dtypes.i64, (), weak=True)


size = register(
    Primitive(
        "size",
        _size_type,
        lambda *, value: np.asarray(value, np.int64),
        no_gradient,
        Literal(),
        "a size as a number: the count to divide a mean by, the bound of an index",
    )
)
