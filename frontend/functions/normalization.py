"""Normalisation: of layers, and of vectors to length 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core import shape_of
from ..frames import place
from .arithmetic import add, clamp_min, div, mul, sub
from .dtype_names import LEGACY_NAMES
from .elementwise import rsqrt
from .labels import named
from .norms import vector_norm
from .reduce import mean_over, spread, sum
from .shape import reshape

if TYPE_CHECKING:
    from ..tensor import Tensor


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The last dimensions brought to mean 0 and variance 1, then times `weight` plus `bias`.

    Source: Ba, Kiros, Hinton, Layer Normalization, arXiv 1607.06450.
    """
    dims = _normalized_dims(input, normalized_shape, weight, bias)
    if not input.dtype.is_floating_point:
        name = LEGACY_NAMES[input.dtype.long_name]
        raise NotImplementedError(f"\"LayerNormKernelImpl\" not implemented for '{name}'")
    result = _standardised(input, dims, eps)
    if weight is not None:
        result = mul(result, weight)
    if bias is not None:
        result = add(result, bias)
    return named(result, "NativeLayerNorm")


def _normalized_dims(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None
) -> tuple[int, ...]:
    """The last dimensions, after checks that they and the parameters have the given sizes."""
    if isinstance(normalized_shape, int):
        raise TypeError(
            "layer_norm(): argument 'normalized_shape' (position 2) must be tuple of ints, not int"
        )
    wanted = list(normalized_shape)
    if not wanted:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
            "element, but got normalized_shape = []"
        )
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and list(shape_of(parameter)) != wanted:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(shape_of(parameter))} and normalized_shape = {wanted}"
            )
    own = list(shape_of(input))
    if own[len(own) - len(wanted) :] != wanted or len(own) < len(wanted):
        sizes = ", ".join(map(str, wanted))
        raise RuntimeError(
            f"Given normalized_shape={wanted}, expected input with shape [*, {sizes}], but got "
            "input of "
            f"size{own}{place()}"
        )
    return tuple(range(len(own) - len(wanted), len(own)))


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """The last dimensions divided by the root of their mean square, then times `weight`.

    `eps`: added under the root; by default the dtype's machine epsilon.

    Source: Zhang, Sennrich, Root Mean Square Layer Normalization, arXiv 1910.07467.
    """
    dims = _normalized_dims(input, normalized_shape, weight, None)
    small = float(np.finfo(input.dtype.numpy.name).eps) if eps is None else eps
    square = mean_over(mul(input, input), dims)
    result = mul(input, spread(rsqrt(add(square, small)), input, dims))
    return mul(result, weight) if weight is not None else result


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Groups of channels (dimension 1) brought to mean 0 and variance 1, times weight plus bias.

    Source: Wu, He, Group Normalization, arXiv 1803.08494.
    """
    batch, channels, *rest = shape_of(input)
    if channels % num_groups:
        raise RuntimeError(
            "Expected number of channels in input to be divisible by num_groups, but got input of "
            f"shape {list(shape_of(input))} and num_groups={num_groups}{place()}"
        )
    groups = reshape(input, (batch, num_groups, channels // num_groups, *rest))
    dims = tuple(range(2, groups.ndim))
    result = reshape(_standardised(groups, dims, eps), shape_of(input))
    factors = (channels, *(1,) * len(rest))
    if weight is not None:
        result = mul(result, reshape(weight, factors))
    if bias is not None:
        result = add(result, reshape(bias, factors))
    return named(result, "NativeGroupNorm")


def _standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """Mean 0 and variance 1 over `dims`."""
    centred = sub(x, spread(mean_over(x, dims), x, dims))
    variance = mean_over(mul(centred, centred), dims)
    return mul(centred, spread(rsqrt(add(variance, eps)), x, dims))


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divided by its norm along `dim`, or by `eps` if that is larger."""
    return div(input, clamp_min(vector_norm(input, p, dim, keepdim=True), eps))


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The inner product along `dim` over the product of the norms, each at least `eps`."""
    return sum(mul(normalize(x1, 2.0, dim, eps), normalize(x2, 2.0, dim, eps)), dim)
