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

from .cost import nominal
from .loops import Kernel
from .lowering import Lowered
from .order import Dependencies
from .program import RunKernel, RunSweep, Step
from .sharing import Key, skeleton
from .whole import whole_values

HELD = 64 << 10
"""Bytes of temporaries that may wait for a sweep."""


def find_sweeps(lowered: Lowered) -> list[tuple[int, ...]]:
    """The numbers of steps that can be one sweep, for each sweep."""
    graph = Dependencies(lowered.steps, {})
    sizes, held = _held(lowered), dict[Key, int]()
    found: dict[Key, list[int]] = {}
    for i, step in enumerate(lowered.steps):
        if isinstance(step, RunKernel):
            key = graph.heights[i], graph.check[i], skeleton(step.kernel)
            more = held.get(key, 0) + sum(sizes[b] for b in graph.reads[i])
            if more <= HELD:
                held[key] = more
                found.setdefault(key, []).append(i)
    return [tuple(numbers) for numbers in found.values() if len(numbers) > 1]


def _held(lowered: Lowered) -> list[int]:
    """For each value the bytes that are free after its last use."""
    kept = {*lowered.plan.graph.inputs, *whole_values(lowered.plan.graph, {})}
    return [0 if v in kept else nominal(v.aval.nbytes) for v in lowered.values]


def joined(steps: Sequence[Step], sweeps: Sequence[tuple[int, ...]]) -> list[Step]:
    """The steps with each sweep as one, in the place of its last segment."""
    last = {numbers[-1]: numbers for numbers in sweeps}
    gone = {n for numbers in sweeps for n in numbers[:-1]}
    result: list[Step] = []
    for i, step in enumerate(steps):
        if i in last:
            runs = [steps[n] for n in last[i]]
            result.append(RunSweep(tuple(r for r in runs if isinstance(r, RunKernel))))
        elif i not in gone:
            result.append(step)
    return result


def parted(sweep: RunSweep) -> Iterator[Step]:
    """A step for each kernel of a sweep: segments that write in place differ from others."""
    found: dict[Kernel, list[RunKernel]] = {}
    for run in sweep.runs:
        found.setdefault(run.kernel, []).append(run)
    for runs in found.values():
        yield RunSweep(tuple(runs)) if len(runs) > 1 else runs[0]
