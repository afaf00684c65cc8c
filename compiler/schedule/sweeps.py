"""Sweeps: independent kernels that differ in sizes only run as one step over several segments.

The updates of all parameters of a network are one sweep, and so are the sums of squares of their
gradients.  A step's *height* is the longest way from it to the end of the program.  Steps of equal
height need nothing of each other, and joining them makes no cycle, since every edge of the program
leads to a lower height; so what may join follows from heights and skeletons alone.

A sweep runs when its last segment can.  A kernel that reads large temporaries stays apart: their
memory would be held until then, and leave the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from .cost import nominal
from .loops import Kernel
from .lowering import Lowered
from .order import Dependencies
from .program import RunKernel, RunSweep, Step, kernel_runs
from .sharing import Key, skeleton
from .whole import whole_values

HELD = 64 << 10
"""Bytes of temporaries that may wait for a sweep."""


def join_sweeps(lowered: Lowered) -> list[tuple[int, ...]]:
    """Joins what may join in `lowered.steps`; the groups of each sweep."""
    graph = Dependencies(lowered.steps, {})
    sweeps = _found(lowered, graph)
    lowered.steps = _joined(lowered.steps, sweeps, graph)
    return [tuple(lowered.group[step] for step in sweep) for sweep in sweeps]


def _found(lowered: Lowered, graph: Dependencies) -> list[tuple[int, ...]]:
    """The numbers of the steps of each sweep."""
    alike: dict[Key, list[int]] = {}
    for i, step in enumerate(lowered.steps):
        if isinstance(step, RunKernel):
            key = graph.heights[i], graph.check[i], skeleton(step.kernel)
            alike.setdefault(key, []).append(i)
    held = _held(lowered, graph)
    found = (tuple(_without_holders(n, held, graph)) for n in alike.values() if len(n) > 1)
    return [numbers for numbers in found if len(numbers) > 1]


def _held(lowered: Lowered, graph: Dependencies) -> list[int]:
    """For each step the bytes of temporaries that nobody reads after it."""
    kept = {*lowered.plan.graph.inputs, *whole_values(lowered.plan.graph, {})}
    sizes = [0 if v in kept else nominal(v.aval.nbytes) for v in lowered.values]
    last: dict[int, int] = {}
    for i, read in enumerate(graph.reads):
        for value in read:
            last[value] = min(graph.heights[i], last.get(value, graph.heights[i]))
    return [
        sum(sizes[v] for v in read if last[v] == height)
        for read, height in zip(graph.reads, graph.heights, strict=True)
    ]


def _without_holders(
    numbers: Sequence[int], held: Sequence[int], graph: Dependencies
) -> Iterator[int]:
    """The steps that wait for no others, or hold little meanwhile."""
    ready = {i: max(graph.above[i], default=-1) for i in numbers}
    latest, total = max(ready.values()), 0
    for i in numbers:
        more = held[i] if ready[i] < latest else 0
        if total + more <= HELD:
            total += more
            yield i


def _joined(
    steps: Sequence[Step], sweeps: Sequence[tuple[int, ...]], graph: Dependencies
) -> list[Step]:
    """The steps in an order in which they can run, each sweep as one.

    A sweep comes where its last segment was, unless a step before that needs it.
    """
    members = {i: (i,) for i in range(len(steps))} | {n: s for s in sweeps for n in s}
    waits = {s: sum(len(graph.above[n]) for n in s) for s in set(members.values())}
    ready = sorted((s[-1], s) for s, count in waits.items() if not count)
    result: list[Step] = []
    while ready:
        _, numbers = heappop(ready)
        runs = tuple(r for n in numbers for r in kernel_runs(steps[n]))
        result.append(RunSweep(runs) if len(numbers) > 1 else steps[numbers[0]])
        for below in (members[m] for n in numbers for m in graph.below[n]):
            waits[below] -= 1
            if not waits[below]:
                heappush(ready, (below[-1], below))
    return result


def parted(sweep: RunSweep) -> Iterator[Step]:
    """A step for each kernel of a sweep: segments that write in place differ from others."""
    found: dict[Kernel, list[RunKernel]] = {}
    for run in sweep.runs:
        found.setdefault(run.kernel, []).append(run)
    for runs in found.values():
        yield RunSweep(tuple(runs)) if len(runs) > 1 else runs[0]
