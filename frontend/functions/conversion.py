"""Copies: in the same dtype or in another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.dtypes import DType
from ...compiler.primitives import elementwise as E
from ..tape import apply
from .labels import named

if TYPE_CHECKING:
    from ..tensor import Tensor


def clone(input: Tensor) -> Tensor:
    """A copy in memory of its own; gradients pass through."""
    return named(apply(E.cast, input, dtype=input.dtype), "Clone")


def cast(input: Tensor, dtype: DType) -> Tensor:
    """A copy in another dtype; floats go to integers towards zero."""
    return named(apply(E.cast, input, dtype=dtype), "ToCopy")
