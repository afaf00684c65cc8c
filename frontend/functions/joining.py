"""Joining tensors, and cutting them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler.aval import SymDim
from ...compiler.primitives import movement as M
from ..core import TensorBase, from_array, shape_of
from ..tape import apply
from .labels import named
from .promotion import broadcast_shapes, converted, result_dtype
from .shape import expand, narrow, reshape, select, unsqueeze, wrap_dim
from .sizes import same_shape, same_size

if TYPE_CHECKING:
    from ..tensor import Tensor


def split(
    input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Pieces of a dimension, as views: of one size (the last may be smaller), or of given sizes."""
    axis = wrap_dim(dim, input.ndim)
    size = input.shape[axis]
    if isinstance(split_size_or_sections, (int, SymDim)):
        step, size = split_size_or_sections.__index__(), size.__index__()
        if step < 0:
            raise RuntimeError(
                f"split expects split_size be non-negative, but got split_size={step}"
            )
        if step == 0 and size:
            raise RuntimeError(
                f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}"
            )
        sections = [min(step, size - at) for at in range(0, size, step)] if size else [0]
    else:
        sections = list(split_size_or_sections)
        if sum(sections) != size:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's "
                "size "
                f"at dimension {axis}), but got split_sizes={sections}"
            )
    starts = [sum(sections[:i]) for i in range(len(sections))]
    label = "SplitWithSizes" if isinstance(split_size_or_sections, Sequence) else "Split"
    pieces = zip(starts, sections, strict=True)
    return tuple(named(narrow(input, axis, s, n), label) for s, n in pieces)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size (the last may be smaller), as views."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    size = input.shape[wrap_dim(dim, input.ndim)].__index__()
    return split(input, max(1, -(-size // chunks)), dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Every position of a dimension, as views."""
    size = input.shape[wrap_dim(dim, input.ndim)].__index__()
    return tuple(named(select(input, dim, i), "Unbind") for i in range(size))


def _tensors(given: Sequence[Tensor]) -> list[Tensor]:
    parts = list(given)
    for position, part in enumerate(parts):
        if not isinstance(part, TensorBase):
            raise TypeError(
                f"expected Tensor as element {position} in argument 0, but got "
                f"{type(part).__name__}"
            )
    return parts


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after another along a dimension.

    Raises:
        ValueError: there are none.
        RuntimeError: they differ in another dimension.
    """
    parts = _tensors(tensors)
    if not parts:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    dtype = result_dtype(*parts)
    kept: list[Any] = [p for p in parts if not _is_nothing(p, parts)] or parts[:1]
    axis = wrap_dim(dim, kept[0].ndim)
    _require_alike(kept, axis)
    typed = [converted(p, dtype) for p in kept]
    return named(apply(M.concat, *typed, dim=axis), "Cat")


def _is_nothing(part: Tensor, parts: Sequence[Tensor]) -> bool:
    """Whether a part is an empty vector, which may stand among parts of more dimensions."""
    return part.ndim == 1 and any(p.ndim != 1 for p in parts) and same_size(shape_of(part)[0], 0)


def _require_alike(parts: Sequence[Tensor], axis: int) -> None:
    first = shape_of(parts[0])
    if not first:
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    for number, part in enumerate(parts[1:], 1):
        own = shape_of(part)
        if len(own) != len(first):
            raise RuntimeError(
                f"Tensors must have same number of dimensions: got {len(first)} and {len(own)}"
            )
        for dim, (a, b) in enumerate(zip(first, own, strict=True)):
            if dim != axis and not same_size(a, b):
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {axis}. Expected size {a} "
                    "but "
                    f"got size {b} for tensor number {number} in the list."
                )


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension."""
    parts = _tensors(tensors)
    if not parts:
        raise RuntimeError("stack expects a non-empty TensorList")
    for number, part in enumerate(parts):
        if not same_shape(shape_of(part), shape_of(parts[0])):
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(parts[0].shape)} at "
                "entry "
                f"0 and {list(part.shape)} at entry {number}"
            )
    return named(cat([unsqueeze(p, wrap_dim(dim, p.ndim + 1)) for p in parts], dim), "Stack")


def tensor_split(
    input: Tensor, indices_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Pieces of a dimension, as views: as equal as can be, or cut at the given indices."""
    axis = wrap_dim(dim, input.ndim)
    size = input.shape[axis].__index__()
    if isinstance(indices_or_sections, int):
        small, larger = divmod(size, indices_or_sections)
        lengths = [small + (i < larger) for i in range(indices_or_sections)]
        cuts = [sum(lengths[:i]) for i in range(1, len(lengths))]
    else:
        cuts = [min(c + size if c < 0 else c, size) for c in indices_or_sections]
    bounds = zip([0, *cuts], [*cuts, size], strict=True)
    return tuple(narrow(input, axis, a, max(b - a, 0)) for a, b in bounds)


def atleast_1d(input: Tensor) -> Tensor:
    """A scalar as a vector; others as they are."""
    return input if input.ndim else reshape(input, (1,))


def atleast_2d(input: Tensor) -> Tensor:
    """A scalar or vector as a row; others as they are."""
    return input if input.ndim >= 2 else unsqueeze(atleast_1d(input), 0)


def atleast_3d(input: Tensor) -> Tensor:
    """Fewer than three dimensions filled up with ones, the last first."""
    return input if input.ndim >= 3 else unsqueeze(atleast_2d(input), -1)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: along dimension 1, or 0 for vectors."""
    parts = [atleast_1d(t) for t in tensors]
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other, vectors as rows."""
    return cat([atleast_2d(t) for t in tensors], 0)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors behind each other, along dimension 2."""
    return cat([atleast_3d(t) for t in tensors], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side, vectors as columns."""
    return hstack([t if t.ndim > 1 else reshape(t, (-1, 1)) for t in tensors])


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors expanded to their common shape, as views."""
    shape = broadcast_shapes(*map(shape_of, tensors))
    return tuple(expand(t, shape) for t in tensors)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of a grid: each vector expanded along its own dimension."""
    vectors = list(tensors[0]) if isinstance(tensors[0], (tuple, list)) else list(tensors)
    if indexing == "xy" and len(vectors) > 1:
        first, second, *rest = meshgrid(vectors[1], vectors[0], *vectors[2:])
        return (second, first, *rest)
    lines = [
        reshape(v, tuple(-1 if axis == place else 1 for axis in range(len(vectors))))
        for place, v in enumerate(vectors)
    ]
    return broadcast_tensors(*lines)


def repeat_interleave(input: Tensor, repeats: int | Tensor, dim: int | None = None) -> Tensor:
    """Each element repeated in place, along `dim` or of all elements in order.

    `repeats`: how often each; or a tensor, how often which (eager only: the size is data).
    """
    x = reshape(input, -1) if dim is None else input
    axis = wrap_dim(dim or 0, x.ndim)
    if isinstance(repeats, TensorBase):
        from .gather import index_select

        counts = repeats._memory("repeat_interleave() by a tensor")
        return index_select(x, axis, from_array(np.repeat(np.arange(len(counts)), counts)))
    shape = shape_of(x)
    spread = (*shape[: axis + 1], repeats, *shape[axis + 1 :])
    repeated = expand(unsqueeze(x, axis + 1), spread)
    joined = (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :])
    return named(reshape(repeated.clone(), joined), "View")
