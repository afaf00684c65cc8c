"""Activation functions as modules: those with numbers to choose, or to learn."""

from __future__ import annotations

from typing import Any

from ...compiler.dtypes import DType
from ..create import empty
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = [
    "CELU",
    "ELU",
    "Hardshrink",
    "Hardtanh",
    "LeakyReLU",
    "PReLU",
    "Softplus",
    "Softshrink",
    "Threshold",
]


def _marked(text: str, inplace: bool) -> str:
    return f"{text}, inplace=True" if inplace else text


class LeakyReLU(Module):
    """x, or negative_slope * x below zero."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return _marked(f"negative_slope={self.negative_slope}", self.inplace)


class PReLU(Module):
    """`LeakyReLU` whose slope is learned: He et al., "Delving Deep into Rectifiers" (2015).

    Args:
        num_parameters: one slope for all, or one for each channel (dimension 1).
        init: slope at the start.
        device: the CPU.
        dtype: of the slopes; the default one if left out.
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(empty(num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the slopes to their start."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ELU(Module):
    """x, or alpha * (exp(x) - 1) below zero: Clevert et al. (2016)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.elu(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        return _marked(f"alpha={self.alpha}", self.inplace)


class CELU(ELU):
    """x, or alpha * (exp(x / alpha) - 1) below zero: Barron (2017)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.celu(input, self.alpha, self.inplace)


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardtanh(Module):
    """x within bounds."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if min_val > max_val:
            raise ValueError("min_val must be smaller than or equal to max_val")
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        return _marked(f"min_val={self.min_val}, max_val={self.max_val}", self.inplace)


class Threshold(Module):
    """x above the threshold, elsewhere `value`."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.threshold(input, self.threshold, self.value, self.inplace)

    def extra_repr(self) -> str:
        return _marked(f"threshold={self.threshold}, value={self.value}", self.inplace)


class _Shrink(Module):
    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def extra_repr(self) -> str:
        return str(self.lambd)


class Softshrink(_Shrink):
    """x moved towards 0 by `lambd`, and 0 where it would pass it."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softshrink(input, self.lambd)


class Hardshrink(_Shrink):
    """0 from -lambd to lambd, elsewhere x."""

    def forward(self, input: Tensor) -> Tensor:
        return F.hardshrink(input, self.lambd)
