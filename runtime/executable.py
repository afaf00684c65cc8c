"""Programs that can be called: the table that a call takes, and the memory behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ..compiler.aval import Aval, evaluate_dim
from ..compiler.codegen.spec import ProgramSpec
from ..compiler.errors import CheckFailed, IRError
from ..compiler.ir import bind_sizes, solve_sizes

if TYPE_CHECKING:
    from types import ModuleType

    from .native import Code

Array = npt.NDArray[Any]

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""


class Executable:
    """A linked program.

    Attributes:
        spec: what it takes and gives.
        entry: the native function: address of a table in, 0 or the number of a failed check (from
            1) out.
    """

    def __init__(self, spec: ProgramSpec, code: Code) -> None:
        self.spec, self.entry, self._code = spec, code.entry, code

    @property
    def address(self) -> int | None:
        """Where the machine code is; None where Python runs the kernels."""
        return self._code.address

    @property
    def module(self) -> ModuleType | None:
        """The program's text as a Python module, where the back end made it of one."""
        return self._code.module

    def frame(self, sizes: Mapping[str, int] | None = None) -> Frame:
        """A table and its arena for given sizes; the caller enters the addresses of arrays."""
        return Frame(self, sizes or {})

    def __call__(self, arrays: Sequence[Any]) -> list[Array]:
        """Runs the program on arrays; they are only read, and the results are fresh.

        Args:
            arrays: one for each input, of its dtype and shape; named sizes are read off the shapes.

        Raises:
            CheckFailed: a check of the program does not hold.
            IRError: an array does not fit its input's type.
        """
        inputs = [np.require(x, requirements=["C", "A"]) for x in arrays]
        sizes = _sizes_of(self.spec, inputs)
        for position in {p for p in self.spec.donations if p is not None}:
            inputs[position] = aligned_copy(inputs[position])
        frame = self.frame(sizes)
        frame.set_inputs(inputs)
        outputs = frame.make_outputs(inputs, sizes)
        frame.run()
        return outputs

    def require(self, status: int) -> None:
        """Raises CheckFailed in the check's words unless `status`, the entry's answer, is 0."""
        if status:
            raise CheckFailed(self.spec.checks[status - 1])


class Frame:
    """What one call needs at a time: the table of 64-bit words, and the arena.

    A frame may be called any number of times, by one thread at a time.

    Attributes:
        words: the table, for item assignment; `ProgramSpec.layout` says which word is what.
        address: where it is, the argument of the entry.
    """

    def __init__(self, executable: Executable, sizes: Mapping[str, int]) -> None:
        layout, spec = executable.spec.layout, executable.spec
        self._executable, self._entry = executable, executable.entry
        self._table = aligned_empty(layout.words * 8)
        self._table[:] = 0
        self.words: memoryview[int] = memoryview(cast(Any, self._table)).cast("Q")
        self.address: int = self._table.ctypes.data
        offsets, total = _place_slots([evaluate_dim(slot, sizes) for slot in spec.slots])
        self._arena = aligned_empty(total)
        base = self._arena.ctypes.data
        for word, offset in zip(layout.slots, offsets, strict=True):
            self.words[word] = base + offset
        for word, symbol in zip(layout.symbols, spec.symbols, strict=True):
            self.words[word] = sizes[symbol]
        self._kept: list[Array] = []

    @property
    def calls(self) -> int:
        """How often the program has run on this frame, as it counts itself."""
        return self.words[0]

    def call(self) -> int:
        """Runs the program; 0, or the number of the check that failed."""
        return self._entry(self.address)

    def run(self) -> None:
        """Runs the program.

        Raises:
            CheckFailed: a check does not hold; nothing that the caller can see was written.
        """
        self._executable.require(self.call())

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        """Enters the addresses of contiguous arrays, and keeps the arrays alive."""
        self._kept += arrays
        for word, array in zip(self._executable.spec.layout.inputs, arrays, strict=True):
            self.words[word] = array.ctypes.data

    def make_outputs(self, inputs: Sequence[Array], sizes: Mapping[str, int]) -> list[Array]:
        """Fresh arrays for the results, entered in the table; a donated input is its output."""
        spec, outputs = self._executable.spec, []
        places = zip(spec.outputs, spec.donations, spec.layout.outputs, strict=True)
        for aval, donated, word in places:
            if donated is not None:
                outputs.append(inputs[donated])
                continue
            array = aligned_array(bind_sizes(aval.shape, sizes), aval.dtype.numpy)
            if word is not None:
                self.words[word] = array.ctypes.data
            outputs.append(array)
        self._kept += outputs
        return outputs


def aligned_empty(size: int) -> npt.NDArray[np.uint8]:
    """`size` bytes that start at a multiple of `ALIGNMENT`."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def aligned_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array with undefined contents whose memory starts at a multiple of `ALIGNMENT`."""
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    return aligned_empty(size).view(dtype).reshape(shape)


def aligned_copy(array: Array) -> Array:
    """A contiguous copy whose memory starts at a multiple of `ALIGNMENT`."""
    copy = aligned_array(array.shape, array.dtype)
    copy[...] = array
    return copy


def _place_slots(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Offset of each slot in the arena, and the arena's size, all multiples of `ALIGNMENT`."""
    offsets, total = [], 0
    for size in sizes:
        offsets.append(total)
        total += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, total


def _sizes_of(spec: ProgramSpec, arrays: Sequence[Array]) -> dict[str, int]:
    if len(arrays) != len(spec.inputs):
        raise IRError(f"{spec.name} takes {len(spec.inputs)} arguments, got {len(arrays)}")
    for position, (aval, array) in enumerate(zip(spec.inputs, arrays, strict=True)):
        _require_dtype(position, aval, array)
    return solve_sizes(spec.inputs, [array.shape for array in arrays])


def _require_dtype(position: int, aval: Aval, array: Array) -> None:
    if array.dtype != aval.dtype.numpy:
        raise IRError(f"argument {position}: expected {aval}, got dtype {array.dtype}")
