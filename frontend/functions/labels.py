"""Names of composed operations, as `grad_fn` shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..tensor import Tensor


def named(result: Tensor, label: str) -> Tensor:
    """`result` with PyTorch's name for what computed it.

    Args:
        result: fresh from the operation (never an argument that was handed through).
        label: the name without its `Backward0` ("MseLoss"), or all of it where it ends otherwise
            ("SumBackward1").
    """
    if result.entry is not None:
        result.entry.label = label
    return result
