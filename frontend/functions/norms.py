"""Norms of vectors and matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...compiler.dtypes import DType
from ...compiler.primitives import reduce as R
from ..core import shape_of
from .arithmetic import mul, pow, sub
from .dtype_names import LEGACY_NAMES
from .elementwise import abs
from .labels import named
from .logic import chosen, eq, ne
from .promotion import converted
from .reduce import Dims, kept, reduced
from .shape import unsqueeze, wrap_dim, wrap_dims
from .sizes import same_size
from .statistics import square_root

if TYPE_CHECKING:
    from ..tensor import Tensor

DimArgument = int | Sequence[int] | None
_MATRIX_ORDERS = ("fro", 1, -1, math.inf, -math.inf)


def vector_norm(
    x: Tensor,
    ord: float = 2,
    dim: DimArgument = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """(sum |x|^ord)^(1/ord) over `dim`.

    For ord = 0 the number of elements that are not 0, for inf the largest; the gradient at 0 is 0.
    """
    _require_float("linalg.vector_norm", x)
    typed: Tensor = x if dtype is None else converted(x, dtype)  # type: ignore[assignment]  # a tensor stays one
    dims = wrap_dims(dim, x.ndim)
    if math.isinf(ord):
        _require_elements(typed, ord, dims, dim)
    result = _norm(typed, ord, dims)
    return named(kept(result, typed, dims) if keepdim and dims else result, "LinalgVectorNorm")


def _norm(x: Tensor, order: float, dims: Dims) -> Tensor:
    if order == 2:
        return square_root(reduced(R.reduce_sum, mul(x, x), dims))
    if order == 0:
        return reduced(R.reduce_sum, ne(x, 0).to(x.dtype), dims)
    size = abs(x)
    if math.isinf(order):
        return reduced(R.reduce_max if order > 0 else R.reduce_min, size, dims)
    if order == 1:
        return reduced(R.reduce_sum, size, dims)
    total = reduced(R.reduce_sum, pow(size, order), dims)
    zero = eq(total, 0)
    return chosen(zero, 0.0, pow(chosen(zero, 1.0, total), 1 / order))


def _require_float(name: str, x: Tensor) -> None:
    if not x.dtype.is_floating_point:
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got "
            f"{LEGACY_NAMES[x.dtype.long_name]}"
        )


def _require_elements(x: Tensor, order: float, dims: Dims, dim: DimArgument) -> None:
    empty = [d for d in dims if same_size(shape_of(x)[d], 0)]
    if not empty:
        return
    what = "on an empty tensor because the operation"
    if dim is not None:
        what = f"on the dimension {empty[0]}because this dimension is empty and the operation"
    raise RuntimeError(
        f"linalg.vector_norm cannot compute the {order} norm {what} does not have an identity"
    )


def matrix_norm(
    A: Tensor,  # noqa: N803  # PyTorch's name
    ord: Any = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """The Frobenius norm, or the largest (1, inf) or smallest (-1, -inf) sum of a column or row.

    Raises:
        NotImplementedError: the norm needs singular values (ord = 2, -2, "nuc").
    """
    if A.ndim < 2:
        raise RuntimeError(
            "linalg.matrix_norm: The input tensor A must have at least 2 dimensions."
        )
    if isinstance(dim, int) or len(dim) != 2:
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim}")
    if ord == "fro":
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if ord not in _MATRIX_ORDERS:
        raise NotImplementedError(
            f"matrix norms of order {ord} need singular values, which are missing"
        )
    rows, columns = (wrap_dim(d, A.ndim) for d in dim)
    summed, compared = (rows, columns) if math.fabs(ord) == 1 else (columns, rows)
    sums = vector_norm(A, 1, summed, keepdim=True, dtype=dtype)
    primitive, label = (R.reduce_max, "Amax") if ord > 0 else (R.reduce_min, "Amin")
    result = reduced(primitive, sums, (compared,), keepdim=True)
    return named(result if keepdim else result.squeeze((rows, columns)), label)


def norm(
    A: Tensor,  # noqa: N803  # PyTorch's name
    ord: Any = None,
    dim: DimArgument = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Tensor:
    """The vector norm of all or over one dimension, the matrix norm over two (`linalg.norm`)."""
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    two = dim is not None and not isinstance(dim, int) and len(dim) == 2
    if isinstance(ord, str) or two or (dim is None and A.ndim == 2):
        return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)  # type: ignore[arg-type]  # a pair by now, or refused
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


def tensor_norm(
    input: Tensor,
    p: Any = "fro",
    dim: DimArgument = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Tensor:
    """The vector norm over all elements or `dim`: `torch.norm`, where "fro" is the 2-norm."""
    if p == "nuc":
        return matrix_norm(input, p)
    return vector_norm(input, 2 if p in ("fro", None) else p, dim, keepdim, dtype=dtype)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The distance, in the p-norm, of each row of `x1` to each of `x2`.

    Args:
        x1: of shape (..., P, M).
        x2: of shape (..., R, M).
        p: the norm's order.
        compute_mode: accepted; distances are always those of the differences.
    """
    del compute_mode
    for name, x in (("X1", x1), ("X2", x2)):
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D")
    if not same_size(shape_of(x1)[-1], shape_of(x2)[-1]):
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}"
        )
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    difference = sub(unsqueeze(x1, -2), unsqueeze(x2, -3))
    return named(vector_norm(difference, p, -1), "Cdist")
