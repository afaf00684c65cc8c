"""Copies: in the same dtype or in another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.primitives import elementwise as E
from ..tape import apply
from .labels import named

if TYPE_CHECKING:
    from ..tensor import Tensor


def clone(input: Tensor) -> Tensor:
    """A copy in memory of its own; gradients pass through."""
    return named(apply(E.cast, input, dtype=input.dtype), "Clone")


def row_major(input: Tensor) -> Tensor:
    """A copy in row-major order; `clone` keeps the order of the memory, as NumPy's copies do."""
    result = clone(input)
    if result.array is not None and not result.array.flags.c_contiguous:
        result.storage.array = result.array = np.ascontiguousarray(result.array)
    return result


def cast(input: Tensor, dtype: DType) -> Tensor:
    """A copy in another dtype; floats go to integers towards zero."""
    return named(apply(E.cast, input, dtype=dtype), "ToCopy")
