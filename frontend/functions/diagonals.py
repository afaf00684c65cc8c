"""Triangles and diagonals of matrices, by comparing the positions of rows and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...compiler import dtypes
from ...compiler.aval import Dim
from ...compiler.primitives import create
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import movement as M
from ..core import shape_of
from ..create import filled
from ..tape import apply
from .arithmetic import add
from .labels import named
from .logic import eq
from .promotion import converted
from .reduce import sum
from .shape import diagonal as diagonal_of

if TYPE_CHECKING:
    from ..tensor import Tensor


def _triangle(name: str, keep_lower: bool) -> Any:
    def function(input: Tensor, diagonal: int = 0) -> Tensor:
        if input.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        shape = shape_of(input)
        row = apply(create.iota, dim=input.ndim - 2, dtype=dtypes.i64, shape=shape)
        column = apply(create.iota, dim=input.ndim - 1, dtype=dtypes.i64, shape=shape)
        border = add(row, diagonal)
        kept = apply(E.le, column, border) if keep_lower else apply(E.le, border, column)
        return named(apply(E.select, kept, input, converted(0, input.dtype)), name.title())

    function.__name__ = function.__qualname__ = name
    side = "below" if keep_lower else "above"
    function.__doc__ = f"The elements {side} the diagonal and on it, zeros elsewhere."
    return function


tril = _triangle("tril", keep_lower=True)
triu = _triangle("triu", keep_lower=False)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as the diagonal of a square matrix, or a matrix's diagonal."""
    if input.ndim == 2:
        return named(diagonal_of(input, diagonal).clone(), "DiagonalBackward0_copy")
    if input.ndim != 1:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return diag_embed(input, diagonal)


def diag_embed(input: Tensor, offset: int = 0) -> Tensor:
    """The last dimension as the diagonal of square matrices."""
    *batch, count = shape_of(input)
    size = count + abs(offset)
    shape = (*batch, size, size)
    row = apply(create.iota, dim=len(batch), dtype=dtypes.i64, shape=shape)
    column = apply(create.iota, dim=len(batch) + 1, dtype=dtypes.i64, shape=shape)
    on_diagonal = eq(add(row, offset), column)
    padded = _shifted(input, max(-offset, 0), size)
    dims = tuple(range(len(batch) + 1))
    spread = apply(M.broadcast, padded, dims=dims, shape=shape)
    return named(apply(E.select, on_diagonal, spread, converted(0, input.dtype)), "DiagEmbed")


def _shifted(x: Tensor, start: int, size: Dim) -> Tensor:
    """The last dimension from `start` on in one of `size`, zeros elsewhere."""
    *batch, count = shape_of(x)
    if count == size:
        return x
    zeros = filled((*batch, size), 0, x.dtype)
    places = (*(0,) * len(batch), start)
    return apply(M.set_slice, zeros, x, start=places, step=(1,) * x.ndim)


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    return named(sum(diagonal_of(input)), "Trace")
