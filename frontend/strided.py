"""State whose memory is not in row-major order, which programs see as a copy that is."""

from __future__ import annotations

import numpy as np

from .core import Array, address_of


class StridedState:
    """Copies of arrays: made before a call, and written back after it."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Array, Array, bool]] = []

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def clear(self) -> None:
        """Forgets all arrays."""
        self._pairs.clear()

    def add(self, array: Array, written: bool) -> int:
        """Address of a copy of an array, which is kept for the calls to come.

        Args:
            array: memory of any strides.
            written: whether the program writes to it.

        Raises:
            RuntimeError: it does, and the memory is read-only.
        """
        if written and not array.flags.writeable:
            raise RuntimeError("the tensor's memory is read-only (it came from a read-only array)")
        copy = np.array(array, order="C")
        self._pairs.append((array, copy, written))
        return address_of(copy)

    def load(self) -> None:
        """Before a call: the copies take the arrays' values."""
        for array, copy, _ in self._pairs:
            np.copyto(copy, array)

    def store(self) -> None:
        """After a call: what was written goes back."""
        for array, copy, written in self._pairs:
            if written:
                np.copyto(array, copy)
