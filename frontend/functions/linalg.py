"""Linear algebra: what `taut.linalg` offers, and its `torch.`-level names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler import dtypes
from ...compiler.aval import Dim
from ...compiler.primitives import create
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import linalg as L
from ...compiler.primitives import movement as M
from ..context import current
from ..core import shape_of
from ..errors import LinAlgError
from ..frames import place
from ..tape import apply, apply_all
from .checks import check_all
from .conversion import cast, clone
from .dtype_names import LEGACY_NAMES
from .labels import named
from .norms import matrix_norm, norm, vector_norm
from .products import matmul
from .promotion import broadcast_shapes, broadcast_to
from .shape import diagonal as diagonal_of
from .shape import transpose
from .sizes import same_size

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "LinAlgError",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "multi_dot",
    "norm",
    "solve",
    "vector_norm",
]


def _require_square(name: str, a: Tensor) -> None:
    if a.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor A must have at least 2 dimensions.")
    *_, rows, columns = shape_of(a)
    if not same_size(rows, columns):
        raise RuntimeError(
            f"{name}: A must be batches of square matrices, but they are {rows} by {columns} "
            "matrices"
        )
    if not a.dtype.is_floating_point:
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got "
            f"{LEGACY_NAMES[a.dtype.long_name]}"
        )


def identity(size: Dim, like: Tensor) -> Tensor:
    """The identity matrix in the dtype of `like`."""
    shape = (size, size)
    row = apply(create.iota, dim=0, dtype=dtypes.i64, shape=shape)
    column = apply(create.iota, dim=1, dtype=dtypes.i64, shape=shape)
    return cast(apply(E.eq, row, column), like.dtype)


def inv(A: Tensor) -> Tensor:  # noqa: N803  # PyTorch's name
    """The inverse of each matrix of a batch.

    Raises:
        LinAlgError: a matrix is singular (in a trace: when the program runs).
        RuntimeError: the matrices are not square, or not floating.
    """
    _require_square("linalg.inv", A)
    *batch, size, _ = shape_of(A)
    unit = broadcast_to(identity(size, A), (*batch, size, size))
    result, regular = apply_all(L.solve, (A, unit), {})
    _require_regular(regular, lambda: _singular_inverse(A, regular))
    return named(result, "LinalgInvEx")


def _require_regular(regular: Tensor, error: Any) -> None:
    if current().trace is not None:
        text = "the input matrix is singular"
        check_all(regular, LinAlgError(text))
    elif not regular.array.all():  # type: ignore[union-attr]  # eager tensors have memory
        raise error()


def _batch_element(regular: Tensor) -> tuple[tuple[int, ...], str]:
    """The first singular matrix, and how PyTorch refers to it."""
    array = regular.array
    assert array is not None
    where = tuple(int(i) for i in np.argwhere(~array)[0])
    return where, f"(Batch element {np.flatnonzero(~array)[0]}): " if array.ndim else ""


def _singular_inverse(a: Tensor, regular: Tensor) -> LinAlgError:
    from scipy.linalg import lapack

    where, element = _batch_element(regular)
    assert a.array is not None
    _, _, zero = lapack.dgetrf(a.array[where].astype(np.float64))
    diagonal_element = f"The diagonal element {zero} is zero, the" if zero > 0 else "The"
    return LinAlgError(
        f"linalg.inv: {element}{diagonal_element} inversion could not be completed because the "
        "input "
        f"matrix is singular.{place()}"
    )


def _singular_system(regular: Tensor) -> LinAlgError:
    _, element = _batch_element(regular)
    return LinAlgError(
        f"torch.linalg.solve: {element}The solver failed because the input matrix is "
        f"singular.{place()}"
    )


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:  # noqa: N803  # PyTorch's names
    """X with A X = B, or with X A = B if not `left`, for each matrix of a batch; B may be a vector.

    Raises:
        LinAlgError: a matrix is singular (in a trace: when the program runs).
        RuntimeError: the shapes or dtypes do not fit.
    """
    _require_square("linalg.solve", A)
    if A.dtype is not B.dtype:
        raise RuntimeError(
            "linalg.solve: Expected A and B to have the same dtype, but found A of type "
            f"{LEGACY_NAMES[A.dtype.long_name]} and B of type {LEGACY_NAMES[B.dtype.long_name]} "
            "instead"
        )
    vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and shape_of(B) == shape_of(A)[:-1])
    right = apply(M.reshape, B, shape=(*shape_of(B), 1)) if vector else B
    _require_system(A, right, left)
    if left:
        result = _solved(A, right)
    else:
        result = transpose(_solved(transpose(A, -2, -1), transpose(right, -2, -1)), -2, -1)
    if vector:
        result = apply(M.reshape, result, shape=shape_of(result)[:-1])
    return named(result, "LinalgSolveEx")


def _require_system(a: Tensor, b: Tensor, left: bool) -> None:
    size, (rows, columns) = shape_of(a)[-1], shape_of(b)[-2:]
    if not same_size(size, rows if left else columns):
        raise RuntimeError(
            "linalg.solve: Incompatible shapes of A and B for the equation "
            f"{'AX' if left else 'XA'} = "
            f"B ({size}x{size} and {rows}x{columns}){place()}"
        )


def _solved(a: Tensor, b: Tensor) -> Tensor:
    batch = broadcast_shapes(shape_of(a)[:-2], shape_of(b)[:-2])
    operands = (
        broadcast_to(a, (*batch, *shape_of(a)[-2:])),
        broadcast_to(b, (*batch, *shape_of(b)[-2:])),
    )
    result, regular = apply_all(L.solve, operands, {})
    _require_regular(regular, lambda: _singular_system(regular))
    return result


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:  # noqa: N803
    """The diagonals of the last two dimensions, unless others are named."""
    return diagonal_of(A, offset, dim1, dim2)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of several matrices (the first and last may be vectors), from left to right."""
    result = tensors[0]
    for following in tensors[1:]:
        result = matmul(result, following)
    return result


def matrix_power(A: Tensor, n: int) -> Tensor:  # noqa: N803  # PyTorch's name
    """A to an integer power, by squaring; a negative one is a power of the inverse."""
    if n < 0:
        return matrix_power(inv(A), -n)
    if n == 0:
        unit = identity(shape_of(A)[-1], A)
        return clone(broadcast_to(unit, shape_of(A)))
    half = matrix_power(A, n // 2) if n > 1 else None
    if half is None:
        return clone(A)
    square = matmul(half, half)
    return matmul(square, A) if n % 2 else square


def inverse(input: Tensor) -> Tensor:
    """`linalg.inv` under its older name."""
    return inv(input)
