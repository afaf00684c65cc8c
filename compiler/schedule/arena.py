"""The arena: temporaries whose lives do not overlap share a slot."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from ..aval import Dim

WASTE = 8
"""A slot may be this many times larger than a value: small values must not hold large slots."""
SMALL = 4096
"""Bytes below which a slot's size does not matter."""


@dataclass(frozen=True)
class Life:
    """From the step that first writes a temporary to the last that uses it, both included."""

    start: int
    end: int
    size: Dim


def assign_slots(lives: Sequence[Life]) -> tuple[list[int], list[Dim]]:
    """A slot for each life, and the sizes of the slots in bytes.

    A known size takes the smallest free slot that is large enough (best fit), else the largest free
    one, which grows. A symbolic size takes a free slot of the same size only.
    """
    arena = _Arena()
    slots: list[int] = [0] * len(lives)
    in_use: list[tuple[int, int]] = []  # (end, slot), by end
    for i in sorted(range(len(lives)), key=lambda i: (lives[i].start, i)):
        while in_use and in_use[0][0] < lives[i].start:
            arena.release(in_use.pop(0)[1])
        slots[i] = arena.take(lives[i].size)
        insort(in_use, (lives[i].end, slots[i]))
    return slots, arena.sizes


class _Arena:
    def __init__(self) -> None:
        self.sizes: list[Dim] = []
        self._known: list[tuple[int, int]] = []  # free slots of known size: (size, slot), by size
        self._symbolic: dict[Dim, list[int]] = {}

    def release(self, slot: int) -> None:
        size = self.sizes[slot]
        if isinstance(size, int):
            insort(self._known, (size, slot))
        else:
            self._symbolic.setdefault(size, []).append(slot)

    def take(self, size: Dim) -> int:
        if not isinstance(size, int):
            free = self._symbolic.get(size)
            return free.pop() if free else self._new(size)
        at = bisect_left(self._known, (size, -1))
        if at < len(self._known) and self._known[at][0] <= max(size * WASTE, SMALL):
            return self._known.pop(at)[1]
        if at and self._known[at - 1][0] * WASTE >= size:
            slot = self._known.pop(at - 1)[1]
            self.sizes[slot] = size
            return slot
        return self._new(size)

    def _new(self, size: Dim) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1
