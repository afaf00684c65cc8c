"""Memory for what a program gives back: results, and `.grad`s, its own until looked at."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..compiler.aval import Aval
from .core import Array, address_of

_BLOCK_BYTES = 4096
_NOTHING: Array = np.empty(0)


class OutputMemory:
    """Fresh memory for one result.

    Small results are cut from a block, so that most calls allocate nothing; nobody is ever given
    the same memory twice.
    """

    __slots__ = ("_address", "_block", "_count", "_next", "_step", "dtype", "shape")

    def __init__(self, aval: Aval, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, aval.dtype.numpy
        self._step = prod(shape) * aval.dtype.itemsize
        self._count = max(1, _BLOCK_BYTES // max(self._step, 16))
        self._block: Array = _NOTHING
        self._address, self._next = 0, self._count

    def take(self) -> tuple[Array, int]:
        """An array that nobody else has, and its address."""
        number = self._next
        if number == self._count:
            self._block = np.empty((self._count, *self.shape), self.dtype)
            self._address, number = address_of(self._block), 0
        self._next = number + 1
        array = self._block[number, ...]
        if self._next == self._count:  # a large result lives no longer than who was given it
            self._block = _NOTHING
        return array, self._address + number * self._step


class GradMemory:
    """The `.grad`s that a program writes: kept from call to call until somebody else looks at one.

    Attributes:
        fresh: whether the next call must write to fresh memory.
    """

    __slots__ = ("fresh",)

    def __init__(self) -> None:
        self.fresh = True

    def release(self, tensor: Any) -> None:
        """Gives a gradient away: `Tensor.grad` calls this when it hands one out."""
        tensor.owner = None
        self.fresh = True
