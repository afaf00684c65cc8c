"""Cross-entropy against classes or distributions, and the negative log-likelihood under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...compiler import dtypes
from ...compiler.primitives import index as I
from ...compiler.primitives import reduce as R
from ..context import current
from ..core import shape_of
from ..frames import place
from ..symint import asked
from ..tape import apply
from .activation import log_softmax
from .arithmetic import add, div, mul
from .checks import check_range
from .conversion import cast
from .dtype_names import LEGACY_NAMES
from .elementwise import neg
from .labels import named
from .logic import chosen, ne
from .pick import picked
from .reduce import mean_over, reduced, sum
from .reductions import require_reduction
from .shape import reshape
from .sizes import count_of, same_shape, same_size

if TYPE_CHECKING:
    from ..tensor import Tensor


def _class_dim(input: Tensor) -> int:
    return 0 if input.ndim == 1 else 1


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The cross-entropy of softmax(input) relative to `target`.

    Args:
        input: scores: (C), (N, C) or (N, C, d1, ...).
        target: classes, int64 of the scores' shape without C; or probabilities, floats of the
            scores' shape.
        weight: a factor for each class, (C).
        size_average: of an older interface; not used.
        ignore_index: targets of this class do not count.
        reduce: of an older interface; not used.
        reduction: "none", "sum" or "mean" (weighted by `weight`).
        label_smoothing: what share of each target is spread evenly over the classes.

    Raises:
        IndexError: a class is out of range (in a trace: when the program runs).
    """
    require_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing:g}")
    axis = _class_dim(input)
    if target.dtype.is_floating_point and same_shape(shape_of(target), shape_of(input)):
        return _of_distribution(input, target, weight, reduction, label_smoothing)
    logs = log_softmax(input, axis)
    loss = nll_loss(logs, target, weight, ignore_index=ignore_index, reduction=reduction)
    if label_smoothing == 0:
        return loss
    spread_loss = _smooth(logs, target, weight, ignore_index, reduction)
    share = label_smoothing / input.shape[axis].__index__()
    return add(mul(loss, 1 - label_smoothing), mul(spread_loss, share))


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """-input at each target's class; arguments as of `cross_entropy`, of logarithms."""
    require_reduction(reduction)
    target = _fitting(input, target)
    axis = _class_dim(input)
    factors = _factors(input, target, weight, ignore_index)
    losses = neg(picked(input, target, axis))
    if weight is not None:
        losses = mul(losses, factors)
    elif factors is not None and ignore_index >= 0:
        losses = chosen(ne(target, ignore_index), losses, 0.0)
    label = "NllLoss2D" if input.ndim > 2 else "NllLoss"
    return named(_collected(losses, factors, reduction), label)


def _collected(losses: Tensor, factors: Tensor | None, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return sum(losses)
    if factors is None:
        return mean_over(losses, tuple(range(losses.ndim)))
    return div(sum(losses), sum(factors))


def _fitting(input: Tensor, target: Tensor) -> Tensor:
    """The target, after checks of its dtype and shape."""
    if target.dtype not in (dtypes.i64, dtypes.u8):
        name = LEGACY_NAMES[target.dtype.long_name]
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {name}")
    given, scores = shape_of(target), shape_of(input)
    if input.ndim == 1:
        return reshape(target, ()) if same_shape(given, (1,)) else target
    if same_shape(given, (scores[0], *scores[2:])):
        return target
    if not given or not same_size(given[0], scores[0]):
        batch = given[0] if given else 1
        raise ValueError(
            f"Expected input batch_size ({scores[0]}) to match target batch_size "
            f"({batch}).{place()}"
        )
    if input.ndim == 2:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input.ndim == 4:
        raise RuntimeError(
            f"size mismatch (got input: {list(scores)} , target: {list(given)}{place()}"
        )
    raise RuntimeError(
        f"Expected target size {[scores[0], *scores[2:]]}, got {list(given)}{place()}"
    )


def _factors(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> Tensor | None:
    """How much each target counts: its class's weight, 0 if ignored; None if each counts 1."""
    classes = shape_of(input)[_class_dim(input)]
    if weight is None and _all_count(target, ignore_index):
        check_range(target, 0, classes, IndexError, "Target {index} is out of bounds.")
        return None
    counted = ne(target, ignore_index)
    known = chosen(counted, target, 0)
    check_range(known, 0, classes, IndexError, "Target {index} is out of bounds.")
    if weight is None:
        return cast(counted, input.dtype)
    if not same_shape(shape_of(weight), (classes,)):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but "
            "got "
            f"weight tensor of shape: {list(shape_of(weight))}"
        )
    if weight.dtype is not input.dtype:
        raise RuntimeError(
            f"expected scalar type {LEGACY_NAMES[input.dtype.long_name]} but found "
            f"{LEGACY_NAMES[weight.dtype.long_name]}"
        )
    return chosen(counted, apply(I.take, weight.detach(), known), 0.0)


def _all_count(target: Tensor, ignore_index: int) -> bool:
    """Whether no target is ignored, as far as is known now."""
    return current().trace is None and bool((target.array != ignore_index).all())  # type: ignore[union-attr]  # an array


def _along_classes(weight: Tensor, input: Tensor) -> Tensor:
    """A weight for each class in a shape that broadcasts over `input`."""
    axis = _class_dim(input)
    return reshape(weight, (-1, *(1,) * (input.ndim - axis - 1)))


def _smooth(
    logs: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    """The loss relative to the even distribution."""
    target = _fitting(logs, target)
    weighted = logs if weight is None else mul(logs, _along_classes(weight, logs))
    losses = neg(reduced(R.reduce_sum, weighted, (_class_dim(logs),)))
    counted = chosen(ne(target, ignore_index), losses, 0.0)
    return _collected(counted, _factors(logs, target, weight, ignore_index), reduction)


def _of_distribution(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    axis = _class_dim(input)
    shape = shape_of(input)
    classes = shape[axis]
    if label_smoothing:
        share = label_smoothing / asked(classes).__index__()
        target = add(mul(target, 1 - label_smoothing), share)
    products = mul(log_softmax(input, axis), target)
    if weight is not None:
        products = mul(products, _along_classes(weight, input))
    gains = reduced(R.reduce_sum, products, (axis,))
    if reduction == "none":
        return neg(gains)
    total = neg(sum(gains))
    if reduction == "sum":
        return total
    examples = count_of(size for d, size in enumerate(shape) if d != axis)
    return named(div(total, examples), "DivBackward1")
