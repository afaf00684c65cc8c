"""Random tensors, drawn from a generator: PyTorch's numbers for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler import dtypes
from ...compiler.aval import Dim
from ...compiler.dtypes import DType
from ...compiler.primitives import mt19937
from ...compiler.primitives import random as P
from ..arguments import explained
from ..core import TensorBase, from_array, shape_of
from ..create import require_cpu, sizes_of
from ..defaults import default_float
from ..generator import Generator, default_generator
from ..inplace import assign
from .arithmetic import add, div, mul
from .checks import check_all
from .conversion import cast
from .dtype_names import LEGACY_NAMES
from .elementwise import log1p, neg
from .extremes import argmax, topk
from .logic import le, logical_and, lt
from .promotion import broadcast_to, converted

if TYPE_CHECKING:
    from ..tensor import Tensor

Shape = tuple[Dim, ...]


def _source(generator: Generator | None) -> Generator:
    return generator or default_generator


def _require_float(name: str, dtype: DType) -> None:
    if not dtype.is_floating_point:
        raise NotImplementedError(
            f"\"{name}\" not implemented for '{LEGACY_NAMES[dtype.long_name]}'"
        )


def _made(result: Tensor, requires_grad: bool) -> Tensor:
    return result.requires_grad_() if requires_grad else result


# --- new tensors ----------------------------------------------------------------------------------


@explained
def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from [0, 1)."""
    require_cpu(device)
    chosen = dtype or default_float()
    _require_float("check_uniform_bounds", chosen)
    drawn = _source(generator).draw(P.uniform, dtype=chosen, shape=sizes_of(size))
    return _made(drawn, requires_grad)


@explained
def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from the standard normal distribution."""
    require_cpu(device)
    chosen = dtype or default_float()
    _require_float("normal_kernel_cpu", chosen)
    drawn = _source(generator).draw(P.normal, dtype=chosen, shape=sizes_of(size))
    return _made(drawn, requires_grad)


@explained
def rand_like(
    input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`rand` of the shape and dtype of `input`."""
    chosen = dtype or input.dtype
    return rand(shape_of(input), dtype=chosen, device=device, requires_grad=requires_grad)


@explained
def randn_like(
    input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`randn` of the shape and dtype of `input`."""
    chosen = dtype or input.dtype
    return randn(shape_of(input), dtype=chosen, device=device, requires_grad=requires_grad)


@explained
def randint(
    *args: Any,
    low: int = 0,
    high: int | None = None,
    size: Sequence[int] | None = None,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Integers from [low, high): `randint(high, size)` or `randint(low, high, size)`.

    Raises:
        RuntimeError: the interval is empty.
    """
    require_cpu(device)
    numbers = list(args)
    if size is None:
        size = numbers.pop()
    if high is None:
        high = numbers.pop()
    if numbers:
        low = numbers.pop()
    if numbers:
        raise TypeError("randint() takes high and size, or low, high and size")
    drawn = draw_integers(low, high, sizes_of((tuple(size),)), generator)
    wanted = dtype or dtypes.i64
    return _made(drawn if wanted is dtypes.i64 else cast(drawn, wanted), requires_grad)


@explained
def randint_like(input: Tensor, *bounds: int, dtype: DType | None = None) -> Tensor:
    """`randint` of the shape and dtype of `input`."""
    return randint(*bounds, shape_of(input), dtype=dtype or input.dtype)


def draw_integers(low: Any, high: Any, shape: Shape, generator: Generator | None) -> Tensor:
    """Integers from [low, high) in int64."""
    for bound in (low, high):
        if not hasattr(bound, "__index__"):
            raise TypeError(f"the bounds must be ints, not {type(bound).__name__}")
    first, last = low.__index__(), high.__index__()
    if first >= last:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={first} >= to={last}"
        )
    return _source(generator).draw(P.integers, low=first, high=last, shape=shape)


@explained
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Any = None,
) -> Tensor:
    """The numbers from 0 to n - 1 in random order.

    Raises:
        UntraceableError: in a trace; there is no such primitive yet.
    """
    require_cpu(device)
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    source = _source(generator)
    values, after = mt19937.permutation(source.state._memory("randperm()"), n)
    assign(source.state, from_array(after), checked=False)
    return from_array(values).to(dtype or dtypes.i64)


@explained
def normal(
    mean: Any,
    std: Any = 1.0,
    size: Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers: of one mean and deviation in a given size, or of a tensor of either each."""
    if size is not None:
        _require_deviation(std)
        shape, numbers = sizes_of((tuple(size),)), {"mean": float(mean), "std": float(std)}
        return _source(generator).draw(
            P.normal_scaled, dtype=default_float(), shape=shape, **numbers
        )
    given = [x for x in (mean, std) if isinstance(x, TensorBase)]
    shape = (given[0] * given[1] if len(given) > 1 else given[0]).shape  # type: ignore[operator]  # tensors multiply
    standard = randn(shape, generator=generator, dtype=given[0].dtype)
    return add(mul(standard, std), mean)


def _require_deviation(std: float) -> None:
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")


def draw_bernoulli(p: float, shape: Shape, generator: Generator | None = None) -> Tensor:
    """Bools that are true with probability `p`."""
    return _source(generator).draw(P.bernoulli, p=float(p), shape=shape)


def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with the probability that each element of `input` is (or with `p`), else 0."""
    if p is not None:
        return cast(draw_bernoulli(p, shape_of(input), generator), input.dtype)
    return cast(_bernoulli_each(input, generator), input.dtype)


def _bernoulli_each(probabilities: Tensor, generator: Generator | None) -> Tensor:
    _require_float("bernoulli_tensor_cpu_p_", probabilities.dtype)
    inside = logical_and(le(0, probabilities), le(probabilities, 1))
    check_all(inside, RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false."))
    shape, dtype = shape_of(probabilities), probabilities.dtype
    wide = dtype if dtype is dtypes.f64 else dtypes.f32
    return lt(
        _source(generator).draw(P.uniform, dtype=wide, shape=shape), converted(probabilities, wide)
    )


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Indices drawn with the probabilities (or weights) in each row of `input`.

    `input`: (categories) or (rows, categories).

    `replacement`: whether an index may come up again.

    Raises:
        RuntimeError: the weights are no distribution, or too few.
        UntraceableError: in a trace.
    """
    weights = input._memory("multinomial()")
    _require_distribution(input, weights, num_samples, replacement)
    if replacement:
        return _with_replacement(weights, num_samples, _source(generator))
    exponential = exponential_(_blank(input), generator=generator)
    scores = div(input.detach(), exponential)
    if num_samples == 1:
        indices: Tensor = argmax(scores, -1, keepdim=True)
    else:
        indices = topk(scores, num_samples).indices
    return indices


def _blank(x: Tensor) -> Tensor:
    """A tensor to draw into."""
    return from_array(np.empty(shape_of(x), x.dtype.numpy))


def _require_distribution(x: Tensor, weights: Any, count: int, replacement: bool) -> None:
    if x.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not x.dtype.is_floating_point:
        raise RuntimeError(
            "multinomial only supports floating-point dtypes for input, got: "
            f"{LEGACY_NAMES[x.dtype.long_name]}"
        )
    if not replacement and count > weights.shape[-1]:
        raise RuntimeError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement"
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (weights.sum(-1) <= 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")


def _with_replacement(weights: Any, count: int, source: Generator) -> Tensor:
    """For each uniform number the first category whose cumulative probability reaches it."""
    rows = np.atleast_2d(weights)
    shape = (len(rows), count)
    uniforms, after = mt19937.uniform(source.state._memory("multinomial()"), shape, dtypes.f64)
    assign(source.state, from_array(after), checked=False)
    cumulative = np.cumsum(rows, axis=1, dtype=rows.dtype)
    cumulative /= cumulative[:, -1:].copy()
    found = [np.searchsorted(c, u) for c, u in zip(cumulative, uniforms, strict=True)]
    return from_array(np.array(found, np.int64).reshape(*weights.shape[:-1], count))


# --- in place -------------------------------------------------------------------------------------


def uniform_(
    x: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fills `x` with numbers from [low, high)."""
    _require_float("check_uniform_bounds", x.dtype)
    if low > high:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}"
        )
    sampler, bounds = P.uniform, {}
    if (low, high) != (0, 1):
        sampler, bounds = P.uniform_between, {"low": float(low), "high": float(high)}
    return assign(x, _source(generator).draw(sampler, dtype=x.dtype, shape=shape_of(x), **bounds))


def normal_(
    x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fills `x` with normal numbers."""
    _require_float("normal_kernel_cpu", x.dtype)
    _require_deviation(std)
    sampler, numbers = P.normal, {}
    if (mean, std) != (0, 1):
        sampler, numbers = P.normal_scaled, {"mean": float(mean), "std": float(std)}
    return assign(x, _source(generator).draw(sampler, dtype=x.dtype, shape=shape_of(x), **numbers))


def bernoulli_(x: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fills `x` with ones, of probability `p` (a number or a tensor), and zeros."""
    if isinstance(p, TensorBase):
        each: Tensor = broadcast_to(p, shape_of(x))  # type: ignore[arg-type]  # a TensorBase is a Tensor
        return assign(x, cast(_bernoulli_each(each, generator), x.dtype))
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    return assign(x, cast(draw_bernoulli(p, shape_of(x), generator), x.dtype))


def exponential_(x: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills `x` with exponentially distributed numbers of mean 1 / lambd."""
    uniform = _source(generator).draw(P.uniform, dtype=dtypes.f64, shape=shape_of(x))
    return assign(x, cast(div(neg(log1p(neg(uniform))), lambd), x.dtype))


def random_(
    x: Tensor, low: int, high: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Fills `x` with integers from [low, high), or from [0, low) if only that is given."""
    first, last = (0, low) if high is None else (low, high)
    return assign(x, cast(draw_integers(first, last, shape_of(x), generator), x.dtype))
