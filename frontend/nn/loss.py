"""Losses as modules."""

from __future__ import annotations

from collections.abc import Callable

from ..tensor import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


def _reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that PyTorch's two old flags mean, or the one given."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


class _Loss(Module):
    """A loss of an input and a target: a function, and the module's attributes that it is given.

    Args:
        size_average, reduce: PyTorch's old spelling of `reduction`.
        reduction: "mean", "sum" or "none".
    """

    _function: Callable[..., Tensor]
    _options: tuple[str, ...] = ("reduction",)

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.reduction = _reduction(size_average, reduce, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        options = {name: getattr(self, name) for name in self._options}
        return type(self)._function(input, target, **options)


class _WeightedLoss(_Loss):
    """A loss with a weight for each class or element, kept as a buffer."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class L1Loss(_Loss):
    """|input - target|."""

    _function = staticmethod(F.l1_loss)


class MSELoss(_Loss):
    """(input - target)^2."""

    _function = staticmethod(F.mse_loss)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where d = |input - target| is below beta, elsewhere d - beta / 2.

    Args:
        size_average, reduce: PyTorch's old spelling of `reduction`.
        reduction: "mean", "sum" or "none".
        beta: where the square ends.
    """

    _function = staticmethod(F.smooth_l1_loss)
    _options = ("reduction", "beta")

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta


class HuberLoss(_Loss):
    """d^2 / 2 where d = |input - target| is at most delta, elsewhere delta * (d - delta / 2)."""

    _function = staticmethod(F.huber_loss)
    _options = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta


class KLDivLoss(_Loss):
    """target * (log(target) - input), `input` being a logarithm, and `target` too if `log_target`.

    Args:
        size_average, reduce: PyTorch's old spelling of `reduction`.
        reduction: "mean", "batchmean", "sum" or "none".
        log_target: whether the target is a logarithm.
    """

    _function = staticmethod(F.kl_div)
    _options = ("reduction", "log_target")

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target


class BCELoss(_WeightedLoss):
    """-(y log p + (1 - y) log(1 - p)), p being the input and y the target."""

    _function = staticmethod(F.binary_cross_entropy)
    _options = ("reduction", "weight")


class BCEWithLogitsLoss(_WeightedLoss):
    """`BCELoss` of the input's sigmoid, without its overflow.

    Args:
        weight: multiplies each element's loss.
        size_average, reduce: PyTorch's old spelling of `reduction`.
        reduction: "mean", "sum" or "none".
        pos_weight: multiplies the part of positive targets.
    """

    _function = staticmethod(F.binary_cross_entropy_with_logits)
    _options = ("reduction", "weight", "pos_weight")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.register_buffer("pos_weight", pos_weight)


class NLLLoss(_WeightedLoss):
    """-input[target], the input being logarithms of probabilities along dimension 1.

    Args:
        weight: of each class.
        size_average, reduce: PyTorch's old spelling of `reduction`.
        ignore_index: targets that do not count.
        reduction: "mean" (weighted), "sum" or "none".
    """

    _function = staticmethod(F.nll_loss)
    _options = ("reduction", "weight", "ignore_index")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index


class CrossEntropyLoss(_WeightedLoss):
    """Negative log-likelihood of the targets under the softmax of the input along dimension 1.

    Args:
        weight: of each class.
        size_average, reduce: PyTorch's old spelling of `reduction`.
        ignore_index: targets that do not count.
        reduction: "mean" (weighted), "sum" or "none".
        label_smoothing: share of each target that is spread over all classes.
    """

    _function = staticmethod(F.cross_entropy)
    _options = ("reduction", "weight", "ignore_index", "label_smoothing")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
