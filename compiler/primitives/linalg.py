"""Matrix products and linear systems."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import dtypes
from ..aval import Aval
from ..errors import IRError
from ..ir import Value
from ..primitive import Call, Cotangents, Matmul, Primitive, register
from .elementwise import neg
from .movement import transpose

Array = npt.NDArray[Any]


def swap_last(x: Value) -> Value:
    """The transpose of each matrix of a batch."""
    n = x.aval.ndim
    return transpose(x, perm=(*range(n - 2), n - 1, n - 2))


def _matmul_type(x: Aval, y: Aval) -> Aval:
    if x.ndim < 2 or x.ndim != y.ndim or x.dtype is not y.dtype:
        raise IRError(f"expected two batches of matrices of one dtype, got {x} and {y}")
    if x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
        raise IRError(f"{x} and {y} cannot be multiplied")
    return x.with_shape((*x.shape[:-1], y.shape[-1]))


def _matmul_reference(x: Array, y: Array) -> Any:
    return x.dot(y) if x.ndim == 2 else np.matmul(x, y)


matmul: Primitive = register(
    Primitive(
        "matmul",
        _matmul_type,
        _matmul_reference,
        lambda ct, out, x, y: (matmul(ct, swap_last(y)), matmul(swap_last(x), ct)),
        Matmul(),
        "matrix product over the last two dimensions; the others are a batch",
    )
)


def _solve_type(a: Aval, b: Aval) -> tuple[Aval, Aval]:
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2]:
        raise IRError(f"expected batches of matrices of one size, got {a} and {b}")
    if a.shape[-1] != a.shape[-2] or a.shape[-1] != b.shape[-2]:
        raise IRError(f"{a} must be square and have as many rows as {b}")
    if not a.dtype.is_floating_point or a.dtype is not b.dtype:
        raise IRError(f"expected one floating dtype, got {a} and {b}")
    return b, Aval(dtypes.boolean, a.shape[:-2])


def _solve_reference(a: Array, b: Array) -> tuple[Array, Array]:
    x = np.zeros_like(b)
    wanted = b if b.shape[-1] else np.zeros((*b.shape[:-1], 1), b.dtype)  # else nobody looks at a
    regular = np.ones(a.shape[:-2], bool)
    for batch in np.ndindex(a.shape[:-2]):
        try:
            x[batch] = np.linalg.solve(a[batch], wanted[batch])[:, : b.shape[-1]]
        except np.linalg.LinAlgError:
            regular[batch] = False
    return x, regular


def _solve_vjp(
    ct: tuple[Value | None, ...], out: tuple[Value, ...], a: Value, b: Value
) -> Cotangents:
    """d(A^-1 B): dB = A^-T ct, dA = -dB X^T (Giles 2008, section 2.3.1)."""
    if ct[0] is None:
        return None, None
    db = solve(swap_last(a), ct[0])
    return neg(matmul(db, swap_last(out[0]))), db


solve = register(
    Primitive(
        "solve",
        _solve_type,
        _solve_reference,
        _solve_vjp,
        Call("solve"),
        "X with A X = B, and whether A is regular, for each matrix of a batch",
    )
)
