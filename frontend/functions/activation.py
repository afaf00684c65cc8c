"""Activation functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...compiler import dtypes
from ...compiler.dtypes import DType
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import reduce as R
from ..core import shape_of
from ..frames import warn
from ..inplace import assign
from ..tape import apply
from .arithmetic import add, div, minimum, mul, sub
from .dtype_names import LEGACY_NAMES
from .elementwise import abs, erf, exp, expm1, log, log1p, neg, sigmoid, tanh
from .joining import chunk
from .labels import named
from .logic import chosen, le, lt
from .operands import require_tensor
from .promotion import converted
from .reduce import reduced, spread
from .shape import reshape, wrap_dim

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _require_float(name: str, x: Tensor) -> None:
    require_tensor(name, x)
    if not x.dtype.is_floating_point:
        raise NotImplementedError(
            f"\"{name}\" not implemented for '{LEGACY_NAMES[x.dtype.long_name]}'"
        )


def _finished(input: Tensor, result: Tensor, label: str, inplace: bool) -> Tensor:
    named(result, label)
    return assign(input, result) if inplace else result


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0); its gradient at 0 is 0, and nan stays."""
    require_tensor("relu", input)
    if input.dtype is dtypes.boolean:
        raise RuntimeError("Boolean inputs not supported for relu")
    zero = converted(0, input.dtype)
    result = apply(E.select, apply(E.le, input, zero), zero, input)
    return _finished(input, result, "Relu", inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input times the normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415).

    `approximate`: "none", or "tanh" for 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    """
    _require_float("GeluKernelImpl", input)
    if approximate == "none":
        share = add(erf(mul(input, math.sqrt(0.5))), 1)
        return named(mul(mul(input, 0.5), share), "Gelu")
    if approximate != "tanh":
        raise RuntimeError("approximate argument must be either none or tanh.")
    cube = mul(mul(input, input), input)
    inner = mul(add(input, mul(cube, 0.044715)), math.sqrt(2 / math.pi))
    return named(mul(mul(input, 0.5), add(tanh(inner), 1)), "Gelu")


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input)."""
    _require_float("silu_cpu", input)
    return _finished(input, mul(input, sigmoid(input)), "Silu", inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * tanh(softplus(input))."""
    _require_float("mish_cpu", input)
    return _finished(input, mul(input, tanh(softplus(input))), "Mish", inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where positive, elsewhere input * negative_slope."""
    _require_float("leaky_relu_cpu", input)
    result = chosen(lt(0, input), input, mul(input, negative_slope))
    return _finished(input, result, "LeakyRelu", inplace)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """input where positive, elsewhere input * weight (one, or one a channel)."""
    if weight.ndim == 1 and shape_of(weight) != (1,) and input.ndim > 1:
        trailing = (1,) * (input.ndim - 2)
        weight = reshape(weight, (-1, *trailing))
    return named(chosen(lt(0, input), input, mul(input, weight)), "PreluKernel")


def _exponential_below(x: Tensor, alpha: float, scale: float, inner: float) -> Tensor:
    """scale * x where positive, else scale * alpha * (exp(inner * x) - 1), never overflowing."""
    positive = lt(0, x)
    below = mul(expm1(mul(chosen(positive, 0.0, x), inner)), alpha * scale)
    return chosen(positive, mul(x, scale) if scale != 1 else x, below)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where positive, elsewhere alpha * (exp(input) - 1)."""
    _require_float("elu_cpu", input)
    return _finished(input, _exponential_below(input, alpha, 1.0, 1.0), "Elu", inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where positive, elsewhere alpha * (exp(input / alpha) - 1)."""
    _require_float("elu_cpu", input)
    return _finished(input, _exponential_below(input, alpha, 1.0, 1 / alpha), "Celu", inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """`elu` scaled to keep mean and variance (Klambauer et al., arXiv 1706.02515)."""
    _require_float("elu_cpu", input)
    result = _exponential_below(input, _SELU_ALPHA, _SELU_SCALE, 1.0)
    return _finished(input, result, "Elu", inplace)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * input)) / beta; input itself where beta * input is above `threshold`."""
    _require_float("softplus_cpu", input)
    scaled = mul(input, beta)
    linear = lt(threshold, scaled)
    curved = div(log1p(exp(chosen(linear, 0.0, scaled))), beta)
    return named(chosen(linear, input, curved), "Softplus")


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input)), accurate at both ends."""
    _require_float("log_sigmoid_cpu", input)
    result = sub(minimum(input, 0), log1p(exp(neg(abs(input)))))
    return named(result, "LogSigmoid")


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """input within the bounds; the gradient at a bound is 0."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    low, high = converted(min_val, input.dtype), converted(max_val, input.dtype)
    result = chosen(le(input, low), low, chosen(le(high, input), high, input))
    return _finished(input, result, "Hardtanh", inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(input, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """(input + 3) / 6, from 0 to 1."""
    _require_float("hardsigmoid_cpu", input)
    return _finished(input, div(relu6(add(input, 3)), 6), "Hardsigmoid", inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * (input + 3) / 6 from -3 to 3, below 0, above input itself."""
    _require_float("hardswish_cpu", input)
    curved = div(mul(input, add(input, 3)), 6)
    result = chosen(lt(input, -3), 0.0, chosen(le(input, 3), curved, input))
    return _finished(input, result, "Hardswish", inplace)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """input above the threshold, elsewhere `value`."""
    result = chosen(le(input, threshold), converted(value, input.dtype), input)
    return _finished(input, result, "Threshold", inplace)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input moved towards 0 by `lambd`, and 0 where it would pass it."""
    low = chosen(lt(input, -lambd), add(input, lambd), mul(input, 0))
    return named(chosen(lt(lambd, input), sub(input, lambd), low), "Softshrink")


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 from -lambd to lambd, elsewhere input."""
    return named(chosen(le(abs(input), lambd), 0.0, input), "Hardshrink")


def softsign(input: Tensor) -> Tensor:
    """input / (1 + |input|)."""
    return div(input, add(abs(input), 1))


def tanhshrink(input: Tensor) -> Tensor:
    """input - tanh(input)."""
    return sub(input, tanh(input))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of a dimension times the sigmoid of the second."""
    axis = wrap_dim(dim, input.ndim)
    size = shape_of(input)[axis]
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {axis} is size {size}")
    first, second = chunk(input, 2, axis)
    return named(mul(first, sigmoid(second)), "Glu")


def _normalised(
    name: str, input: Tensor, dim: int | None, dtype: DType | None
) -> tuple[Tensor, int]:
    """The operand in the dtype to compute in, and the dimension; PyTorch's guess if left out."""
    require_tensor(name, input)
    if dim is None:
        warn(
            f"Implicit dimension choice for {name} has been deprecated. Change the call to include "
            "dim=X as an argument."
        )
        dim = 0 if input.ndim in (0, 1, 3) else 1
    axis = wrap_dim(dim, input.ndim)
    x: Any = input if dtype is None else converted(input, dtype)
    last = "_lastdim" if axis == x.ndim - 1 else ""
    _require_float(f"{name}{last}_kernel_impl", x)
    return x, axis


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """exp(input) scaled to sum to 1 along `dim`; the largest element is taken out first."""
    x, axis = _normalised("softmax", input, dim, dtype)
    dims = (axis,) if x.ndim else ()
    shifted = sub(x, spread(reduced(R.reduce_max, x.detach(), dims), x, dims))
    exponentials = exp(shifted)
    total = reduced(R.reduce_sum, exponentials, dims)
    return named(div(exponentials, spread(total, x, dims)), "Softmax")


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """log(softmax(input)), accurate where that is near 0."""
    x, axis = _normalised("log_softmax", input, dim, dtype)
    dims = (axis,) if x.ndim else ()
    shifted = sub(x, spread(reduced(R.reduce_max, x.detach(), dims), x, dims))
    total = log(reduced(R.reduce_sum, exp(shifted), dims))
    return named(sub(shifted, spread(total, x, dims)), "LogSoftmax")


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """The softmax of -input."""
    return softmax(neg(input), dim, dtype=dtype)
