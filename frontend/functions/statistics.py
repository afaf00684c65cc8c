"""Variance and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...compiler.aval import SymDim, size_of
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import reduce as R
from ..context import current
from ..core import shape_of
from ..frames import warn
from ..tape import apply
from .arithmetic import div, mul, sub
from .elementwise import sqrt
from .labels import named
from .logic import chosen, eq
from .operands import require_tensor
from .reduce import Dims, kept, mean_over, numpy_names, reduced, spread
from .shape import wrap_dims
from .sizes import size_operand

if TYPE_CHECKING:
    from ..tensor import Tensor

_UNSET: Any = object()


def _arguments(
    dim: Any, unbiased: bool | None, correction: Any
) -> tuple[int | Sequence[int] | None, float]:
    """The dimensions and what is taken off the count; `var(False)` has `unbiased` for `dim`."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is not _UNSET and correction is not None:
        return dim, correction
    return dim, 1 if unbiased is None else int(unbiased)


def moments(x: Tensor, dims: Dims, correction: float) -> tuple[Tensor, Tensor]:
    """Variance and mean over `dims`: the mean square of what deviates from the mean."""
    mean = mean_over(x, dims)
    centred = sub(x, spread(mean, x, dims))
    total = reduced(R.reduce_sum, mul(centred, centred), dims)
    return div(total, _freedom(x, dims, correction)), mean


def _freedom(x: Tensor, dims: Dims, correction: float) -> Any:
    """The count to divide by, not below 0."""
    count = size_of(shape_of(x)[d] for d in dims)
    if not isinstance(count, SymDim):
        return max(0, count - correction)
    left = sub(size_operand(count), correction) if correction else size_operand(count)
    return apply(E.maximum, left, 0)


def _warn_of_freedom(name: str, x: Tensor, dims: Dims, correction: float) -> None:
    count = size_of(shape_of(x)[d] for d in dims)
    if not isinstance(count, SymDim) and count <= correction:
        warn(
            f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the "
            "reduction factor (input numel divided by output numel)."
        )


def square_root(x: Tensor) -> Tensor:
    """The root of what is not negative, with gradient 0 at 0 (where the true one is infinite)."""
    if not (current().grad and x._requires_grad):
        return sqrt(x)
    zero = eq(x, 0)
    return chosen(zero, 0.0, sqrt(chosen(zero, 1.0, x)))


def _spread_measure(name: str, root: bool, with_mean: bool, doc: str) -> Any:
    label = "".join(part.title() for part in name.split("_"))

    def function(
        input: Tensor,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: Any = _UNSET,
    ) -> Any:
        require_tensor(name, input)
        if not input.dtype.is_floating_point:
            raise RuntimeError("std and var only support floating point and complex dtypes")
        over, less = _arguments(dim, unbiased, correction)
        dims = wrap_dims(over, input.ndim)
        _warn_of_freedom(name, input, dims, less)
        variance, mean = moments(input, dims, less)
        results = [square_root(variance) if root else variance, mean]
        if keepdim and dims:
            results = [kept(r, input, dims) for r in results]
        labelled = tuple(named(r, label) for r in results)
        return labelled if with_mean else labelled[0]

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{doc} over `dim` (all, if left out).

    Args:
        unbiased: divide by the count less 1 (the default) or by the count.
        correction: what to take off the count instead.
    """
    return numpy_names(function)


var = _spread_measure("var", False, False, "The variance")
std = _spread_measure("std", True, False, "The standard deviation")
var_mean = _spread_measure("var_mean", False, True, "The variance and the mean")
std_mean = _spread_measure("std_mean", True, True, "The standard deviation and the mean")
