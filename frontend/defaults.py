"""The default floating dtype."""

from __future__ import annotations

from ..compiler import dtypes
from ..compiler.dtypes import DType


class _Default:
    dtype: DType = dtypes.f32


_default = _Default()


def default_float() -> DType:
    """The dtype of tensors made from Python floats."""
    return _default.dtype


def set_default_dtype(dtype: DType) -> None:
    """Changes the dtype of tensors made from Python floats.

    Raises:
        TypeError: the dtype is not floating.
    """
    if not isinstance(dtype, DType):
        raise TypeError(
            "invalid dtype object: only floating-point types are supported as the default type"
        )
    if not dtype.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {dtype}")
    _default.dtype = dtype
