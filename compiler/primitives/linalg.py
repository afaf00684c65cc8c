"""Matrix products and linear systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import dtypes
from ..aval import Aval, Dim
from ..errors import IRError
from ..ir import Node, Value
from ..primitive import Call, Cotangents, Matmul, Primitive, register
from . import batching
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


def _columns_folded(b: Value) -> Value:
    """Matrices side by side: (batch, k, m) as (k, batch * m)."""
    batch, k, m = b.aval.shape
    return batching.reshaped(batching.moved(b, 0, 1), k, batch * m)


def _columns_unfolded(c: Value, batch: Dim, columns: Dim) -> Value:
    """The inverse of `_columns_folded`."""
    return batching.moved(batching.reshaped(c, c.aval.shape[0], batch, columns), 1, 0)


def _matmul_batch(size: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
    """One product of larger matrices where one side of a plain product is shared by all slices."""
    x, y = operands
    plain = node.operands[0].aval.ndim == 2
    if plain and y.aval.ndim == 2:
        rows = matmul(batching.reshaped(x, size * x.aval.shape[1], x.aval.shape[2]), y)
        return (batching.reshaped(rows, size, x.aval.shape[1], y.aval.shape[1]),)
    if plain and x.aval.ndim == 2:
        return (_columns_unfolded(matmul(x, _columns_folded(y)), size, y.aval.shape[2]),)
    return (matmul(*batching.spread(size, node, operands)),)


matmul: Primitive = register(
    Primitive(
        "matmul",
        _matmul_type,
        _matmul_reference,
        lambda ct, out, x, y: (matmul(ct, swap_last(y)), matmul(swap_last(x), ct)),
        Matmul(),
        "matrix product over the last two dimensions; the others are a batch",
        batch=_matmul_batch,
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


def _solve_batch(size: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
    """More columns for one matrix that all slices share; else a system for each slice."""
    a, b = operands
    if a.aval.ndim == 2:
        x, regular = solve.bind(a, _columns_folded(b))
        whole = _columns_unfolded(x, size, b.aval.shape[2])
        return whole, batching.repeated(size, regular)
    return solve.bind(*batching.spread(size, node, operands))


solve = register(
    Primitive(
        "solve",
        _solve_type,
        _solve_reference,
        _solve_vjp,
        Call("solve"),
        "X with A X = B, and whether A is regular, for each matrix of a batch",
        batch=_solve_batch,
    )
)
