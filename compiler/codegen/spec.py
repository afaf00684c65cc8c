"""`ProgramSpec`: the one thing that the runtime needs to link and call a program.

A program is one function of one argument, the address of its table of 64-bit words, and it returns
0 or the number of the check that failed (from 1).  The table holds, in this order: a counter that
every call increments; the address of each input; the address of each output that is not donated an
input's memory; the address of each arena slot; the value of each symbolic size.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..aval import Aval, Dim

if TYPE_CHECKING:
    from ..schedule.program import Program


@dataclass(frozen=True)
class ProgramSpec:
    """A generated program as plain data.

    Attributes:
        name: the function's name.
        backend: "llvm" (source is LLVM IR) or "numba" (source is a Python module).
        source: the generated text.
        entry: name of the entry function in it.
        externs: symbols that the runtime must provide.
        inputs, outputs, donations, slots, symbols, checks: as in `Program`.
        modules: LLVM modules to link into the program's: functions that users wrote.
    """

    name: str
    backend: str
    source: str
    entry: str
    externs: tuple[str, ...]
    inputs: tuple[Aval, ...]
    outputs: tuple[Aval, ...]
    donations: tuple[int | None, ...]
    slots: tuple[Dim, ...]
    symbols: tuple[str, ...]
    checks: tuple[str, ...]
    modules: tuple[str, ...] = ()

    @cached_property
    def layout(self) -> TableLayout:
        """Which word of its table holds what."""
        return TableLayout.of(self.inputs, self.donations, self.slots, self.symbols)

    @property
    def text(self) -> str:
        """All that is generated, for people."""
        return "\n\n".join((self.source, *self.modules))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the generated text."""
        return hashlib.sha256(self.source.encode()).hexdigest()


@dataclass(frozen=True)
class TableLayout:
    """Which word of the table holds what; `outputs` has None for one that replaces its input."""

    inputs: tuple[int, ...]
    outputs: tuple[int | None, ...]
    slots: tuple[int, ...]
    symbols: tuple[int, ...]
    words: int

    @classmethod
    def of(
        cls,
        inputs: tuple[Aval, ...],
        donations: tuple[int | None, ...],
        slots: tuple[Dim, ...],
        symbols: tuple[str, ...],
    ) -> TableLayout:
        """Lays out a table: counter, inputs, fresh outputs, arena slots, sizes."""
        word = 1 + len(inputs)
        places: list[int | None] = []
        for donated in donations:
            places.append(word if donated is None else None)
            word += donated is None
        slot_words = tuple(range(word, word + len(slots)))
        word += len(slots)
        symbol_words = tuple(range(word, word + len(symbols)))
        input_words = tuple(range(1, 1 + len(inputs)))
        return cls(input_words, tuple(places), slot_words, symbol_words, word + len(symbols))


def layout_of(program: Program) -> TableLayout:
    """The table of a scheduled program."""
    return TableLayout.of(program.inputs, program.donations, program.slots, program.symbols)
