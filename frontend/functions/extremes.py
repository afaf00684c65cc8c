"""The largest and smallest elements, where they are, and sorting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler import dtypes
from ...compiler.primitive import Primitive
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import reduce as R
from ..context import current
from ..core import TensorBase, from_array, shape_of
from ..create import full_like
from ..tape import apply
from .arithmetic import maximum, minimum
from .conversion import cast
from .elementwise import neg
from .labels import named
from .operands import require_tensor
from .pick import picked
from .reduce import Dims, kept, numpy_names, ravelled, reduced
from .return_types import Aminmax, Max, Min, Sort, TopK
from .shape import narrow, unsqueeze, wrap_dim, wrap_dims
from .sizes import same_size

if TYPE_CHECKING:
    from ..tensor import Tensor


def _require_elements(name: str, x: Tensor, dims: Dims, everything: bool) -> None:
    """Raises if a result would be an extremum of nothing."""
    shape = shape_of(x)
    empty = [axis for axis in dims if same_size(shape[axis], 0)]
    if empty and everything:
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
            "reduction dim with the 'dim' argument."
        )
    if empty:
        raise IndexError(f"{name}(): Expected reduction dim {empty[0]} to have non-zero size.")


def _over(name: str, primitive: Primitive) -> Any:
    def function(input: Tensor, dim: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
        require_tensor(name, input)
        dims = wrap_dims(dim, input.ndim)
        _require_elements(name, input, dims, dim in ((), []))
        return named(reduced(primitive, input, dims, keepdim), name.title())

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The {primitive.doc.split()[0]} over `dim`; equal ones share the gradient."
    return numpy_names(function)


amax = _over("amax", R.reduce_max)
amin = _over("amin", R.reduce_min)


def _ordered_up(x: Tensor) -> Tensor:
    """A tensor whose largest element is the smallest of `x` (and whose nans are `x`'s)."""
    return neg(x) if x.dtype.is_floating_point else apply(E.not_, x)


def _position(x: Tensor, axis: int) -> Tensor:
    """Where the first largest element along a dimension is."""
    if not x.ndim:
        return full_like(x, 0, dtype=dtypes.i64)
    comparable = cast(x, dtypes.u8) if x.dtype is dtypes.boolean else x
    return apply(R.argmax, comparable.detach(), dims=(axis,))


def _argument(name: str, smallest: bool) -> Any:
    def function(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        require_tensor(name, input)
        if input.dtype is dtypes.boolean:
            raise RuntimeError(f"{name}(): does not support bool input")
        if dim is None and any(same_size(size, 0) for size in shape_of(input)):
            raise IndexError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
            )
        x = ravelled(input) if dim is None else input
        axis = wrap_dim(dim or 0, x.ndim)
        _require_elements(name, x, (axis,) if x.ndim else (), False)
        found = _position(_ordered_up(x.detach()) if smallest else x, axis)
        reduced_dims = tuple(range(input.ndim)) if dim is None else (axis,)
        return kept(found, input, reduced_dims) if keepdim and input.ndim else found

    function.__name__ = function.__qualname__ = name
    which = "smallest" if smallest else "largest"
    function.__doc__ = (
        f"Index of the first {which} element along `dim`, or of all elements in order."
    )
    return numpy_names(function)


argmax = _argument("argmax", smallest=False)
argmin = _argument("argmin", smallest=True)


def _extremum(name: str, primitive: Primitive, binary: Any, result_type: Any) -> Any:
    smallest = primitive is R.reduce_min

    def along(x: Tensor, dim: int, keepdim: bool) -> Any:
        axis = wrap_dim(dim, x.ndim)
        dims = (axis,) if x.ndim else ()
        _require_elements(name, x, dims, False)
        indices = _position(_ordered_up(x.detach()) if smallest else x, axis)
        if current().grad and x._requires_grad and x.ndim:
            values = picked(x, indices, axis)
        else:
            values = reduced(primitive, x, dims)
        if keepdim and x.ndim:
            values, indices = kept(values, x, dims), kept(indices, x, dims)
        return result_type(named(values, name.title()), indices)

    def function(
        input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None
    ) -> Any:
        require_tensor(name, input)
        if isinstance(dim, TensorBase) or other is not None:
            return binary(input, dim if other is None else other)
        if dim is not None:
            return along(input, dim, keepdim)
        dims = tuple(range(input.ndim))
        _require_elements(name, input, dims, True)
        return named(reduced(primitive, input, dims), f"{name.title()}Backward1")

    function.__name__ = function.__qualname__ = name
    which = "smallest" if smallest else "largest"
    function.__doc__ = f"""The {which} element; along `dim` its index, too; or that of two.

    Returns:
        A tensor, or with `dim` the pair (values, indices). Along `dim` a tie's first element gets
        the gradient; without `dim` equal ones share it.
    """
    return numpy_names(function)


max = _extremum("max", R.reduce_max, maximum, Max)
min = _extremum("min", R.reduce_min, minimum, Min)


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest element over `dim`."""
    dims: Any = () if dim is None else dim
    return Aminmax(
        named(amin(input, dims, keepdim), "Aminmax"), named(amax(input, dims, keepdim), "Aminmax")
    )


def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> Tensor:
    """The indices that sort a dimension; equal elements keep their order, nan is the largest.

    Raises:
        UntraceableError: in a trace; there is no sorting primitive yet.
    """
    array = input._memory("argsort()")
    if not array.ndim:
        return from_array(np.zeros((), np.int64))
    axis = wrap_dim(dim, array.ndim)
    if not descending:
        return from_array(np.argsort(array, axis=axis, kind="stable"))
    last = array.shape[axis] - 1
    backwards = np.argsort(np.flip(array, axis), axis=axis, kind="stable")
    return from_array(np.ascontiguousarray(last - np.flip(backwards, axis)))


def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    """The elements in order along a dimension, and where they were; see `argsort`."""
    indices = argsort(input, dim, descending)
    return Sort(_taken(input, indices, dim, "Sort"), indices)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The `k` largest (or smallest) elements along a dimension in order, and where they are.

    Raises:
        RuntimeError: there are fewer than `k`.
        UntraceableError: in a trace.
    """
    axis = wrap_dim(dim, input.ndim)
    size = shape_of(input)[axis] if input.ndim else 1
    if k < 0 or k > size:
        raise RuntimeError("selected index k out of range")
    indices = argsort(input, dim, largest)
    if input.ndim:
        indices = narrow(indices, axis, 0, k).contiguous()
    return TopK(_taken(input, indices, axis, "Topk"), indices)


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements in order (or slices along `dim`).

    Returns:
        A tensor, or with flags a tuple: also where each element went, how often each occurs.

    Raises:
        UntraceableError: in a trace: the result's size is data.
    """
    array = input._memory("unique()")
    axis = None if dim is None else wrap_dim(dim, array.ndim)
    values, inverse, counts = np.unique(
        array, return_inverse=True, return_counts=True, axis=axis, equal_nan=False
    )
    found = [(values, True), (inverse, return_inverse), (counts, return_counts)]
    wanted = tuple(from_array(part) for part, asked in found if asked)
    return wanted if len(wanted) > 1 else wanted[0]


def _taken(input: Tensor, indices: Tensor, dim: int, label: str) -> Tensor:
    from .gather import gather

    if not input.ndim:
        return named(gather(unsqueeze(input, 0), 0, unsqueeze(indices, 0)).squeeze(0), label)
    return named(gather(input, dim, indices), label)
