"""Losses that compare elements: of regression, of binary decisions, of distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...compiler.primitives import elementwise as E
from ...compiler.primitives import reduce as R
from ..composition import Composition
from ..core import shape_of
from ..frames import warn
from ..tape import apply
from .activation import logsigmoid
from .arithmetic import add, clamp, div, mul, sub
from .checks import check_all
from .cross_entropy import cross_entropy, nll_loss
from .dtype_names import LEGACY_NAMES
from .elementwise import abs, exp, log
from .labels import named
from .logic import chosen, eq, le, logical_and, lt
from .operands import same_arrays
from .reduce import mean, mean_over, sum
from .reductions import require_reduction
from .sizes import same_shape, size_operand

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]


def _collected(losses: Tensor, reduction: str) -> Tensor:
    """Elementwise losses as they are, added up, or averaged."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return sum(losses)
    return mean_over(losses, tuple(range(losses.ndim)))


def _warn_of_broadcast(input: Tensor, target: Tensor) -> None:
    if not same_shape(shape_of(input), shape_of(target)):
        warn(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}). "
            "This will likely lead to incorrect results due to broadcasting. Please ensure they "
            "have "
            "the same size."
        )


def _mean_square(run: Any, x: Any, y: Any, dims: Any, count: float) -> Any:
    difference = run(E.sub, x, y)
    total = run(R.reduce_sum, run(E.mul, difference, difference), dims=dims)
    return run(E.div, total, count)


_MEAN_SQUARE = Composition("mse_loss", _mean_square)


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target)^2.

    `reduction`: "none", "sum" or "mean".
    """
    require_reduction(reduction)
    if reduction == "mean" and same_arrays(input, target):
        array: Any = input.array
        if array.dtype.kind == "f" and array.size > 1:
            dims, count = tuple(range(array.ndim)), float(array.size)
            result = apply(_MEAN_SQUARE, input, target, dims=dims, count=count)
            return named(result, "MseLoss")
    _warn_of_broadcast(input, target)
    difference = sub(input, target)
    if not difference.dtype.is_floating_point:
        name = LEGACY_NAMES[difference.dtype.long_name]
        raise NotImplementedError(f"\"mse_cpu\" not implemented for '{name}'")
    return named(_collected(mul(difference, difference), reduction), "MseLoss")


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|."""
    require_reduction(reduction)
    _warn_of_broadcast(input, target)
    losses = abs(sub(input, target))
    return mean(losses) if reduction == "mean" else _collected(losses, reduction)


def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """d^2 / (2 beta) where d = |input - target| is below `beta`, elsewhere d - beta / 2."""
    require_reduction(reduction)
    _warn_of_broadcast(input, target)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, reduction)
    difference = sub(input, target)
    size = abs(difference)
    near = div(mul(mul(size, size), 0.5), beta)
    losses = chosen(lt(size, beta), near, sub(size, 0.5 * beta))
    return named(_collected(losses, reduction), "SmoothL1Loss")


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """d^2 / 2 where d = |input - target| is at most `delta`, elsewhere delta * (d - delta / 2)."""
    require_reduction(reduction)
    _warn_of_broadcast(input, target)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    size = abs(sub(input, target))
    near, far = mul(mul(size, size), 0.5), mul(sub(size, 0.5 * delta), delta)
    return named(_collected(chosen(le(size, delta), near, far), reduction), "HuberLoss")


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(target log(input) + (1 - target) log(1 - input)), logarithms not below -100.

    Raises:
        ValueError: the shapes differ.
        RuntimeError: an element of `input` is outside [0, 1] (in a trace: when the program runs).
    """
    require_reduction(reduction)
    if not same_shape(shape_of(input), shape_of(target)):
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}) "
            "is deprecated. Please ensure they have the same size."
        )
    x = input.detach()
    error = RuntimeError("all elements of input should be between 0 and 1")
    check_all(logical_and(le(0, x), le(x, 1)), error)
    yes, no = clamp(log(input), min=-100), clamp(log(sub(1, input)), min=-100)
    losses = sub(mul(sub(target, 1), no), mul(target, yes))
    if weight is not None:
        losses = mul(losses, weight)
    return named(_collected(losses, reduction), "BinaryCrossEntropy")


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """The binary cross-entropy of sigmoid(input), accurate for inputs of any size.

    `weight`: factors of the losses.

    `pos_weight`: factors of the positive examples' losses.
    """
    require_reduction(reduction)
    if not same_shape(shape_of(input), shape_of(target)):
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})"
        )
    likelihood = logsigmoid(input)
    if pos_weight is not None:
        likelihood = mul(likelihood, add(mul(sub(pos_weight, 1), target), 1))
    losses = sub(mul(sub(1, target), input), likelihood)
    if weight is not None:
        losses = mul(losses, weight)
    return named(_collected(losses, reduction), "BinaryCrossEntropyWithLogits")


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target * (log(target) - input), `input` being a logarithm, and `target` too if `log_target`.

    `reduction`: "none", "sum", "mean" over all elements, or "batchmean": the sum over the
    batch's size.
    """
    if reduction == "mean":
        warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math "
            "definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release."
        )
    if reduction == "batchmean":
        total = sum(_divergence(input, target, log_target))
        return div(total, size_operand(shape_of(input)[0])) if input.ndim else total
    require_reduction(reduction)
    losses = _divergence(input, target, log_target)
    return mean(losses) if reduction == "mean" else _collected(losses, reduction)


def _divergence(input: Tensor, target: Tensor, log_target: bool) -> Tensor:
    if log_target:
        return mul(exp(target), sub(target, input))
    empty = eq(target, 0)
    entropy = chosen(empty, 0.0, mul(target, log(chosen(empty, 1.0, target))))
    return sub(entropy, mul(target, input))
