"""Selecting, gathering and scattering by indices that are data."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler import dtypes
from ...compiler.aval import Dim, size_of
from ...compiler.primitives import create
from ...compiler.primitives import index as I
from ...compiler.primitives import movement as M
from ..core import TensorBase, from_array, shape_of
from ..create import filled
from ..frames import place
from ..symint import asked
from ..tape import apply
from .arithmetic import add, mul
from .basic_index import OUT_OF_BOUNDS
from .checks import check_range
from .conversion import cast
from .dtype_names import C_NAMES
from .index import Positions, put, wrapped
from .labels import named
from .logic import chosen
from .pick import one_hot_along
from .promotion import broadcast_shapes, broadcast_to, converted
from .shape import movedim, reshape, wrap_dim
from .sizes import same_size, size_operand

if TYPE_CHECKING:
    from ..tensor import Tensor

_INTEGERS = (dtypes.i64, dtypes.i32)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The positions of a dimension that `index`, a vector, names.

    Raises:
        IndexError: a position is out of range.
    """
    axis = wrap_dim(dim, input.ndim)
    _require_vector("index_select", index)
    check_range(index, 0, shape_of(input)[axis], IndexError, "index out of range in self")
    rows = movedim(input, axis, 0) if axis else input
    taken = apply(I.take, rows, index if index.ndim else reshape(index, 1))
    if axis:
        order = (*range(1, axis + 1), 0, *range(axis + 1, input.ndim))
        taken = apply(M.transpose, taken, perm=order)
    return named(taken, "IndexSelect")


def _require_vector(name: str, index: Tensor) -> None:
    if index.dtype not in _INTEGERS:
        raise RuntimeError(f"{name}(): Expected dtype int32 or int64 for index")
    if index.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector")


def _line_positions(name: str, input: Tensor, axis: int, index: Tensor) -> Tensor:
    """Each index as a position in the flattened operand; other coordinates are the index's own."""
    if index.dtype not in _INTEGERS:
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    if index.ndim != input.ndim:
        raise RuntimeError(
            "Index tensor must have the same number of dimensions as input tensor" + place()
        )
    _require_no_larger(input, axis, index)
    own, size = shape_of(index), shape_of(input)
    text = f"index {{index}} is out of bounds for dimension {axis} with size {size[axis]}"
    check_range(index, 0, size[axis], RuntimeError, text)
    wide = index if index.dtype is dtypes.i64 else cast(index, dtypes.i64)
    position: Any = None
    for dim in range(input.ndim):
        along = wide if dim == axis else apply(create.iota, dim=dim, dtype=dtypes.i64, shape=own)
        position = along if position is None else add(mul(position, size_operand(size[dim])), along)
    return position  # type: ignore[no-any-return]  # a tensor, since there are dimensions


def _require_no_larger(input: Tensor, axis: int, index: Tensor) -> None:
    for dim, (own, size) in enumerate(zip(index.shape, input.shape, strict=True)):
        if dim != axis and own > size:
            raise RuntimeError(
                f"Size does not match at dimension {dim} expected index {list(index.shape)} to be "
                "no "
                f"larger than self {list(input.shape)} apart from dimension {axis}{place()}"
            )


def _flat(x: Tensor) -> Tensor:
    return reshape(x, (size_of(shape_of(x)),))


def _lifted(x: Tensor) -> Tensor:
    return x if x.ndim else reshape(x, 1)


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """`input[i][index[i][j]]` for `dim` = 1, and so on: one element for each of the index's.

    Raises:
        RuntimeError: a position is out of range, or the index does not fit.
    """
    x, lines = _lifted(input), _lifted(index)
    position = _line_positions("gather", x, wrap_dim(dim, x.ndim), lines)
    taken = apply(I.take, _flat(x), position)
    if not index.ndim:
        taken = reshape(taken, ())
    return named(taken, "Gather")


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened operand, of the index's shape."""
    size = size_of(shape_of(input))
    text = f"out of range: tried to access index {{index}} on a tensor of {size} elements."
    return named(apply(I.take, _flat(input), wrapped(index, size, text)), "Take")


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` with broadcasting; without `dim`, from the flattened operand."""
    if dim is None:
        return gather(_flat(input), 0, _flat(indices))
    axis = wrap_dim(dim, input.ndim)
    own, given = list(shape_of(input)), list(shape_of(indices))
    common = list(
        broadcast_shapes([*own[:axis], 1, *own[axis + 1 :]], [*given[:axis], 1, *given[axis + 1 :]])
    )
    lines = broadcast_to(indices, (*common[:axis], given[axis], *common[axis + 1 :]))
    return gather(
        broadcast_to(input, (*common[:axis], own[axis], *common[axis + 1 :])), axis, lines
    )


def _scattered(
    name: str, primitive: Any, label: str, input: Tensor, dim: int, index: Tensor, src: Any
) -> Tensor:
    x, lines = _lifted(input), _lifted(index)
    position = _line_positions(name, x, wrap_dim(dim, x.ndim), lines)
    if isinstance(src, TensorBase):
        if src.dtype is not input.dtype:
            raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
        values = _leading(_lifted(src), shape_of(lines))  # type: ignore[arg-type]  # a TensorBase is a Tensor
    else:
        values = filled(shape_of(lines), src, input.dtype)
    written = apply(primitive, _flat(x), _flat(position), _flat(values))
    return named(reshape(written, shape_of(input)), label)


def _leading(src: Tensor, shape: tuple[Dim, ...]) -> Tensor:
    """The part of `src` that an index of `shape` reads."""
    own = src.shape
    if shape_of(src) == shape:
        return src
    if len(own) != len(shape) or any(map(operator.gt, map(asked, shape), own)):
        raise RuntimeError(
            f"Expected index {list(shape)} to be no larger than src {list(own)}{place()}"
        )
    from .shape import window

    return window(src, {dim: (0, size, 1) for dim, size in enumerate(shape)})


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`src` added at the positions of a dimension that `index` names; see `gather`."""
    return _scattered("scatter_add", I.scatter_add, "ScatterAdd", input, dim, index, src)


def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None
) -> Tensor:
    """`src`, a tensor or a number, written at the positions that `index` names; see `gather`."""
    given = value if src is None else src
    label = "Scatter" if isinstance(given, TensorBase) else "ScatterBackward1"
    return _scattered("scatter", I.scatter, label, input, dim, index, given)


def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Tensor:
    """`alpha * source` added at the positions of a dimension that `index`, a vector, names."""
    axis = wrap_dim(dim, input.ndim)
    _require_vector("index_add", index)
    check_range(index, 0, shape_of(input)[axis], IndexError, "index out of range in self")
    _require_rows(source, axis, index)
    scaled = source if alpha == 1 else mul(source, alpha)
    return named(put(input, [Positions(axis, 1, index)], scaled, I.scatter_add), "IndexAdd")


def _require_rows(source: Tensor, axis: int, index: Tensor) -> None:
    count, rows = shape_of(index)[0], shape_of(source)[axis]
    if not same_size(count, rows):
        raise RuntimeError(
            f"index_add_(): Number of indices ({count}) should be equal to source.size(dim): "
            f"({rows}), "
            f"for dim: {axis}"
        )


def index_fill(input: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    """A number written at the positions of a dimension that `index`, a vector, names."""
    axis = wrap_dim(dim, input.ndim)
    _require_vector("index_fill", index)
    size = shape_of(input)[axis]
    positions = Positions(axis, 1, wrapped(index, size, OUT_OF_BOUNDS.format(dim=axis, size=size)))
    return named(put(input, [positions], filled((), value, input.dtype), I.scatter), "IndexFill")


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value`, a number or a 0-d tensor, where the mask holds, elsewhere `input`."""
    if mask.dtype is not dtypes.boolean:
        raise RuntimeError(
            "masked_fill_ only supports boolean masks, but got mask with dtype "
            f"{C_NAMES[mask.dtype.long_name]}"
        )
    if isinstance(value, TensorBase) and value.ndim:
        raise RuntimeError(
            "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{value.ndim} dimension(s)."
        )
    label = "MaskedFillBackward1" if isinstance(value, TensorBase) else "MaskedFill"
    return named(chosen(mask, converted(value, input.dtype), input), label)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector.

    Raises:
        UntraceableError: in a trace: the result's size is data.
    """
    if mask.dtype is not dtypes.boolean:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = broadcast_shapes(shape_of(input), shape_of(mask))
    held = broadcast_to(mask, shape)._memory("masked_select()")
    flat = _flat(broadcast_to(input, shape))
    return named(apply(I.take, flat, from_array(np.flatnonzero(held))), "MaskedSelect")


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Where elements differ from zero: a row each, or with `as_tuple` a vector for each dimension.

    Raises:
        UntraceableError: in a trace: the result's size is data.
    """
    array = input._memory("nonzero()")
    rows = np.argwhere(array) if array.ndim or not as_tuple else np.argwhere(array.reshape(1))
    if as_tuple:
        return tuple(from_array(np.ascontiguousarray(column)) for column in rows.T)
    return from_array(rows)


def argwhere(input: Tensor) -> Tensor:
    """`nonzero` under NumPy's name."""
    return nonzero(input)  # type: ignore[no-any-return]  # a tensor without as_tuple


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each class's place in a new last dimension, 0 elsewhere, as int64.

    Raises:
        RuntimeError: the tensor is not int64, or a class is out of range.
        UntraceableError: the number of classes is left open in a trace.
    """
    if tensor.dtype is not dtypes.i64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes == -1:
        array = tensor._memory("one_hot() without num_classes")
        if not array.size:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        num_classes = int(array.max()) + 1
    unbounded = np.iinfo(np.int64).max
    check_range(tensor, 0, unbounded, RuntimeError, "Class values must be non-negative.")
    text = "Class values must be smaller than num_classes."
    check_range(tensor, 0, num_classes, RuntimeError, text)
    hot = one_hot_along(tensor, tensor.ndim, (*shape_of(tensor), num_classes))
    return cast(hot, dtypes.i64)
