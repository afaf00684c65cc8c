"""Movement: results whose elements are elements of the operand.

None of these computes; most are free.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..aval import Aval, Dim, Shape, SymDim, size_of
from ..errors import IRError
from ..ir import Value
from ..primitive import Cotangents, Movement, Primitive, Window, register
from . import batching
from .create import full_like

Array = npt.NDArray[Any]
Dims = tuple[int, ...]
D = TypeVar("D", int, Dim)


def _broadcast_type(x: Aval, *, dims: Dims, shape: Shape) -> Aval:
    if len(dims) != x.ndim or list(dims) != sorted(set(dims)):
        raise IRError(f"dims {list(dims)} must name one dimension of the result for each of {x}")
    for size, dim in zip(x.shape, dims, strict=True):
        if not 0 <= dim < len(shape) or (size not in (1, shape[dim])):
            raise IRError(f"{x} does not broadcast to {_text(shape)} along dims {list(dims)}")
    return x.with_shape(shape)


def _broadcast_reference(x: Array, *, dims: Dims, shape: tuple[int, ...]) -> Array:
    """A view with stride 0; `np.broadcast_to` does the same eight times slower."""
    strides = [0] * len(shape)
    for axis, dim in enumerate(dims):
        if x.shape[axis] != 1:
            strides[dim] = x.strides[axis]
    if x.flags.c_contiguous:
        return np.ndarray(shape, x.dtype, x, 0, tuple(strides))
    return np.lib.stride_tricks.as_strided(x, shape, strides)


def _broadcast_vjp(ct: Value, out: Value, x: Value, *, dims: Dims, shape: Shape) -> Cotangents:
    from .reduce import reduce_sum

    stretched = [d for d, size in zip(dims, x.aval.shape, strict=True) if size != shape[d]]
    summed = tuple(a for a in range(len(shape)) if a not in dims or a in stretched)
    total = reduce_sum(ct, dims=summed) if summed else ct
    return (reshape(total, shape=x.aval.shape) if stretched else total,)


broadcast = register(
    Primitive(
        "broadcast",
        _broadcast_type,
        _broadcast_reference,
        _broadcast_vjp,
        Movement(),
        "x repeated: its dimension i becomes dimension dims[i] of the result",
        from_type=("shape",),
        view=True,
        batch=batching.by_params(
            lambda size, *, dims, shape: {
                "dims": (0, *(d + 1 for d in dims)),
                "shape": (size, *shape),
            }
        ),
    )
)


def _text(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def _reshape_type(x: Aval, *, shape: Shape) -> Aval:
    if size_of(shape) != x.size:
        raise IRError(f"{x} has {x.size} elements, {_text(shape)} has {size_of(shape)}")
    return x.with_shape(shape)


reshape: Primitive = register(
    Primitive(
        "reshape",
        _reshape_type,
        lambda x, *, shape: x.reshape(shape),
        lambda ct, out, x, *, shape: (reshape(ct, shape=x.aval.shape),),
        Movement(),
        "the same elements in row-major order under another shape",
        from_type=("shape",),
        view=True,
        batch=batching.by_params(lambda size, *, shape: {"shape": (size, *shape)}),
    )
)


def _transpose_type(x: Aval, *, perm: Dims) -> Aval:
    if sorted(perm) != list(range(x.ndim)):
        raise IRError(f"perm {list(perm)} is not a permutation of the dimensions of {x}")
    return x.with_shape(tuple(x.shape[p] for p in perm))


def inverse_permutation(perm: Dims) -> Dims:
    """The permutation that undoes `perm`."""
    return tuple(perm.index(axis) for axis in range(len(perm)))


transpose: Primitive = register(
    Primitive(
        "transpose",
        _transpose_type,
        lambda x, *, perm: x.transpose(perm),
        lambda ct, out, x, *, perm: (transpose(ct, perm=inverse_permutation(perm)),),
        Movement(),
        "dimensions reordered: dimension i of the result is dimension perm[i] of x",
        view=True,
        batch=batching.by_params(lambda size, *, perm: {"perm": (0, *(p + 1 for p in perm))}),
    )
)


def window_size(start: Dim, stop: Dim, step: int) -> Dim:
    """Elements of `range(start, stop, step)`, for start <= stop and step > 0."""
    return (stop - start + step - 1) // step


def _slice_type(x: Aval, *, start: Shape, stop: Shape, step: Dims) -> Aval:
    if not len(start) == len(stop) == len(step) == x.ndim:
        raise IRError(f"start, stop and step must have one entry for each dimension of {x}")
    for size, first, last, stride in zip(x.shape, start, stop, step, strict=True):
        bounds_known = not any(isinstance(d, SymDim) for d in (size, first, last))
        if stride < 1 or (bounds_known and not 0 <= first <= last <= size):
            raise IRError(f"window [{first}:{last}:{stride}] is outside a dimension of size {size}")
    return x.with_shape(tuple(map(window_size, start, stop, step)))


def _slices(start: Dims, stop: Dims, step: Dims) -> tuple[slice, ...]:
    return tuple([slice(a, max(a, b), s) for a, b, s in zip(start, stop, step, strict=True)])


def _slice_vjp(
    ct: Value, out: Value, x: Value, *, start: Shape, stop: Shape, step: Dims
) -> Cotangents:
    return (set_slice(full_like(x, 0), ct, start=start, step=step),)


slice_ = register(
    Primitive(
        "slice",
        _slice_type,
        lambda x, *, start, stop, step: x[_slices(start, stop, step)],
        _slice_vjp,
        Movement(),
        "elements start, start + step, ... before stop, of each dimension",
        view=True,
        batch=batching.by_params(
            lambda size, *, start, stop, step: {
                "start": (0, *start),
                "stop": (size, *stop),
                "step": (1, *step),
            }
        ),
    )
)


def window_stop(start: D, size: D, step: int) -> D:
    """The `stop` of a window of `size` elements; the inverse of `window_size`."""
    return start + (size - 1) * step + 1 if size != 0 else start


def _set_slice_type(x: Aval, y: Aval, *, start: Shape, step: Dims) -> Aval:
    stop = tuple(map(window_stop, start, y.shape, step))
    window = _slice_type(x, start=start, stop=stop, step=step)
    if window.shape != y.shape or x.dtype is not y.dtype:
        raise IRError(f"{y} does not fit the window {window} of {x}")
    return x


def _set_slice_reference(x: Array, y: Array, *, start: Dims, step: Dims) -> Array:
    out = np.array(x)
    out[_slices(start, tuple(map(window_stop, start, y.shape, step)), step)] = y
    return out


def _set_slice_vjp(
    ct: Value, out: Value, x: Value, y: Value, *, start: Shape, step: Dims
) -> Cotangents:
    stop = tuple(map(window_stop, start, y.aval.shape, step))
    dx = set_slice(ct, full_like(y, 0), start=start, step=step)
    return dx, slice_(ct, start=start, stop=stop, step=step)


set_slice = register(
    Primitive(
        "set_slice",
        _set_slice_type,
        _set_slice_reference,
        _set_slice_vjp,
        Window(),
        "x with the window at start (and every step-th element) replaced by y",
        batch=batching.by_params(
            lambda size, *, start, step: {"start": (0, *start), "step": (1, *step)}
        ),
    )
)


def _flip_type(x: Aval, *, dims: Dims) -> Aval:
    if len(set(dims)) != len(dims) or any(not 0 <= d < x.ndim for d in dims):
        raise IRError(f"dims {list(dims)} must be distinct dimensions of {x}")
    return x


flip: Primitive = register(
    Primitive(
        "flip",
        _flip_type,
        lambda x, *, dims: np.flip(x, dims),
        lambda ct, out, x, *, dims: (flip(ct, dims=dims),),
        Movement(),
        "elements in reverse order along dims",
        batch=batching.along_dims,
    )
)


def _concat_type(*parts: Aval, dim: int) -> Aval:
    if not parts or not 0 <= dim < parts[0].ndim:
        raise IRError(f"dim {dim} is not a dimension of the operands")
    first = parts[0]
    for part in parts[1:]:
        others = [*part.shape[:dim], first.shape[dim], *part.shape[dim + 1 :]]
        if part.dtype is not first.dtype or tuple(others) != first.shape:
            raise IRError(f"operands may differ in dimension {dim} only, got {first} and {part}")
    total: Dim = 0
    for part in parts:
        total = total + part.shape[dim]
    return first.with_shape((*first.shape[:dim], total, *first.shape[dim + 1 :]))


def _concat_vjp(ct: Value, out: Value, *parts: Value, dim: int) -> Cotangents:
    cotangents: list[Value] = []
    offset: Dim = 0
    for part in parts:
        start: list[Dim] = [0] * ct.aval.ndim
        stop = list(ct.aval.shape)
        start[dim], stop[dim] = offset, offset + part.aval.shape[dim]
        step = (1,) * ct.aval.ndim
        cotangents.append(slice_(ct, start=tuple(start), stop=tuple(stop), step=step))
        offset = stop[dim]
    return cotangents


concat = register(
    Primitive(
        "concat",
        _concat_type,
        lambda *parts, dim: np.concatenate(parts, axis=dim),
        _concat_vjp,
        Window(),
        "operands one after another along dim",
        batch=batching.by_params(lambda size, *, dim: {"dim": dim + 1}),
    )
)
