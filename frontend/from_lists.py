"""Arrays from what `torch.tensor` accepts: numbers, nested sequences of them, NumPy arrays.

First the data is opened: whatever is neither a number nor a list (ranges, tensors, objects that
can be listed) is replaced by what stands for it.  Then its shape is read off the first elements,
its dtype inferred over all of them, and the leaves collected into one flat list, which finds rows
of the wrong length.  PyTorch takes these steps in the same order, so that of several faults in the
data both report the same one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from itertools import chain
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ..compiler import dtypes
from ..compiler.dtypes import DType

Array: TypeAlias = npt.NDArray[Any]
ArrayOf: TypeAlias = Callable[[object], Array | None]

_MAX_DIMS = 64  # NumPy's limit
_FAULTS = (TypeError, ValueError, RuntimeError, OverflowError)
_INTEGERS = frozenset((bool, int))
_NUMBERS = frozenset((bool, int, float))
_LISTS = frozenset((list, tuple))
_BRANCHES = (list, tuple, np.ndarray)  # what opened data nests; everything else in it is a leaf


def _no_tensor(_: object) -> None:
    return None


def array_from_data(
    data: object, dtype: DType | None, default_float: DType, *, array_of: ArrayOf = _no_tensor
) -> Array:
    """A new array of `data`, as `torch.tensor(data, dtype=dtype)` makes it.

    Args:
        data: A number, a sequence of numbers nested to any depth, a NumPy array or scalar, a
            tensor, or an object with `__array__` or `tolist`.
        dtype: The type of the result; None to infer it: any Python float makes it
            `default_float`, else any int int64, else bool; the elements of NumPy arrays and of
            tensors count with their own types.
        default_float: The type of Python floats and of empty lists (`set_default_dtype`).
        array_of: Gives the array of a tensor, and None for anything else.

    Returns:
        A row-major array that shares no memory with `data`.

    Raises:
        ValueError: Rows of different lengths, nesting too deep, integers beyond int64, or a tensor
            of more than one element in a list.
        TypeError: Strings, NumPy types that there is no dtype for, or leaves that are no numbers.
        RuntimeError: An object of no known dtype, or a number that `dtype` cannot hold.
        OverflowError: An integer too large for a float.
    """
    if isinstance(data, (str, bytes)):
        raise _invalid(data)
    array = array_of(data)
    if array is not None:
        return _cast_array(array, dtype)
    regular = _regular(data)
    if regular is not None:
        leaves, shape = regular
        dtype = _infer_items(leaves, default_float) if dtype is None else dtype
        return _cast_leaves(leaves, dtype).reshape(shape)
    return _array_from_any(data, dtype, default_float, array_of)


def _regular(data: Any) -> tuple[list[Any], tuple[int, ...]] | None:
    """Leaves and shape of nested lists of Python numbers; None if `data` is anything else.

    It goes level by level, each in one pass of the interpreter's own loops, and so saves the
    ordinary case a call for each row.
    """
    shape = _shape(data)
    level = [data]
    for length in shape:
        if not _LISTS.issuperset(map(type, level)) or set(map(len, level)) != {length}:
            return None
        level = list(chain.from_iterable(level))
    return (level, shape) if level and _NUMBERS.issuperset(map(type, level)) else None


def _array_from_any(
    data: object, dtype: DType | None, default_float: DType, array_of: ArrayOf
) -> Array:
    opened = _opened(data, array_of, 0)
    if isinstance(opened, np.ndarray):
        return _cast_array(opened, dtype)
    shape = _shape(opened)
    dtype = _infer(opened, default_float) if dtype is None else dtype
    leaves: list[object] = []
    try:
        _collect(opened, shape, 0, leaves)
    except (TypeError, ValueError):
        _cast_leaves(leaves, dtype)  # a leaf at fault before this row is reported first
        raise
    return _cast_leaves(leaves, dtype).reshape(shape)


# Opening


def _opened(data: object, array_of: ArrayOf, depth: int) -> object:
    """`data` with everything in it either a list, tuple or array, or a leaf."""
    if isinstance(data, (list, tuple)):
        return _opened_items(data, array_of, depth)
    if isinstance(data, np.ndarray):
        return data[()] if data.ndim == 0 else data
    if isinstance(data, (bool, int, float, np.generic, str, bytes, dict)):
        return data
    return _opened_object(data, array_of, depth)


def _opened_items(data: list[object] | tuple[object, ...], array_of: ArrayOf, depth: int) -> object:
    if depth >= _MAX_DIMS:  # also where a list contains itself
        raise _too_deep(data)
    if _NUMBERS.issuperset(map(type, data)):
        return data
    return [_opened(item, array_of, depth + 1) for item in data]


def _opened_object(data: object, array_of: ArrayOf, depth: int) -> object:
    """What stands for an object that is neither a number nor a list; itself, if nothing does."""
    array = array_of(data)
    if array is not None:
        return _only_element(array)
    if hasattr(type(data), "__array__"):
        return _opened(np.asarray(data), array_of, depth)
    if hasattr(type(data), "__getitem__") and hasattr(type(data), "__len__"):
        return _opened_items(_listed(data), array_of, depth)
    if hasattr(type(data), "tolist"):
        return _opened(cast(Any, data).tolist(), array_of, depth + 1)
    return data


def _only_element(array: Array) -> object:
    """The element of a tensor found in a list, as a NumPy scalar, which keeps its dtype."""
    if array.size != 1:
        raise ValueError("only one element tensors can be converted to Python scalars")
    return array.reshape(-1)[0]


def _listed(sequence: Any) -> list[object]:
    try:
        return list(sequence)
    except Exception as error:
        name = type(sequence).__name__
        raise ValueError(f"could not determine the shape of object type '{name}'") from error


# Shape, dtype, leaves


def _shape(data: Any) -> tuple[int, ...]:
    """The shape that the first elements have; `_collect` checks that the others follow it."""
    shape: list[int] = []
    while isinstance(data, _BRANCHES):
        if len(shape) == _MAX_DIMS:
            raise _too_deep(data)
        shape.append(len(data))
        if not len(data):
            break
        data = data[0]
    if isinstance(data, str) and data:  # a sequence of sequences of ...
        raise _too_deep(data)
    return tuple(shape)


def _infer(data: Any, default_float: DType) -> DType:
    """The dtype that holds all of `data`."""
    if isinstance(data, (list, tuple)):
        return _infer_items(data, default_float)
    if isinstance(data, (str, bytes)):
        raise _invalid(data)
    if isinstance(data, (np.ndarray, np.generic)):
        return _numpy_dtype(data)
    if isinstance(data, complex):
        raise TypeError("complex dtypes are not implemented")
    for number, dtype in ((bool, dtypes.boolean), (int, dtypes.i64), (float, default_float)):
        if isinstance(data, number):
            return dtype
    raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")


def _numpy_dtype(data: Array | np.generic) -> DType:
    """The dtype of NumPy data, in this machine's byte order whatever its own is."""
    return dtypes.from_numpy(data.dtype.newbyteorder("="))


def _infer_items(items: list[Any] | tuple[Any, ...], default_float: DType) -> DType:
    kinds = set(map(type, items))
    if not kinds:
        return default_float
    if kinds <= _NUMBERS:  # one item of each type tells as much as all of them
        items = [kind() for kind in kinds]
    return reduce(dtypes.promote, (_infer(item, default_float) for item in items))


def _collect(data: Any, shape: tuple[int, ...], dim: int, leaves: list[object]) -> None:
    """Append to `leaves` the elements of `data`, which must have the dimensions `shape[dim:]`."""
    if 0 in shape:
        return
    if dim == len(shape):
        leaves.append(data)
        return
    if not isinstance(data, (*_BRANCHES, str, bytes)):
        raise TypeError("not a sequence")
    if len(data) != shape[dim]:
        raise ValueError(f"expected sequence of length {shape[dim]} at dim {dim} (got {len(data)})")
    if dim == len(shape) - 1:
        leaves.extend(data.tolist() if isinstance(data, np.ndarray) else data)
        return
    for item in data:
        _collect(item, shape, dim + 1, leaves)


# Conversion


def _cast_array(array: Array, dtype: DType | None) -> Array:
    """A row-major copy of `array`; casts wrap and truncate as in C, where NumPy would warn."""
    if dtype is None or array.dtype.kind not in "biuf":
        dtype = _numpy_dtype(array)
    with np.errstate(all="ignore"):
        return np.array(array, dtype=dtype.numpy, order="C")


def _cast_leaves(leaves: list[Any], dtype: DType) -> Array:
    """A one-dimensional array of `leaves`; if several are at fault, the first is reported."""
    with suppress(*_FAULTS):
        return _cast_all(leaves, dtype)
    while len(leaves) > 1:
        half = len(leaves) // 2
        leaves = leaves[half:] if _castable(leaves[:half], dtype) else leaves[:half]
    return _cast_all(leaves, dtype)


def _castable(leaves: list[Any], dtype: DType) -> bool:
    with suppress(*_FAULTS):
        _cast_all(leaves, dtype)
        return True
    return False


def _cast_all(leaves: list[Any], dtype: DType) -> Array:
    if not _NUMBERS.issuperset(map(type, leaves)):
        leaves = [_number(leaf, dtype) for leaf in leaves]
    if dtype.kind in ("int", "uint"):
        return _cast_integers(leaves, dtype)
    with np.errstate(over="ignore"):  # too large for the dtype: inf
        return np.array(leaves, dtype=dtype.numpy)


def _number(leaf: Any, dtype: DType) -> bool | int | float:
    """The Python number of a leaf of some other type."""
    if isinstance(leaf, np.bool_) or (dtype is dtypes.boolean and isinstance(leaf, np.generic)):
        return bool(leaf)
    if isinstance(leaf, (bool, int, float)):
        return leaf
    if not dtype.is_floating_point:  # only Python's own floats are truncated
        return operator.index(leaf)
    if not (hasattr(leaf, "__float__") or hasattr(leaf, "__index__")):
        raise TypeError(f"must be real number, not {type(leaf).__name__}")
    return float(leaf)


def _cast_integers(numbers: list[Any], dtype: DType) -> Array:
    """Numbers as an integer dtype: floats truncated, negative integers wrapped if unsigned."""
    if not _INTEGERS.issuperset(map(type, numbers)):
        numbers = [_truncated(n, dtype) if isinstance(n, float) else n for n in numbers]
    try:
        wide = np.array(numbers, dtype=np.int64)
    except OverflowError:
        raise ValueError("Overflow when unpacking long long") from None
    highest = _highest(dtype)
    lowest = -highest - 1 if dtype.is_signed else -highest
    if wide.size and not (lowest <= wide.min() and wide.max() <= highest):
        raise _out_of_range(dtype)
    return wide.astype(dtype.numpy)


def _truncated(number: float, dtype: DType) -> int:
    highest = _highest(dtype)
    lowest = -highest - 1 if dtype.is_signed else 0
    if not lowest <= number <= highest:  # NaN is in no range
        raise _out_of_range(dtype)
    return int(number)


def _highest(dtype: DType) -> int:
    return (1 << (dtype.bits - dtype.is_signed)) - 1


# Errors, in PyTorch's words


def _too_deep(data: object) -> ValueError:
    return ValueError(f"too many dimensions '{type(data).__name__}'")


def _out_of_range(dtype: DType) -> RuntimeError:
    return RuntimeError(f"value cannot be converted to type {dtype.long_name} without overflow")


def _invalid(data: object) -> TypeError:
    return TypeError(f"new(): invalid data type '{type(data).__name__}'")
