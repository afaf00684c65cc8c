"""Indexing: `x[...]` and `x[...] = y`.

What integers, slices, None and Ellipsis select is a view.  Tensors, masks and lists are applied to
that view: the indexed dimensions come first as one, rows of it are taken, and the new dimensions go
to their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...compiler import dtypes
from ...compiler.aval import Dim, size_of
from ...compiler.primitives import index as I
from ...compiler.primitives import movement as M
from ..context import current
from ..core import TensorBase, from_array, shape_of
from ..create import filled
from ..frames import place
from ..inplace import assign
from ..tape import apply
from .arithmetic import add, mul
from .basic_index import OUT_OF_BOUNDS, basic
from .checks import check_range
from .conversion import cast
from .labels import named
from .logic import chosen, lt
from .promotion import broadcast_shapes, broadcast_to
from .shape import expand, permute, reshape
from .sizes import same_size, size_operand

if TYPE_CHECKING:
    from ..tensor import Tensor


class Positions(NamedTuple):
    """Integer positions in `spans` dimensions from `first` on, counted in row-major order."""

    first: int
    spans: int
    linear: Tensor


def getitem(input: Tensor, key: Any) -> Tensor:
    """`input[key]`: a view for integers and slices, a copy for tensors, masks and lists.

    Raises:
        IndexError: a position is out of range, or there are too many indices.
        UntraceableError: a mask is read in a trace, where the result's size would be data.
    """
    view, advanced = basic(input, key)
    if not advanced:
        return view
    return _taken(view, _positions(view, advanced))


def setitem(input: Tensor, key: Any, value: Any) -> None:
    """`input[key] = value`, converted and broadcast.

    Raises:
        IndexError: a position is out of range, or there are too many indices.
        RuntimeError: the value's shape does not fit.
        TypeError: the value is neither a tensor nor a number.
    """
    new = _as_value(input, value)
    view, advanced = basic(input, key)
    if advanced:
        new = _replaced(view, advanced, new)
    elif shape_of(new) != shape_of(view):
        new = _expanded(new, shape_of(view))
    assign(view, new, checked=False)


def _as_value(input: Tensor, value: Any) -> Tensor:
    if isinstance(value, TensorBase):
        found: Tensor = value  # type: ignore[assignment]  # a TensorBase is a Tensor
        return found if found.dtype is input.dtype else cast(found, input.dtype)
    if isinstance(value, (bool, int, float, np.generic)):
        return filled((), value if not isinstance(value, np.generic) else value.item(), input.dtype)
    raise TypeError(f"can't assign a {type(value).__name__} to a {input.dtype} tensor")


def _expanded(value: Tensor, shape: tuple[Dim, ...]) -> Tensor:
    """A value repeated to `shape`, surplus leading dimensions of size 1 dropped."""
    given = shape_of(value)
    surplus = 0
    while len(given) - surplus > len(shape) and same_size(given[surplus], 1):
        surplus += 1
    return expand(reshape(value, given[surplus:]) if surplus else value, shape)


def _positions(view: Tensor, advanced: Sequence[tuple[int, Tensor]]) -> list[Positions]:
    """Every index tensor as checked, non-negative positions of one common shape."""
    found = [_position(view, dim, index) for dim, index in advanced]
    shapes = [shape_of(p.linear) for p in found]
    if all(shape == shapes[0] for shape in shapes):
        return found
    try:
        common = broadcast_shapes(*shapes)
    except RuntimeError:
        given = ", ".join(str(list(shape)) for shape in shapes)
        raise IndexError(
            "shape mismatch: indexing tensors could not be broadcast together with shapes "
            f"{given}{place()}"
        ) from None
    return [p._replace(linear=broadcast_to(p.linear, common)) for p in found]


def _position(view: Tensor, dim: int, index: Tensor) -> Positions:
    if index.dtype is dtypes.boolean:
        return _of_mask(view, dim, index)
    size = shape_of(view)[dim]
    return Positions(dim, 1, wrapped(index, size, OUT_OF_BOUNDS.format(dim=dim, size=size)))


def _of_mask(view: Tensor, dim: int, mask: Tensor) -> Positions:
    _require_mask_shape(view, dim, mask)
    array = mask._memory("indexing by a mask")
    return Positions(dim, mask.ndim or 1, from_array(np.flatnonzero(array)))


def _require_mask_shape(view: Tensor, dim: int, mask: Tensor) -> None:
    own = shape_of(view)[dim : dim + mask.ndim]
    for axis, (a, b) in enumerate(zip(shape_of(mask), own, strict=True), dim):
        if not same_size(a, b):
            raise IndexError(
                f"The shape of the mask {list(shape_of(mask))} at index {axis - dim} does not "
                "match the "
                f"shape of the indexed tensor {list(shape_of(view))} at index {axis}{place()}"
            )


def wrapped(index: Tensor, size: Dim, text: str) -> Tensor:
    """Positions counted from the front, after a check of their range (`text`: what it says)."""
    low = size * -1
    check_range(index, low, size, IndexError, text)
    wide = index if index.dtype is dtypes.i64 else cast(index, dtypes.i64)
    if current().trace is None and not np.any(wide.array < 0):  # type: ignore[operator]  # eager tensors have memory
        return wide
    return chosen(lt(wide, 0), add(wide, size_operand(size)), wide)


def _plan(view: Tensor, positions: Sequence[Positions]) -> tuple[list[int], list[int], Tensor]:
    """The indexed dimensions, the others, and each result's row among the indexed ones."""
    shape = shape_of(view)
    indexed = [d for p in positions for d in range(p.first, p.first + p.spans)]
    rest = [d for d in range(len(shape)) if d not in indexed]
    row = positions[0].linear
    for p in positions[1:]:
        stride = size_operand(size_of(shape[d] for d in range(p.first, p.first + p.spans)))
        row = add(mul(row, stride), p.linear)
    return indexed, rest, row


def _rows(view: Tensor, indexed: list[int], rest: list[int]) -> Tensor:
    """The operand with the indexed dimensions first, as one."""
    shape = shape_of(view)
    first = permute(view, *indexed, *rest) if indexed[-1] != len(indexed) - 1 else view
    return reshape(first, (size_of(shape[d] for d in indexed), *(shape[d] for d in rest)))


def _placed(indexed: list[int], rest: list[int], new: int) -> list[int]:
    """Where a result's dimensions (the new ones, then the rest) go: the indexed place, if one."""
    adjacent = indexed == list(range(indexed[0], indexed[0] + len(indexed)))
    before = indexed[0] if adjacent else 0
    order = [new + i for i in range(len(rest))]
    return [*order[:before], *range(new), *order[before:]]


def _taken(view: Tensor, positions: Sequence[Positions]) -> Tensor:
    indexed, rest, row = _plan(view, positions)
    result = apply(I.take, _rows(view, indexed, rest), row)
    order = _placed(indexed, rest, row.ndim)
    if order != sorted(order):
        result = apply(M.transpose, result, perm=tuple(order))
    return named(result, "Index")


def _replaced(view: Tensor, advanced: Sequence[tuple[int, Tensor]], value: Tensor) -> Tensor:
    """The new value of `view` with `value` written at the indices."""
    by_mask = _masked(view, advanced, value)
    if by_mask is not None:
        return by_mask
    return put(view, _positions(view, advanced), value, I.scatter)


def _masked(view: Tensor, advanced: Sequence[tuple[int, Tensor]], value: Tensor) -> Tensor | None:
    """A write through one mask whose value does not depend on how many elements it selects."""
    dim, mask = advanced[0]
    if len(advanced) > 1 or mask.dtype is not dtypes.boolean:
        return None
    trailing = view.ndim - dim - (mask.ndim or 1)
    if value.ndim > (0 if dim else trailing):
        return None
    _require_mask_shape(view, dim, mask)
    whole = (*(1,) * dim, *(shape_of(mask) or (1,)), *(1,) * trailing)
    spread = broadcast_to(reshape(mask, whole), shape_of(view))
    return chosen(spread, _broadcast_value(value, shape_of(view), shape_of(view)), view)


def put(view: Tensor, positions: Sequence[Positions], value: Tensor, scatter: Any) -> Tensor:
    """`view` with rows replaced (`scatter`) or added to (`scatter_add`) at the positions."""
    indexed, rest, row = _plan(view, positions)
    shape = shape_of(view)
    order = _placed(indexed, rest, row.ndim)
    natural = (*shape_of(row), *(shape[d] for d in rest))
    target = tuple(natural[d] for d in order)
    new = _broadcast_value(value, target, target)
    if order != sorted(order):
        new = apply(M.transpose, new, perm=M.inverse_permutation(tuple(order)))
    written = apply(scatter, _rows(view, indexed, rest), row, new)
    moved = apply(M.reshape, written, shape=tuple(shape[d] for d in (*indexed, *rest)))
    result = apply(M.transpose, moved, perm=M.inverse_permutation((*indexed, *rest)))
    return named(result, "IndexPut")


def _broadcast_value(value: Tensor, shape: tuple[Dim, ...], shown: tuple[Dim, ...]) -> Tensor:
    try:
        return _expanded(value, shape) if shape_of(value) != shape else value
    except RuntimeError:
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(shape_of(value))} cannot be broadcast to "
            f"indexing result of shape {list(shown)}{place()}"
        ) from None


def index_put(
    input: Tensor, indices: tuple[Tensor, ...], values: Tensor, accumulate: bool = False
) -> Tensor:
    """A copy with `values` at the positions that `indices`, one for each dimension, name.

    `accumulate`: add them to what is there, instead of replacing it.
    """
    view, advanced = basic(input, tuple(indices))
    scatter = I.scatter_add if accumulate else I.scatter
    return put(view, _positions(view, advanced), values, scatter)
