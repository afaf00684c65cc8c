"""Data types: one frozen object each, with its spelling in IR text and PyTorch's promotion rules.

A dtype's `name` is the IR's spelling (`f32`), `long_name` is PyTorch's (`float32`), and its `repr`
is what PyTorch prints (`torch.float32`), so that printed tensors read the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False, slots=True)
class DType:
    """An element type.  Compared by identity: there is one object for each type."""

    name: str
    long_name: str
    numpy: np.dtype[np.generic]
    kind: str  # "bool", "uint", "int" or "float"

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return self.numpy.itemsize

    @property
    def bits(self) -> int:
        """Bits an element as stored (8 for bool)."""
        return self.numpy.itemsize * 8

    @property
    def is_floating_point(self) -> bool:
        """Whether its elements are floats."""
        return self.kind == "float"

    @property
    def is_signed(self) -> bool:
        """Whether its elements can be negative."""
        return self.kind in ("int", "float")

    def to_complex(self) -> DType:
        """The complex dtype of its width; TypeError, since there is none here."""
        raise TypeError("complex dtypes are not implemented")

    def __repr__(self) -> str:
        return f"torch.{self.long_name}"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return from_name, (self.name,)


def _dtype(name: str, long_name: str, kind: str) -> DType:
    return DType(name, long_name, np.dtype("bool" if kind == "bool" else long_name), kind)


boolean = _dtype("bool", "bool", "bool")
u8 = _dtype("u8", "uint8", "uint")
u32 = _dtype("u32", "uint32", "uint")
i8 = _dtype("i8", "int8", "int")
i16 = _dtype("i16", "int16", "int")
i32 = _dtype("i32", "int32", "int")
i64 = _dtype("i64", "int64", "int")
f16 = _dtype("f16", "float16", "float")
f32 = _dtype("f32", "float32", "float")
f64 = _dtype("f64", "float64", "float")

ALL: tuple[DType, ...] = (boolean, u8, u32, i8, i16, i32, i64, f16, f32, f64)
_BY_NAME = {d.name: d for d in ALL} | {d.long_name: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL}
_KIND_RANK = {"bool": 0, "uint": 1, "int": 1, "float": 2}


def from_name(name: str) -> DType:
    """The dtype called `name`, in the IR's spelling or PyTorch's; KeyError if there is none."""
    return _BY_NAME[name]


def from_numpy(dtype: np.dtype[np.generic]) -> DType:
    """The dtype of a NumPy array; TypeError, in PyTorch's words, if taut has none such."""
    try:
        return _BY_NUMPY[dtype]
    except KeyError:
        supported = ", ".join(d.long_name for d in ALL)
        raise TypeError(
            f"can't convert np.ndarray of type {dtype}. The only supported types are: {supported}."
        ) from None


def number(value: float, dtype: DType) -> bool | int | float:
    """A Python number as an element of `dtype`: narrow integers wrap around, as in C."""
    if dtype.kind in ("bool", "float"):
        return bool(value) if dtype.kind == "bool" else float(value)
    if dtype.bits == 64:
        return int(value)
    low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
    return (int(value) - low) % (1 << dtype.bits) + low


def promote(a: DType, b: DType) -> DType:
    """The smallest dtype that holds both, as PyTorch's `torch.promote_types`.

    A float wins over any integer; u8 with a signed integer goes to the next signed one
    (u8, i8 -> i16).
    """
    if a is b:
        return a
    low, high = sorted((a, b), key=lambda d: (_KIND_RANK[d.kind], d.itemsize, d.kind == "int"))
    if high.kind in ("float", low.kind) or low.kind == "bool":
        return high
    if low.kind == "int":  # a signed integer no wider than an unsigned one: next signed
        return from_name(f"i{min(64, high.bits * 2)}")
    return high if high.itemsize > low.itemsize else from_name(f"i{low.bits * 2}")


def promote_weak(strong: DType, weak: DType) -> DType:
    """A tensor's dtype met by a Python scalar's: the scalar counts only if its kind ranks higher.

    `int_tensor * 2.0` is the default float type, `f16_tensor * 2.0` stays f16, as in PyTorch.
    """
    return weak if _KIND_RANK[weak.kind] > _KIND_RANK[strong.kind] else strong
