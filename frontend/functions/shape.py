"""Shapes: views that share memory, and copies that repeat or reverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...compiler.aval import Dim, SymDim, size_of
from ...compiler.primitives import movement as M
from ..arguments import MissingArgumentError
from ..core import shape_of
from ..symint import asked
from ..tape import apply, apply_view
from .conversion import clone
from .dtype_names import LEGACY_NAMES
from .labels import named
from .sizes import same_size, stretches

if TYPE_CHECKING:
    from ..tensor import Tensor

Shape = tuple[Dim, ...]


def wrap_dim(dim: int, ndim: int) -> int:
    """A dimension counted from the front.

    Raises:
        IndexError: there is no such dimension.
    """
    bound = max(ndim, 1)
    if not -bound <= dim < bound:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-bound}, {bound - 1}], but got "
            f"{dim})"
        )
    return dim % bound


def wrap_dims(dims: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Distinct dimensions counted from the front, ascending; None means all.

    Raises:
        RuntimeError: a dimension is named twice.
    """
    if dims is None or (not isinstance(dims, int) and len(dims) == 0):
        return tuple(range(ndim))
    given = [dims] if isinstance(dims, int) else list(dims)
    wrapped = [wrap_dim(d, ndim) for d in given]
    for dim in wrapped:
        if wrapped.count(dim) > 1:
            raise RuntimeError(f"dim {dim} appears multiple times in the list of dims")
    return tuple(sorted(wrapped)) if ndim else ()


def infer_shape(x: Tensor, shape: Sequence[Any]) -> Shape:
    """A requested shape with its -1 filled in.

    Raises:
        RuntimeError: the number of elements does not fit.
    """
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = shape[0]
    sizes = [asked(s) if isinstance(s, SymDim) else s.__index__() for s in shape]
    total = asked(size_of(shape_of(x)))
    unknown = [i for i, s in enumerate(sizes) if s == -1]
    if len(unknown) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if any(s < -1 for s in sizes):
        place = next(i for i, s in enumerate(sizes) if s < -1)
        raise RuntimeError(
            f"invalid shape dimension {sizes[place]} at index {place} of shape {sizes}"
        )
    if unknown:
        known = asked(size_of(s for s in sizes if s != -1))
        if known == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {sizes} because the unspecified "
                "dimension size -1 can be any value and is ambiguous"
            )
        sizes[unknown[0]] = total // known
    if size_of(sizes) != total:
        shape = [-1 if i in unknown else s for i, s in enumerate(sizes)]
        raise RuntimeError(f"shape '{shape}' is invalid for input of size {total}")
    return tuple(sizes)


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape: a view where memory allows, else a copy."""
    if not shape:
        raise MissingArgumentError('missing 1 required positional arguments: "shape"')
    result = apply_view(M.reshape, input, shape=infer_shape(input, shape))
    shared = result.storage is input.storage or 0 in shape_of(input)
    return named(result, "View" if shared else "UnsafeView")


def view(input: Tensor, *shape: Any) -> Tensor:
    """The same memory in another shape.

    Raises:
        RuntimeError: the memory's strides do not allow it.
    """
    from ...compiler.dtypes import DType

    if len(shape) == 1 and isinstance(shape[0], DType):
        raise RuntimeError("view(dtype) is not implemented; use .to(dtype) to convert")
    result = apply_view(M.reshape, input, shape=infer_shape(input, shape))
    if input.array is not None and result.storage is not input.storage and input.numel():
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one "
            "dimension "
            "spans across two contiguous subspaces). Use .reshape(...) instead."
        )
    return named(result, "View")


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Dimensions reordered, as a view."""
    if len(dims) == 1 and isinstance(dims[0], (tuple, list)):
        dims = tuple(dims[0])
    perm = tuple(wrap_dim(d, input.ndim) for d in dims)
    if sorted(perm) != list(range(input.ndim)):
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the "
            "length "
            f"of the desired ordering of dimensions i.e. input.dim() = {input.ndim} is not equal "
            "to "
            f"len(dims) = {len(dims)}"
            if len(perm) != input.ndim
            else "permute(): duplicate dims are not allowed."
        )
    return named(apply_view(M.transpose, input, perm=perm), "Permute")


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions swapped, as a view."""
    perm = list(range(input.ndim))
    a, b = wrap_dim(dim0, input.ndim), wrap_dim(dim1, input.ndim)
    if input.ndim:
        perm[a], perm[b] = perm[b], perm[a]
    return named(apply_view(M.transpose, input, perm=tuple(perm)), "Transpose")


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; fewer dimensions stay as they are."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    perm = tuple(reversed(range(input.ndim)))
    return named(apply_view(M.transpose, input, perm=perm), "T")


def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dimensions moved to new places, the others in order.

    Raises:
        RuntimeError: `source` and `destination` differ in length, or name a dimension twice.
    """
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    if len(sources) != len(targets):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({sources} dims) should contain "
            "the "
            f"same number of dims as destination ({targets} dims)"
        )
    taken = dict(
        zip(
            (wrap_dim(d, input.ndim) for d in targets),
            (wrap_dim(d, input.ndim) for d in sources),
            strict=True,
        )
    )
    if len(taken) != len(targets) or len(set(taken.values())) != len(sources):
        raise RuntimeError(
            f"movedim: repeated dim in `source` ({sources}) or `destination` ({targets})"
        )
    rest = iter([d for d in range(input.ndim) if d not in taken.values()])
    return permute(input, *(taken[d] if d in taken else next(rest) for d in range(input.ndim)))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A dimension of size 1 inserted, as a view."""
    place = wrap_dim(dim, input.ndim + 1)
    shape = shape_of(input)
    return named(
        apply_view(M.reshape, input, shape=(*shape[:place], 1, *shape[place:])), "Unsqueeze"
    )


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Dimensions of size 1 removed, as a view."""
    dims = wrap_dims(dim, input.ndim)
    shape = shape_of(input)
    kept = tuple(s for i, s in enumerate(shape) if not (i in dims and same_size(s, 1)))
    form = "Squeeze" if dim is None else f"SqueezeBackward{1 if isinstance(dim, int) else 2}"
    return named(apply_view(M.reshape, input, shape=kept), form)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions from start_dim to end_dim as one."""
    if input.ndim == 0:
        return reshape(input, 1)
    first, last = wrap_dim(start_dim, input.ndim), wrap_dim(end_dim, input.ndim)
    if first > last:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if first == last:
        return input
    shape = shape_of(input)
    merged = size_of(shape[first : last + 1])
    return reshape(input, (*shape[:first], merged, *shape[last + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension as several."""
    place = wrap_dim(dim, input.ndim)
    shape = shape_of(input)
    if -1 not in sizes and size_of(sizes) != shape[place]:
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {place} "
            f"({shape[place]}) in the input tensor"
        )
    return view(input, (*shape[:place], *sizes, *shape[place + 1 :]))


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Dimensions of size 1 repeated without memory, as a view; -1 keeps a size."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    own = shape_of(input)
    if len(sizes) < len(own):
        raise RuntimeError(
            f"expand(torch.{LEGACY_NAMES[input.dtype.long_name]}Tensor{{{list(own)}}}, "
            f"size={list(sizes)}): the number of sizes provided "
            f"({len(sizes)}) must be greater or equal to the number of dimensions in the tensor "
            f"({len(own)})"
        )
    offset = len(sizes) - len(own)
    shape = tuple(own[i - offset] if s == -1 and i >= offset else s for i, s in enumerate(sizes))
    for axis, size in enumerate(own):
        if not stretches(size, shape[axis + offset]):
            raise RuntimeError(
                f"The expanded size of the tensor ({shape[axis + offset]}) must match the existing "
                "size "
                f"({size}) at non-singleton dimension {axis + offset}.  Target sizes: "
                f"{list(sizes)}.  "
                f"Tensor sizes: {list(own)}"
            )
    dims = tuple(range(offset, len(shape)))
    return named(apply_view(M.broadcast, input, dims=dims, shape=shape), "Expand")


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """`expand` under NumPy's name."""
    return expand(input, *size)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` elements of a dimension from `start` on, as a view."""
    axis = wrap_dim(dim, input.ndim)
    shape = shape_of(input)
    size = asked(shape[axis])
    first: Dim = start + size if start < 0 else start
    if length < 0 or first + length > size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return window(input, {axis: (first, first + length, 1)})


def window(input: Tensor, ranges: dict[int, tuple[Dim, Dim, int]]) -> Tensor:
    """A strided window, as a view; dimensions without a range stay whole."""
    shape = shape_of(input)
    bounds = [ranges.get(axis, (0, size, 1)) for axis, size in enumerate(shape)]
    start, stop, step = (tuple(b[i] for b in bounds) for i in range(3))
    return named(apply_view(M.slice_, input, start=start, stop=stop, step=step), "Slice")


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One position of a dimension, which disappears."""
    axis = wrap_dim(dim, input.ndim)
    size = input.shape[axis]
    if not -size <= index < size:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input.shape)} at "
            f"dimension {axis}"
        )
    first = index if index >= 0 else size + index
    return named(squeeze(window(input, {axis: (first, first + 1, 1)}), axis), "Select")


def flip(input: Tensor, *dims: Any) -> Tensor:
    """Elements in reverse order along dims (a copy)."""
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    dims = wrap_dims(list(given), input.ndim) if given else ()
    return named(clone(apply(M.flip, input, dims=dims)), "Flip")


def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """The tensor tiled along each dimension (a copy)."""
    counts = repeats[0] if len(repeats) == 1 and isinstance(repeats[0], (tuple, list)) else repeats
    own = shape_of(input)
    if any(isinstance(count, int) and count < 0 for count in counts):
        raise RuntimeError(
            f"Trying to create tensor with negative dimension: repeats {list(counts)}"
        )
    if len(counts) < len(own):
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of "
            "tensor"
        )
    padded = (*(1,) * (len(counts) - len(own)), *own)
    spread = tuple(s for count, size in zip(counts, padded, strict=True) for s in (count, size))
    dims = tuple(range(1, len(spread), 2))
    tiled = clone(apply(M.broadcast, reshape(input, padded), dims=dims, shape=spread))
    shape = tuple(c * s for c, s in zip(counts, padded, strict=True))
    return named(apply(M.reshape, tiled, shape=shape), "Repeat")


def tile(input: Tensor, *dims: Any) -> Tensor:
    """`repeat` under NumPy's name: missing counts are 1."""
    counts = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return repeat(input, *(1,) * (input.ndim - len(counts)), *counts)


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(input, -1)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """The same memory in another tensor's shape."""
    return view(input, shape_of(other))


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """The same elements in another tensor's shape."""
    return reshape(input, shape_of(other))


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Repeated to another tensor's shape, as a view."""
    return expand(input, shape_of(other))


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dimensions as the last one: a view of contiguous memory, else a copy.

    `offset`: how far above the main diagonal.
    """
    rows, columns = wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
    if rows == columns:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    rest = [d for d in range(input.ndim) if d not in (rows, columns)]
    moved = (
        input
        if (rows, columns) == (input.ndim - 2, input.ndim - 1)
        else permute(input, *rest, rows, columns)
    )
    *batch, height, width = moved.shape
    flat = reshape(moved, (*batch, height * width))
    start = offset if offset >= 0 else -offset * width
    count = max(0, min(height.__index__() + min(offset, 0), width.__index__() - max(offset, 0)))
    stop = start + (count - 1) * (width + 1) + 1 if count else start
    last = len(batch)
    step = width.__index__() + 1
    bounds: tuple[Dim, Dim, int] = (start, stop, step) if count else (0, 0, 1)
    return named(window(flat, {last: bounds}), "Diagonal")


def roll(
    input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None
) -> Tensor:
    """Elements shifted along dimensions; what leaves at the end enters at the front."""
    if dims is None or dims == ():
        return named(roll(ravel(input), shifts, 0).reshape(shape_of(input)), "Roll")
    steps = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    if len(steps) != len(axes):
        raise RuntimeError(
            f"shifts and dimensions must align. shifts: {len(steps)}, dims:{len(axes)}"
        )
    result = input
    for step, dim in zip(steps, axes, strict=True):
        result = _rolled(result, step, wrap_dim(dim, input.ndim))
    return result


def _first_rolled(size: Any, step: int) -> Any:
    """Which position comes first after a roll."""
    if 0 <= step <= size:
        return size - step
    if -size <= step < 0:
        return -step
    return -step % size if size else 0


def _rolled(x: Tensor, step: int, axis: int) -> Tensor:
    size = shape_of(x)[axis]
    cut = _first_rolled(asked(size), step)
    parts = (window(x, {axis: (cut, size, 1)}), window(x, {axis: (0, cut, 1)}))
    return named(apply(M.concat, *parts, dim=axis), "Roll")
