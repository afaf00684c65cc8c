"""Normalisation over the last dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...compiler.dtypes import DType
from ..create import empty
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["LayerNorm", "RMSNorm"]


class _LastDims(Module):
    """What both have: the shape that is normalised over, and one weight an element of it."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        elementwise_affine: bool,
    ) -> None:
        super().__init__()
        shape = [normalized_shape] if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(shape)
        self.elementwise_affine = elementwise_affine

    def _register(self, name: str, wanted: bool, device: Any, dtype: DType | None) -> None:
        made = (
            Parameter(empty(self.normalized_shape, device=device, dtype=dtype)) if wanted else None
        )
        self.register_parameter(name, made)


class LayerNorm(_LastDims):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions.

    Ba et al., "Layer Normalization" (2016).

    Args:
        normalized_shape: sizes of the dimensions normalised over.
        eps: added to the variance (which is the biased one).
        elementwise_affine: whether to have weight (ones at first) and bias.
        bias: whether to have the bias (zeros at first).
        device: the CPU.
        dtype: of the parameters; the default one if left out.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(normalized_shape, elementwise_affine)
        self.eps = eps
        self._register("weight", elementwise_affine, device, dtype)
        self._register("bias", elementwise_affine and bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets weight to ones and bias to zeros."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(_LastDims):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimensions: Zhang and Sennrich (2019).

    Args:
        normalized_shape: sizes of the dimensions normalised over.
        eps: added to the mean square; the dtype's epsilon if left out.
        elementwise_affine: whether to have a weight (ones at first).
        device: the CPU.
        dtype: of the parameters; the default one if left out.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(normalized_shape, elementwise_affine)
        self.eps = eps
        self._register("weight", elementwise_affine, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the weight to ones."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )
