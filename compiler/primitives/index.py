"""Indexing by tensors: rows of the first dimension, read or written at positions that are data.

Every form of PyTorch's tensor indexing is composed of these: several index tensors become one over
a flattened operand.  Positions are taken as they are (a negative or too large one is undefined):
the front end wraps negative positions and adds the bounds check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import dtypes
from ..aval import Aval, Dim
from ..errors import IRError
from ..ir import Node, Value
from ..primitive import Cotangents, Gather, Primitive, Scatter, register
from . import batching
from .create import full_like, iota, size
from .elementwise import add, cast, mul
from .movement import broadcast

Array = npt.NDArray[Any]


def _require_index(index: Aval) -> None:
    if index.dtype.kind not in ("int", "uint"):
        raise IRError(f"positions must be integers, got {index}")


def _take_type(x: Aval, index: Aval) -> Aval:
    _require_index(index)
    if x.ndim == 0:
        raise IRError("cannot take rows of a scalar")
    return x.with_shape((*index.shape, *x.shape[1:]))


def _take_vjp(ct: Value, out: Value, x: Value, index: Value) -> Cotangents:
    return scatter_add(full_like(x, 0), index, ct), None


def _offset_index(batch: Dim, index: Value, rows: Dim) -> Value:
    """Positions in each slice as positions in the flattened batch: index + rows * slice."""
    index = cast(index, dtype=dtypes.i64)
    shape = index.aval.shape
    number = iota(dim=0, dtype=dtypes.i64, shape=shape)
    count = broadcast(size(value=rows), dims=(), shape=shape)
    return add(index, mul(number, count))


def _flattened(x: Value) -> Value:
    """Slices of rows as one sequence of rows."""
    batch, rows, *rest = x.aval.shape
    return batching.reshaped(x, batch * rows, *rest)


def _take_batch(batch: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
    """Rows of one `x` at once; whole rows of slices for one index; else of the flattened batch."""
    x, index = operands
    if not batching.is_batched(x, node.operands[0]):
        return (take(x, index),)
    if not batching.is_batched(index, node.operands[1]):
        return (batching.moved(take(batching.moved(x, 0, 1), index), index.aval.ndim, 0),)
    return (take(_flattened(x), _offset_index(batch, index, x.aval.shape[1])),)


take = register(
    Primitive(
        "take",
        _take_type,
        lambda x, index: np.take(x, index, axis=0),
        _take_vjp,
        Gather(),
        "rows x[index]: the result's shape is index's followed by a row's",
        batch=_take_batch,
    )
)


def _scatter_type(x: Aval, index: Aval, rows: Aval) -> Aval:
    _require_index(index)
    if rows.dtype is not x.dtype or rows.shape != (*index.shape, *x.shape[1:]):
        raise IRError(f"expected rows of {x} for each position of {index}, got {rows}")
    return x


def _scatter_batch(batch: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
    """Whole rows of slices for one index; else into the flattened batch."""
    one_index = not batching.is_batched(operands[1], node.operands[1])
    x, index, rows = batching.spread(batch, node, operands)
    if one_index:
        behind = batching.moved(rows, 0, operands[1].aval.ndim)
        written = node.prim(batching.moved(x, 0, 1), operands[1], behind)
        return (batching.moved(written, 1, 0),)
    written = node.prim(_flattened(x), _offset_index(batch, index, x.aval.shape[1]), rows)
    return (batching.reshaped(written, *x.aval.shape),)


def _scatter_add_reference(x: Array, index: Array, rows: Array) -> Array:
    out = np.array(x)
    np.add.at(out, index, rows)
    return out


def _scatter_add_vjp(ct: Value, out: Value, x: Value, index: Value, rows: Value) -> Cotangents:
    return ct, None, take(ct, index)


scatter_add = register(
    Primitive(
        "scatter_add",
        _scatter_type,
        _scatter_add_reference,
        _scatter_add_vjp,
        Scatter("add"),
        "x with rows added at the positions in index, in order",
        batch=_scatter_batch,
    )
)


def _scatter_reference(x: Array, index: Array, rows: Array) -> Array:
    out = np.array(x)
    out[index] = rows
    return out


def _scatter_vjp(ct: Value, out: Value, x: Value, index: Value, rows: Value) -> Cotangents:
    """Exact where positions are distinct; else each write gets the cotangent (PyTorch's rule)."""
    return scatter(ct, index, full_like(rows, 0)), None, take(ct, index)


scatter = register(
    Primitive(
        "scatter",
        _scatter_type,
        _scatter_reference,
        _scatter_vjp,
        Scatter("set"),
        "x with its rows at the positions in index replaced; the last write wins",
        batch=_scatter_batch,
    )
)
