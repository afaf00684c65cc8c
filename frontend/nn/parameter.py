"""Tensors that modules register when they are assigned as attributes."""

from __future__ import annotations

from typing import Any, Self, TypeVar, cast

from ..core import make_tensor
from ..create import empty
from ..tensor import Tensor

__all__ = ["Buffer", "Parameter"]


T = TypeVar("T", bound=Tensor)


class Parameter(Tensor):
    """A tensor to be trained: assigned to a module, it becomes one of `module.parameters()`.

    Args:
        data: the tensor whose memory it shares; none at all gives an empty one.
        requires_grad: whether `backward()` computes its gradient (also inside `no_grad`).

    Raises:
        TypeError: `data` is no tensor.
        RuntimeError: it is not floating, yet `requires_grad` is set.
    """

    _is_parameter = True

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Self:
        made = _sharing(cls, empty(0) if data is None else data)
        made.requires_grad = requires_grad
        return made


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not trained.

    Args:
        data: the tensor whose memory it shares; none at all gives an empty one.
        persistent: whether it is part of `state_dict()`.
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Self:
        given = empty(0) if data is None else data
        made = _sharing(cls, given)
        made.requires_grad = given.requires_grad
        made.persistent = persistent
        return made


def _sharing(cls: type[T], data: Tensor) -> T:
    """A leaf of the given class on the memory of `data`."""
    if not isinstance(data, Tensor):
        raise TypeError(f"{cls.__name__} data has to be a tensor, but got {type(data).__name__}")
    made: Any = make_tensor(data.storage, data.array, data.traced_aval, data.steps)
    made.__class__ = cls
    return cast("T", made)
