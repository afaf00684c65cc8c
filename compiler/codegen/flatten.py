"""Outer loops joined where memory does not tell them apart: fewer, longer loops.

    outer (64, 10): y[i0*10 + i1] = x[i0*10 + i1]   ->   outer (640): y[i0] = x[i0]
    outer (1, n)   ->   outer (n)

Two neighbouring loops are one if in each index the coefficient of the first is the second's times
its extent.  The loops of stages stay: their extents settle the order of reductions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from ..aval import Dim
from ..schedule.loops import Index, Instruction, Kernel, Load, Position, Stage, Store


def flatten(kernel: Kernel) -> Kernel:
    """The same kernel with as few outer loops as its index maps allow."""
    axis = 0
    while axis < len(kernel.extents):
        if kernel.extents[axis] == 1:
            kernel = _without(kernel, axis)
        elif axis and _joined(kernel, axis):
            size = kernel.extents[axis - 1] * kernel.extents[axis]
            kernel = _without(kernel, axis - 1)
            axis -= 1
            extents = (*kernel.extents[:axis], size, *kernel.extents[axis + 1 :])
            kernel = replace(kernel, extents=extents)
        else:
            axis += 1
    return kernel


def _joined(kernel: Kernel, axis: int) -> bool:
    """Whether loop `axis - 1` goes on where loop `axis` ends, in each index."""
    extent = kernel.extents[axis]
    pairs = (index.coefficients[axis - 1 : axis + 1] for index in indices(kernel))
    return all(outer == inner * extent for outer, inner in pairs)


def indices(kernel: Kernel) -> Iterator[Index]:
    """Each index of a kernel."""
    for stage in kernel.stages:
        for instruction in stage.body:
            if isinstance(instruction, Load | Position | Store):
                yield instruction.index


def _without(kernel: Kernel, axis: int) -> Kernel:
    """The kernel with a loop dropped from its extents and its indices."""

    def drop(dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
        return dims[:axis] + dims[axis + 1 :]

    stages = tuple(_map_indices(stage, drop) for stage in kernel.stages)
    return replace(kernel, extents=drop(kernel.extents), stages=stages)


def _map_indices(stage: Stage, drop: Callable[[tuple[Dim, ...]], tuple[Dim, ...]]) -> Stage:
    def change(instruction: Instruction) -> Instruction:
        if not isinstance(instruction, Load | Position | Store):
            return instruction
        index = replace(instruction.index, coefficients=drop(instruction.index.coefficients))
        return replace(instruction, index=index)

    return replace(stage, body=tuple(map(change, stage.body)))
