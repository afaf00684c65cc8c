"""Making tensors: from data, filled, counted, random, and like others."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..compiler import dtypes
from ..compiler.aval import Dim, SymDim
from ..compiler.dtypes import DType
from ..compiler.primitives import create as create_prims
from .arguments import MissingArgumentError, as_dtype, explained
from .context import current
from .core import Array, TensorBase, from_array, shape_of
from .defaults import default_float
from .from_lists import array_from_data
from .tape import apply

if TYPE_CHECKING:
    from .tensor import Tensor

Scalar = bool | int | float


@explained
def tensor(
    data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor holding a copy of `data`: numbers, nested sequences, arrays or tensors.

    Raises:
        ValueError: the sequences are ragged.
        TypeError: an element is no number.
    """
    require_cpu(device)
    if isinstance(data, TensorBase):
        made = cast("Tensor", data).detach().clone()
        made = made if dtype is None else made.to(dtype)
    elif isinstance(data, np.ndarray) and data.ndim == 0:
        made = from_array(data.astype(data.dtype if dtype is None else dtype.numpy))
        dtypes.from_numpy(data.dtype)
    else:
        made = from_array(np.array(array_from_data(data, dtype, default_float()), copy=True))
    return _finish(made, requires_grad)


@explained
def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory with an array or a tensor of the wanted dtype."""
    require_cpu(device)
    dtype = as_dtype("as_tensor", dtype)
    if isinstance(data, TensorBase):
        given = cast("Tensor", data)
        return given if dtype is None or dtype is given.dtype else given.to(dtype)
    if isinstance(data, np.ndarray):
        shared = from_numpy(data)
        return shared if dtype is None else shared.to(dtype)
    return tensor(data, dtype=dtype)


def from_numpy(array: Array) -> Tensor:
    """A tensor on the array's memory: writes through either are seen through both."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    dtypes.from_numpy(array.dtype)
    return from_array(array)


def from_dlpack(source: Any) -> Tensor:
    """A tensor on the memory of any CPU array that speaks DLPack, without a copy."""
    return from_array(np.from_dlpack(source))


def require_cpu(device: Any) -> None:
    """Raises unless `device` names the CPU."""
    if device is not None and str(device).split(":")[0] != "cpu":
        raise RuntimeError(f"taut computes on the CPU only, got device {device}")


def _finish(made: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        made.requires_grad = True
    return made


def sizes_of(size: Sequence[Any]) -> tuple[Dim, ...]:
    """A shape given as `f(2, 3)` or `f((2, 3))`.

    Raises:
        TypeError: an entry is no integer, or there is none.
        RuntimeError: an entry is negative.
    """
    if not size:
        raise MissingArgumentError('missing 1 required positional arguments: "size"')
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    shape = tuple(s if isinstance(s, SymDim) else s.__index__() for s in size)
    for entry in shape:
        if not isinstance(entry, SymDim) and entry < 0:
            raise RuntimeError(
                f"Trying to create tensor with negative dimension {entry}: {list(shape)}"
            )
    return shape


def filled(
    shape: tuple[Dim, ...], value: Scalar, dtype: DType, requires_grad: bool = False
) -> Tensor:
    """A tensor with one number everywhere."""
    typed = dtypes.number(value, dtype)
    wraps = dtype.kind == "uint" and -(1 << dtype.bits) < value < 0  # -1 is 255, as in C
    if dtype.kind in ("int", "uint") and int(value) != typed and not wraps:
        raise RuntimeError(
            f"value cannot be converted to type {dtype.long_name}_t without overflow"
        )
    if current().trace is None:
        made = from_array(np.full(shape, typed, dtype.numpy))
    else:
        made = apply(create_prims.full, value=typed, dtype=dtype, shape=shape)
    return _finish(made, requires_grad)


@explained
def zeros(
    *size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros; the sizes are given one by one or as one sequence."""
    require_cpu(device)
    return filled(sizes_of(size), 0, dtype or default_float(), requires_grad)


@explained
def ones(
    *size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of ones; the sizes are given one by one or as one sequence."""
    require_cpu(device)
    return filled(sizes_of(size), 1, dtype or default_float(), requires_grad)


empty = zeros  # reproducible where PyTorch leaves what memory held


def require_number(name: str, argument: str, position: int, value: object) -> None:
    """Raises unless `value` is a number."""
    if not isinstance(value, (int, float, np.generic, SymDim, TensorBase)):
        raise TypeError(
            f"{name}(): argument '{argument}' (position {position}) must be Number, not "
            f"{type(value).__name__}"
        )


@explained
def full(
    size: Sequence[int],
    fill_value: Scalar,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of `fill_value`s, of its kind of dtype unless one is given."""
    require_cpu(device)
    require_number("full", "fill_value", 2, fill_value)
    return filled(
        sizes_of((tuple(size),)), fill_value, dtype or scalar_dtype(fill_value), requires_grad
    )


def scalar_dtype(value: object) -> DType:
    """The dtype that PyTorch gives a Python number."""
    if isinstance(value, bool):
        return dtypes.boolean
    return dtypes.i64 if isinstance(value, int) else default_float()


@explained
def full_like(
    input: Tensor,
    fill_value: Scalar,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of `fill_value`s of the shape of `input`, and of its dtype unless one is given."""
    require_number("full_like", "fill_value", 2, fill_value)
    require_cpu(device)
    return filled(shape_of(input), fill_value, dtype or input.dtype, requires_grad)


@explained
def zeros_like(
    input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of the shape of `input`, and of its dtype unless one is given."""
    require_cpu(device)
    return filled(shape_of(input), 0, dtype or input.dtype, requires_grad)


@explained
def ones_like(
    input: Tensor, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Ones of the shape of `input`, and of its dtype unless one is given."""
    require_cpu(device)
    return filled(shape_of(input), 1, dtype or input.dtype, requires_grad)


empty_like = zeros_like


@explained
def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from `start` (0 if left out) to before `end`.

    Raises:
        RuntimeError: the step is 0 or points away from the end.
    """
    require_cpu(device)
    if end is None:
        start, end = 0, start
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    given = (start, end, step)
    exact = all(isinstance(n, (int, SymDim)) for n in given)
    chosen = dtype or (dtypes.i64 if exact else default_float())
    if exact and any(isinstance(n, SymDim) for n in given):
        return _finish(_counted(start, end, step).to(chosen), requires_grad)
    count = math.ceil((end - start) / step)
    wide: Any = np.float64 if chosen.is_floating_point else np.int64
    numbers = start + step * np.arange(count, dtype=wide)
    return _finish(from_array(numbers.astype(chosen.numpy)), requires_grad)


def _counted(start: Any, end: Any, step: Any) -> Tensor:
    """`arange` of integers of which some are named sizes."""
    shape = ((end - start + step - (1 if step > 0 else -1)) // step,)
    index = apply(create_prims.iota, dim=0, dtype=dtypes.i64, shape=shape)
    counted: Tensor = index if (start, step) == (0, 1) else index * step + start
    return counted


@explained
def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included.

    Raises:
        RuntimeError: `steps` is negative.
    """
    require_cpu(device)
    steps = operator.index(steps)
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    chosen = dtype or default_float()
    if chosen.is_floating_point and steps > 1:
        return _finish(from_array(_spaced(start, end, steps, chosen.numpy)), requires_grad)
    numbers = np.linspace(start, end, steps, dtype=np.float64).astype(chosen.numpy)
    return _finish(from_array(numbers), requires_grad)


def _spaced(start: float, end: float, steps: int, dtype: Any) -> Any:
    """Each half counted from its end, as PyTorch does, and each number rounded once."""
    wide: Any = np.longdouble if dtype == np.float64 else np.float64
    first, last, count = np.asarray([start, end, steps - 1], dtype)
    step, places = (last - first) / count, np.arange(steps, dtype=wide)
    up, down = wide(first) + wide(step) * places, wide(last) - wide(step) * places[::-1]
    return np.where(places < steps // 2, up, down).astype(dtype)


@explained
def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The identity matrix, or its upper left part.

    Raises:
        RuntimeError: a size is negative.
    """
    require_cpu(device)
    for name, size in (("n", n), ("m", m)):
        if isinstance(size, int) and size < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {size}")
    chosen = dtype or default_float()
    if any(isinstance(size, SymDim) for size in (n, m)):
        rows, columns = arange(n), arange(n if m is None else m)
        return _finish(cast("Tensor", rows.unsqueeze(1) == columns).to(chosen), requires_grad)
    return _finish(from_array(np.eye(n, m, dtype=chosen.numpy)), requires_grad)
