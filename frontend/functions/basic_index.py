"""Basic indexing: the view that integers, slices, None and Ellipsis select."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler import dtypes
from ...compiler.aval import Dim, SymDim
from ...compiler.primitives import movement as M
from ..context import current
from ..core import TensorBase, ViewStep, from_array, make_tensor, shape_of
from ..create import as_tensor
from ..frames import place
from ..symint import asked
from ..tape import apply_view
from .conversion import cast
from .labels import named

if TYPE_CHECKING:
    from ..tensor import Tensor

OUT_OF_BOUNDS = "index {{index}} is out of bounds for dimension {dim} with size {size}"


class _Basic:
    """The window of each dimension of the operand, and the shape shown of it, index by index."""

    def __init__(self, shape: tuple[Dim, ...]) -> None:
        self.shape = shape
        self.window: list[tuple[Dim, Dim, int]] = []
        self.shown: list[Dim] = []
        self.label = ""

    def next_size(self) -> Dim:
        return self.shape[len(self.window)]

    def integer(self, index: int) -> None:
        size, dim = asked(self.next_size()), len(self.window)
        if not -size <= index < size:
            text = OUT_OF_BOUNDS.format(dim=dim, size=size).format(index=index)
            raise IndexError(text + place())
        start = index if index >= 0 else size + index
        self.window.append((start, start + 1, 1))
        self.label = "Select"

    def slice(self, index: slice) -> None:
        start, stop, step = _bounds(index, self.next_size())
        self.window.append((start, stop, step))
        self.shown.append(M.window_size(start, stop, step))
        self.label = "Slice"

    def whole(self, count: int) -> None:
        for _ in range(count):
            size = self.next_size()
            self.window.append((0, size, 1))
            self.shown.append(size)

    def new(self) -> None:
        self.shown.append(1)
        self.label = "Unsqueeze"


def basic(input: Tensor, key: Any) -> tuple[Tensor, list[tuple[int, Tensor]]]:
    """The view that integers, slices, None and Ellipsis give; tensors left over, by dimension."""
    items = [_normal(item) for item in (key if isinstance(key, tuple) else (key,))]
    consumed = sum(map(_consumes, items))
    if consumed > input.ndim:
        raise _too_many(input)
    state, advanced = _Basic(shape_of(input)), []
    for item in items:
        if item is None:
            state.new()
        elif item is Ellipsis:
            state.whole(input.ndim - consumed)
            consumed = input.ndim
        elif isinstance(item, slice):
            state.slice(item)
        elif isinstance(item, TensorBase):
            advanced.append((len(state.shown), item))
            state.whole(_consumes(item)) if _consumes(item) else state.new()
        else:
            state.integer(item)
    state.whole(input.ndim - len(state.window))
    return _view(input, state), advanced  # type: ignore[return-value]  # TensorBase items are tensors


def _normal(item: Any) -> Any:
    """An index as an int, slice, None, Ellipsis, or a tensor of integers or bools."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, (bool, np.bool_)):
        return from_array(np.asarray(item))
    if isinstance(item, (int, np.integer)):
        return int(item)
    if isinstance(item, SymDim):
        return asked(item)
    if isinstance(item, (list, range, np.ndarray)):
        item = as_tensor(np.asarray(item, np.int64) if len(item) == 0 else item)
    if isinstance(item, TensorBase):
        return _index_tensor(item)  # type: ignore[arg-type]  # a TensorBase is a Tensor
    if isinstance(item, str):
        raise TypeError("new(): invalid data type 'str'")
    if isinstance(item, float) or not hasattr(item, "__index__"):
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are "
            "valid "
            f"indices (got {type(item).__name__})"
        )
    return item.__index__()


def _index_tensor(item: Tensor) -> Any:
    if item.dtype not in (dtypes.i64, dtypes.i32, dtypes.boolean, dtypes.u8):
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if item.dtype is dtypes.u8:
        return cast(item, dtypes.boolean)
    if item.ndim == 0 and item.dtype is not dtypes.boolean and current().trace is None:
        return item.__index__()
    return item


def _consumes(item: Any) -> int:
    """How many dimensions an index stands for."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, TensorBase) and item.dtype is dtypes.boolean else 1


def _too_many(input: Tensor) -> IndexError:
    if not input.ndim:
        return IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` "
            "in "
            "C++ to convert a 0-dim tensor to a number"
        )
    return IndexError(f"too many indices for tensor of dimension {input.ndim}")


def _bounds(index: slice, size: Dim) -> tuple[Dim, Dim, int]:
    """Start, stop and step of a slice, with start <= stop.

    (`max` and `min` ask whether their second argument is better: of a whole dimension, whether its
    size is below 0, which needs no guard.)
    """
    step = 1 if index.step is None else index.step.__index__()
    if step == 0:
        raise ValueError("slice step cannot be zero")
    if step < 0:
        raise ValueError("step must be greater than zero")
    start = 0 if index.start is None else _bound(index.start, asked(size))
    stop = asked(size) if index.stop is None else _bound(index.stop, asked(size))
    return start, max(stop, start), step


def _bound(bound: Any, size: Any) -> Any:
    """One end of a slice, within the dimension."""
    given = asked(bound) if isinstance(bound, SymDim) else bound.__index__()
    if given < 0:
        return max(given + size, 0)
    return min(given, size)


def _view(input: Tensor, state: _Basic) -> Tensor:
    start, stop, step = (tuple([w[i] for w in state.window]) for i in range(3))
    window = {"start": start, "stop": stop, "step": step}
    shape = tuple(state.shown)
    mode = current()
    if mode.trace is None and not (mode.grad and input._requires_grad):
        return _untaped_view(input, window, shape)
    view = apply_view(M.slice_, input, **window)
    if shape != shape_of(view):
        view = apply_view(M.reshape, view, shape=shape)
    return named(view, state.label or "Alias")


def _untaped_view(input: Tensor, window: dict[str, Any], shape: tuple[Any, ...]) -> Tensor:
    """The view by one step of NumPy's where nothing is recorded: rows are read often."""
    array = input.array
    assert array is not None
    part = array[tuple(map(slice, *window.values()))]
    steps: tuple[ViewStep, ...] = (*input.steps, (M.slice_, window))
    if part.shape != shape:
        part = part.reshape(shape)
        steps = (*steps, (M.reshape, {"shape": shape}))
    view = make_tensor(
        input.storage, part, None, steps, input if input.base is None else input.base
    )
    view.history = view.base.history  # type: ignore[union-attr]  # given above
    return view
