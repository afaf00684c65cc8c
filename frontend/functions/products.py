"""Products of vectors, matrices and batches of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...compiler import dtypes
from ...compiler.aval import Dim, size_of
from ...compiler.primitives import linalg as L
from ...compiler.primitives import movement as M
from ...compiler.primitives import reduce as R
from ..core import shape_of
from ..frames import place
from ..tape import apply
from .arithmetic import add, mul
from .dtype_names import C_NAMES, LEGACY_NAMES
from .labels import named
from .operands import require_tensor
from .promotion import broadcast_shapes, broadcast_to
from .shape import expand
from .sizes import same_size

if TYPE_CHECKING:
    from ..tensor import Tensor


def _reshaped(x: Tensor, *shape: Dim) -> Tensor:
    return apply(M.reshape, x, shape=shape)


def require_alike(x: Tensor, y: Tensor) -> None:
    """Raises unless two factors have one dtype that can be multiplied and added."""
    if x.dtype is not y.dtype:
        names = [C_NAMES[t.dtype.long_name] for t in (x, y)]
        raise RuntimeError(
            f"expected m1 and m2 to have the same dtype, but got: {names[0]} != {names[1]}{place()}"
        )
    if x.dtype is dtypes.boolean:
        raise NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Bool'")


def _matrices(x: Tensor, y: Tensor) -> Tensor:
    """The product of two matrices."""
    a, b = shape_of(x), shape_of(y)
    if not same_size(a[1], b[0]):
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({a[0]}x{a[1]} and {b[0]}x{b[1]}){place()}"
        )
    require_alike(x, y)
    return apply(L.matmul, x, y)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product; a vector counts as a row on the left and as a column on the right.

    Dimensions before the last two are a batch and broadcast.

    Raises:
        RuntimeError: the shapes do not fit, or the dtypes differ.
    """
    require_tensor("matmul", input)
    require_tensor("matmul", other)
    m, n = input.ndim, other.ndim
    if m == 2 and n == 2:
        return named(_matrices(input, other), "Mm")
    if m == 1 and n == 1:
        return dot(input, other)
    if m == 0 or n == 0:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {m}D and {n}D"
        )
    if n == 1:
        return mv(input, other) if m == 2 else named(_folded(input, other), "UnsafeView")
    if m == 1 and n == 2:
        (size,), (_, columns) = shape_of(input), shape_of(other)
        row = _matrices(_reshaped(input, 1, size), other)
        return named(_reshaped(row, columns), "SqueezeBackward4")
    product = _folded(input, other) if n == 2 else _batched(input, other)
    return named(product, "UnsafeView")


def _folded(x: Tensor, y: Tensor) -> Tensor:
    """A batch of matrices times one matrix or vector: all rows at once."""
    *batch, inner = shape_of(x)
    rows = _reshaped(x, size_of(batch), inner)
    if y.ndim == 1:
        return _reshaped(mv(rows, y), *batch)
    return _reshaped(_matrices(rows, y), *batch, shape_of(y)[1])


def _batched(x: Tensor, y: Tensor) -> Tensor:
    """Batches of matrices, broadcast to one batch."""
    if x.ndim == 1:
        product = _batched(_reshaped(x, 1, *shape_of(x)), y)
        shape = shape_of(product)
        return _reshaped(product, *shape[:-2], shape[-1])
    (*a, rows, inner), (*b, depth, columns) = shape_of(x), shape_of(y)
    batch = broadcast_shapes(a, b)
    if not same_size(inner, depth):
        raise _unfitting([size_of(batch), inner], [size_of(batch), depth])
    require_alike(x, y)
    left, right = broadcast_to(x, (*batch, rows, inner)), broadcast_to(y, (*batch, depth, columns))
    return apply(L.matmul, left, right)


def _unfitting(expected: list[Dim], got: list[Dim]) -> RuntimeError:
    return RuntimeError(
        f"Expected size for first two dimensions of batch2 tensor to be: {expected} but got: "
        f"{got}.{place()}"
    )


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    for name, x in (("self", input), ("mat2", mat2)):
        if x.ndim != 2:
            raise RuntimeError(f"{name} must be a matrix")
    return named(_matrices(input, mat2), "Mm")


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of each pair of matrices of two batches."""
    for name, x in (("batch1", input), ("batch2", mat2)):
        if x.ndim != 3:
            raise RuntimeError(f"{name} must be a 3D tensor")
    (batch, _, inner), (other, depth, _) = shape_of(input), shape_of(mat2)
    if not (same_size(batch, other) and same_size(inner, depth)):
        raise _unfitting([batch, inner], [other, depth])
    require_alike(input, mat2)
    return named(apply(L.matmul, input, mat2), "Bmm")


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """A matrix times a vector."""
    if input.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}")
    (rows, columns), (size,) = shape_of(input), shape_of(vec)
    if not same_size(columns, size):
        raise RuntimeError(
            f"size mismatch, got input ({rows}), mat ({rows}x{columns}), vec ({size}){place()}"
        )
    return named(_reshaped(_matrices(input, _reshaped(vec, size, 1)), rows), "Mv")


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    (m,), (n,) = shape_of(input), shape_of(tensor)
    if input.dtype is not tensor.dtype:
        raise RuntimeError(
            "dot : expected both vectors to have same dtype, but found "
            f"{LEGACY_NAMES[input.dtype.long_name]} and {LEGACY_NAMES[tensor.dtype.long_name]}"
        )
    if not same_size(m, n):
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{m}] and src [{n}] to have the same "
            "number of "
            f"elements, but got {m} and {n} elements respectively{place()}"
        )
    return named(apply(R.reduce_sum, mul(input, tensor), dims=(0,)), "Dot")


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Every product of an element of one vector with one of another."""
    for name, x in (("self", input), ("vec2", vec2)):
        if x.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {x.ndim}-D")
    return mul(_reshaped(input, *shape_of(input), 1), vec2)


def _scaled_sum(input: Tensor, product: Tensor, beta: Any, alpha: Any, label: str) -> Tensor:
    """beta * input + alpha * product; with beta = 0 nan in `input` does not count."""
    scaled = product if alpha == 1 else mul(product, alpha)
    shape = shape_of(product)
    base = expand(input, shape) if shape_of(input) != shape else input
    if beta == 0:
        return named(mul(scaled, 1), label)
    return named(add(base if beta == 1 else mul(base, beta), scaled), label)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)."""
    return _scaled_sum(input, mm(mat1, mat2), beta, alpha, "Addmm")


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat @ vec)."""
    return _scaled_sum(input, mv(mat, vec), beta, alpha, "Addmv")


def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """beta * input + alpha * (batch1 @ batch2), for batches of matrices."""
    return _scaled_sum(input, bmm(batch1, batch2), beta, alpha, "Baddbmm")


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions; a scalar multiplies."""
    if not (input.ndim and other.ndim):
        return mul(input, other)
    return tensordot(input, other, ([-1], [-1]))


def tensordot(input: Tensor, other: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over pairs of dimensions.

    `dims`: how many of the last dimensions of one meet the first of the other, or the lists of
    both.
    """
    if isinstance(dims, int):
        dims = list(range(-dims, 0)), list(range(dims))
    a, b = shape_of(input), shape_of(other)
    for d, e in zip(*dims, strict=True):
        if not same_size(a[d], b[e]):
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {a[d]} in dim {d} and "
                "second "
                f"has size {b[e]} in dim {e}"
            )
    left, right = [d % input.ndim for d in dims[0]], [d % other.ndim for d in dims[1]]
    rows = [d for d in range(input.ndim) if d not in left]
    columns = [d for d in range(other.ndim) if d not in right]
    x = _reshaped(
        input.permute(*rows, *left), size_of(a[d] for d in rows), size_of(a[d] for d in left)
    )
    y = _reshaped(
        other.permute(*right, *columns),
        size_of(b[d] for d in right),
        size_of(b[d] for d in columns),
    )
    product = _reshaped(_matrices(x, y), *(a[d] for d in rows), *(b[d] for d in columns))
    return named(product, "View")
