"""Reductions: elements combined along the dimensions `dims`, which disappear from the shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import dtypes
from ..aval import Aval, Shape
from ..errors import IRError
from ..ir import Value
from ..primitive import Cotangents, Primitive, Reduction, no_gradient, register
from . import batching
from .create import full_like
from .elementwise import cast, div, eq, mul, select
from .movement import broadcast

Array = npt.NDArray[Any]
Dims = tuple[int, ...]


def _kept(shape: Shape, dims: Dims) -> Dims:
    return tuple(axis for axis in range(len(shape)) if axis not in dims)


def _reduced(x: Aval, dims: Dims) -> Shape:
    if list(dims) != sorted(set(dims)) or any(not 0 <= d < x.ndim for d in dims):
        raise IRError(f"dims {list(dims)} must be distinct, ascending dimensions of {x}")
    return tuple(x.shape[axis] for axis in _kept(x.shape, dims))


def _spread(y: Value, x: Value, dims: Dims) -> Value:
    """A reduced value repeated along the dimensions that were reduced."""
    return broadcast(y, dims=_kept(x.aval.shape, dims), shape=x.aval.shape)


def _reduction(
    name: str, combine: str, ufunc: Any, vjp: Callable[..., Cotangents], doc: str
) -> Primitive:
    def type_rule(x: Aval, *, dims: Dims) -> Aval:
        if x.dtype is dtypes.boolean and combine in ("add", "mul"):
            raise IRError(f"bool must be cast to an integer first, got {x}")
        return Aval(x.dtype, _reduced(x, dims))

    def reference(x: Array, *, dims: Dims) -> Array:
        if combine in ("max", "min") and x.size == 0:
            return np.full([x.shape[a] for a in _kept(x.shape, dims)], _EMPTY[combine](x), x.dtype)
        # What is f16 is added up in f32, as PyTorch does: in f16 2048 + 1 is 2048.
        kept = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
        if _is_column(x, dims):
            result = ufunc.accumulate(x, axis=dims[0], dtype=kept).take(-1, dims[0])
        else:
            result = ufunc.reduce(x, axis=dims, dtype=kept)
        return _sum_of_zeros(result, combine).astype(x.dtype, copy=False)

    lowering, batch = Reduction(combine), batching.along_dims
    return register(Primitive(name, type_rule, reference, vjp, lowering, doc, batch=batch))


def _sum_of_zeros(result: Any, combine: str) -> Array:
    """A sum starts from +0, so that it is never -0; NumPy's may be."""
    return np.asarray(result + 0 if combine == "add" else result)


def _is_column(x: Array, dims: Dims) -> bool:
    """Whether one dimension is reduced, past which all sizes are 1: NumPy would add it in pairs.

    Along any dimension but the last, elements are combined in order; NumPy does the same, except
    here.
    """
    return (
        len(dims) == 1
        and dims[0] < x.ndim - 1
        and x.shape[dims[0]] > 7
        and all(size == 1 for size in x.shape[dims[0] + 1 :])
    )


def _lowest(x: Array) -> Any:
    return -np.inf if x.dtype.kind == "f" else False if x.dtype == bool else np.iinfo(x.dtype).min


def _highest(x: Array) -> Any:
    return np.inf if x.dtype.kind == "f" else True if x.dtype == bool else np.iinfo(x.dtype).max


_EMPTY = {"max": _lowest, "min": _highest}


def _extremum_vjp(ct: Value, out: Value, x: Value, *, dims: Dims) -> Cotangents:
    """Shared out evenly among the elements that equal the extremum, as PyTorch's `amax` does."""
    hit = eq(x, _spread(out, x, dims))
    count = reduce_sum(cast(hit, dtype=x.aval.dtype), dims=dims)
    share = _spread(div(ct, count), x, dims)
    return (select(hit, share, full_like(x, 0)),)


def _prod_vjp(ct: Value, out: Value, x: Value, *, dims: Dims) -> Cotangents:
    """ct * out / x, and at a zero of x the product of the other elements."""
    zero, one = full_like(x, 0), full_like(x, 1)
    is_zero = eq(x, zero)
    zeros = _spread(reduce_sum(cast(is_zero, dtype=x.aval.dtype), dims=dims), x, dims)
    safe = select(is_zero, one, x)
    others = div(_spread(reduce_prod(safe, dims=dims), x, dims), safe)
    alone = select(is_zero, eq(zeros, one), eq(zeros, zero))
    return (mul(_spread(ct, x, dims), select(alone, others, zero)),)


reduce_sum = _reduction(
    "reduce_sum",
    "add",
    np.add,
    lambda ct, out, x, *, dims: (_spread(ct, x, dims),),
    "sum along dims",
)
reduce_prod = _reduction("reduce_prod", "mul", np.multiply, _prod_vjp, "product along dims")
reduce_max = _reduction(
    "reduce_max", "max", np.maximum, _extremum_vjp, "largest along dims; nan if any is"
)
reduce_min = _reduction(
    "reduce_min", "min", np.minimum, _extremum_vjp, "smallest along dims; nan if any is"
)


def _argmax_type(x: Aval, *, dims: Dims) -> Aval:
    if len(dims) != 1:
        raise IRError(f"takes one dimension, got {list(dims)}")
    return Aval(dtypes.i64, _reduced(x, dims))


def _argmax_reference(x: Array, *, dims: Dims) -> Array:
    return np.asarray(np.argmax(x, axis=dims[0]), np.int64)


argmax = register(
    Primitive(
        "argmax",
        _argmax_type,
        _argmax_reference,
        no_gradient,
        Reduction("argmax"),
        "index of the first largest element along one dimension; nan counts as largest",
        batch=batching.along_dims,
    )
)
