"""New tensors after an old one's dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...compiler.dtypes import DType
from ..create import filled, require_number, sizes_of, tensor

if TYPE_CHECKING:
    from ..tensor import Tensor


def new_full(
    input: Tensor,
    size: Any,
    fill_value: float,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """One number everywhere, in `input`'s dtype unless another is given."""
    require_number("new_full", "fill_value", 2, fill_value)
    return filled(sizes_of((size,)), fill_value, dtype or input.dtype, requires_grad)


def new_zeros(
    input: Tensor,
    *size: Any,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros in `input`'s dtype."""
    return filled(sizes_of(size), 0, dtype or input.dtype, requires_grad)


def new_ones(
    input: Tensor,
    *size: Any,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones in `input`'s dtype."""
    return filled(sizes_of(size), 1, dtype or input.dtype, requires_grad)


new_empty = new_zeros  # reproducible where PyTorch leaves what memory held


def new_tensor(
    input: Tensor,
    data: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A copy of data in `input`'s dtype."""
    return tensor(data, dtype=dtype or input.dtype, requires_grad=requires_grad)
