"""The order of steps: what checks need first, then little work, then branches near their end.

An edge is *hard* if a step reads what another writes.  It is *soft* where a step would write its
result over an input (`overwrites`): other readers of the input, and the checks, had better come
first.  If they cannot, the result goes to memory of its own and is copied at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import TypeAlias

from .cost import nominal
from .effects import reads, writes
from .program import RunBlocks, RunCheck, RunKernel, Step, parts


def order(steps: Sequence[Step], overwrites: Mapping[int, int]) -> list[Step]:
    """The steps, each after those whose results it reads.

    Args:
        steps: writers of one value in the order in which they must run.
        overwrites: for a value (by number) the input whose memory it would take.
    """
    graph = Dependencies(steps, overwrites)
    return [steps[i] for i in graph.order()]


FINISHING = 3
"""Steps to the end of the program from which a branch is finished before another is begun."""

LITTLE = 4096
"""Bytes moved by a kernel that is run first if it needs nothing but inputs."""

_Rank: TypeAlias = tuple[int, int, int]


class Dependencies:
    """Which steps wait for which, their heights, and the first check that needs each."""

    def __init__(self, steps: Sequence[Step], overwrites: Mapping[int, int]) -> None:
        count = len(steps)
        self.lengths = [len(parts(s)) if isinstance(s, RunBlocks) else 1 for s in steps]
        self.reads = [reads(s) for s in steps]
        self.writes = [writes(s) for s in steps]
        self.checks = [i for i, s in enumerate(steps) if isinstance(s, RunCheck)]
        self.below: list[list[int]] = [[] for _ in range(count)]
        self.soft_below: list[list[int]] = [[] for _ in range(count)]
        self.hard, self.soft = [0] * count, [0] * count
        self.above: list[set[int]] = [set() for _ in range(count)]
        self._link()
        self._link_softly(overwrites)
        self.check, self.heights = self._first_check(), self._heights()
        self.finishing, self.early = self._finishing(), self._early(steps)

    def _link(self) -> None:
        writers: dict[int, list[int]] = {}
        for i, written in enumerate(self.writes):
            for value in written:
                writers.setdefault(value, []).append(i)
        for found in writers.values():
            for first, second in pairwise(found):
                self.above[second].add(first)
        for i, read in enumerate(self.reads):
            for value in read:
                if i not in writers.get(value, ()):
                    self.above[i].update(writers.get(value, ())[-1:])
        for i, above in enumerate(self.above):
            self.hard[i] = len(above)
            for other in above:
                self.below[other].append(i)

    def _link_softly(self, overwrites: Mapping[int, int]) -> None:
        readers: dict[int, list[int]] = {}
        for i, read in enumerate(self.reads):
            for value in read:
                readers.setdefault(value, []).append(i)
        for i, written in enumerate(self.writes):
            for value in written & overwrites.keys():
                for other in {*readers.get(overwrites[value], ()), *self.checks} - {i}:
                    self.soft_below[other].append(i)
                    self.soft[i] += 1

    def _first_check(self) -> list[int]:
        """For each step the number of the first check that needs it, or of all checks."""
        first = [len(self.checks)] * len(self.hard)
        for number, check in enumerate(self.checks):
            stack = [check]
            while stack:
                i = stack.pop()
                if first[i] > number:
                    first[i] = number
                    stack += self.above[i]
        return first

    def _heights(self) -> list[int]:
        """The length of the longest way from each step to the end."""
        heights = [0] * len(self.hard)
        for i in reversed(range(len(self.hard))):
            below = max((heights[j] for j in self.below[i]), default=0)
            heights[i] = self.lengths[i] + below
        return heights

    def _finishing(self) -> list[bool]:
        """Which steps lead to results soon, and read values whose memory is free after that."""
        pairs = zip(self.heights, self.above, strict=True)
        return [height <= FINISHING and bool(above) for height, above in pairs]

    def _early(self, steps: Sequence[Step]) -> list[bool]:
        """Which steps are little work on inputs: what needs it had better not wait for it."""
        early = [False] * len(steps)
        for i, step in enumerate(steps):
            little = isinstance(step, RunKernel) and nominal(step.size(step.kernel.bytes_moved))
            early[i] = 0 < little <= LITTLE and all(early[j] for j in self.above[i])
        return early

    def order(self) -> list[int]:
        """Step numbers in order; where only soft edges hold all back, these give way."""
        done: list[int] = []
        ready: list[_Rank] = []
        held: list[_Rank] = []
        for i, count in enumerate(self.hard):
            if not count:
                heappush(held if self.soft[i] else ready, self._rank(i))
        placed = [False] * len(self.hard)
        while ready or held:
            *_, i = heappop(ready or held)
            if placed[i]:
                continue
            placed[i] = True
            done.append(i)
            self._release(i, ready, held)
        assert len(done) == len(placed), "steps that need each other"
        return done

    def _rank(self, i: int) -> _Rank:
        return self.check[i], 0 if self.early[i] else 1 if self.finishing[i] else 2, i

    def _release(self, i: int, ready: list[_Rank], held: list[_Rank]) -> None:
        for other in self.below[i]:
            self.hard[other] -= 1
            if not self.hard[other]:
                heappush(held if self.soft[other] else ready, self._rank(other))
        for other in self.soft_below[i]:
            self.soft[other] -= 1
            if not self.soft[other] and not self.hard[other]:
                heappush(ready, self._rank(other))
