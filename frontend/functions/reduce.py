"""Reductions: sums, means, products, counts and quantifiers over some or all dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ...compiler import dtypes
from ...compiler.aval import size_of
from ...compiler.dtypes import DType
from ...compiler.primitive import Primitive
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import movement as M
from ...compiler.primitives import reduce as R
from ..core import shape_of
from ..tape import apply
from .arithmetic import add, div, sub
from .conversion import clone
from .dtype_names import LEGACY_NAMES
from .elementwise import abs, exp, log
from .labels import named
from .logic import as_bool, eq, where
from .operands import as_float, require_tensor
from .promotion import converted
from .shape import reshape, wrap_dims
from .sizes import count_of

if TYPE_CHECKING:
    from ..tensor import Tensor

P = ParamSpec("P")
T = TypeVar("T")
Dims = tuple[int, ...]
DimArgument = int | Sequence[int] | None


def numpy_names(function: Callable[P, T]) -> Callable[P, T]:
    """Lets a reduction take NumPy's `axis` and `keepdims` for `dim` and `keepdim`."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for theirs, ours in (("axis", "dim"), ("keepdims", "keepdim")):
            if theirs in kwargs:
                kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return wrapped


def reduced(primitive: Primitive, x: Tensor, dims: Dims, keepdim: bool = False) -> Tensor:
    """`x` combined along `dims`, which disappear or, with `keepdim`, get size 1."""
    result = apply(primitive, x, dims=dims) if dims else clone(x)
    return kept(result, x, dims) if keepdim and dims else result


def kept(result: Tensor, x: Tensor, dims: Dims) -> Tensor:
    """A reduction of `x` with the reduced dimensions back, of size 1."""
    shape = tuple(1 if axis in dims else size for axis, size in enumerate(shape_of(x)))
    return apply(M.reshape, result, shape=shape)


def spread(result: Tensor, x: Tensor, dims: Dims) -> Tensor:
    """A reduction of `x` repeated along the reduced dimensions, to `x`'s shape."""
    if not dims:
        return result
    rest = tuple(axis for axis in range(x.ndim) if axis not in dims)
    return apply(M.broadcast, result, dims=rest, shape=shape_of(x))


def reduced_count(x: Tensor, dims: Dims) -> Any:
    """How many elements are combined into one, as an operand."""
    shape = shape_of(x)
    return count_of(shape[axis] for axis in dims)


def numbered(name: str, dim: object) -> str:
    """PyTorch's names for the two forms of a reduction: of everything, and along dimensions."""
    return name if dim is None else f"{name}Backward1"


def _summable(input: Tensor, dtype: DType | None) -> Tensor:
    """The operand of a sum or product: integers are added in int64."""
    target = dtype or (input.dtype if input.dtype.is_floating_point else dtypes.i64)
    return converted(input, target)  # type: ignore[return-value]  # a tensor stays one


@numpy_names
def sum(
    input: Tensor, dim: DimArgument = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The sum over `dim` (all, if left out); of integers in int64, unless `dtype` is given."""
    require_tensor("sum", input)
    x = _summable(input, dtype)
    result = reduced(R.reduce_sum, x, wrap_dims(dim, x.ndim), keepdim)
    return named(result, numbered("Sum", dim))


@numpy_names
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The product over `dim` (all, if left out); of integers in int64, unless `dtype` is given."""
    require_tensor("prod", input)
    x = _summable(input, dtype)
    result = reduced(R.reduce_prod, x, wrap_dims(dim, x.ndim), keepdim)
    return named(result, numbered("Prod", dim))


@numpy_names
def mean(
    input: Tensor, dim: DimArgument = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The mean over `dim` (all, if left out).

    Raises:
        RuntimeError: the tensor is not floating and no floating `dtype` is given.
    """
    require_tensor("mean", input)
    chosen = dtype or input.dtype
    if not chosen.is_floating_point:
        raise RuntimeError(
            f"mean(): could not infer output dtype. {'Optional' if dtype else 'Input'} dtype must "
            "be "
            f"either a floating point or complex dtype. Got: {LEGACY_NAMES[chosen.long_name]}"
        )
    x: Tensor = converted(input, chosen)  # type: ignore[assignment]  # a tensor stays one
    return named(mean_over(x, wrap_dims(dim, x.ndim), keepdim), numbered("Mean", dim))


def mean_over(x: Tensor, dims: Dims, keepdim: bool = False) -> Tensor:
    """The mean of floats over `dims`."""
    total = reduced(R.reduce_sum, x, dims, keepdim)
    count = reduced_count(x, dims)
    if isinstance(count, int):
        return total if count == 1 else apply(E.div, total, float(count))
    return div(total, count)


def _quantifier(name: str, primitive: Primitive, doc: str) -> Any:
    def function(input: Tensor, dim: DimArgument = None, keepdim: bool = False) -> Tensor:
        require_tensor(name, input)
        dims = () if dim in ((), []) else wrap_dims(dim, input.ndim)
        result = reduced(primitive, as_bool(input), dims, keepdim)
        return result.to(dtypes.u8) if input.dtype is dtypes.u8 else result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return numpy_names(function)


all = _quantifier("all", R.reduce_min, "Whether every element over `dim` differs from zero.")
any = _quantifier("any", R.reduce_max, "Whether any element over `dim` differs from zero.")


@numpy_names
def count_nonzero(input: Tensor, dim: DimArgument = None) -> Tensor:
    """How many elements over `dim` differ from zero."""
    require_tensor("count_nonzero", input)
    return reduced(R.reduce_sum, as_bool(input).to(dtypes.i64), wrap_dims(dim, input.ndim))


@numpy_names
def logsumexp(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over `dim`, without overflow: the largest element is taken out first."""
    require_tensor("logsumexp", input)
    x = as_float(input)
    dims = wrap_dims(dim, x.ndim)
    largest = finite_max(x, dims)
    total = reduced(R.reduce_sum, exp(sub(x, spread(largest, x, dims))), dims)
    result = add(log(total), largest)
    return named(kept(result, x, dims) if keepdim and dims else result, "Logsumexp")


def finite_max(x: Tensor, dims: Dims) -> Tensor:
    """The largest element over `dims`, as a constant; 0 where that is infinite."""
    largest = reduced(R.reduce_max, x.detach(), dims)
    finite: Tensor = where(eq(abs(largest), float("inf")), 0.0, largest)
    return finite


@numpy_names
def nansum(
    input: Tensor, dim: DimArgument = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The sum over `dim` with nan counted as 0."""
    require_tensor("nansum", input)
    total: Any = sum(where(eq(input, input), input, 0), dim, keepdim, dtype=dtype)
    return named(total, "Nansum")


def ravelled(x: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(x, (size_of(shape_of(x)),))
