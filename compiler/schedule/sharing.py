"""Kernels that differ in sizes only become one kernel, which takes its sizes when it is called.

Two kernels have one *skeleton* if they are equal but for loop extents and index strides.  Where all
kernels of a skeleton have the same number, it stays a constant; a number that differs becomes a
named size of the kernel, one name for numbers that are the same in each of them:

    outer (64):  y[i0] = exp x[i0]
    outer (640): y[i0] = exp x[i0]    ->   <n0> outer (n0): y[i0] = exp x[i0],  n0 = 64 and n0 = 640

A number that makes faster code as a constant is part of the skeleton: the stride along the lanes,
and the extent of a short loop in lanes that runs many times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from ..aval import Dim, dim_symbols, symbol
from .cost import kernel_bytes, kernel_flops
from .loops import Index, Instruction, Kernel, Load, Position, Stage, Store
from .program import RunKernel

Key: TypeAlias = tuple[object, ...]

SHORT = 256
"""Elements below which the extent of a loop in lanes inside another loop stays a constant."""
MAX_SIZES = 6
"""Sizes that a kernel may take: more would be kernels that have little in common."""


def share(runs: Sequence[RunKernel]) -> list[RunKernel]:
    """The same runs, those with one skeleton of one kernel."""
    found: dict[Key, list[int]] = {}
    for number, run in enumerate(runs):
        found.setdefault(skeleton(run.kernel), []).append(number)
    shared = [*runs]
    for numbers in found.values():
        if len({runs[n].kernel for n in numbers}) > 1:
            for n, run in zip(numbers, _shared([runs[n] for n in numbers]), strict=True):
                shared[n] = run
    return shared


@lru_cache(maxsize=1024)
def skeleton(kernel: Kernel) -> Key:
    """What two kernels must have in common to become one."""
    buffers = tuple((b.dtype, b.written) for b in kernel.buffers)
    lane = len(kernel.extents) - 1 if kernel.lanes == "outer" else -1
    extents = _fixed_extents(kernel.extents, kernel.lanes == "outer" and len(kernel.extents) > 1)
    in_lanes = kernel.lanes == "inner" and len(kernel.extents) > 0
    stages = tuple(
        (s.when, _fixed_extents(s.extents, in_lanes), _body_key(s, lane)) for s in kernel.stages
    )
    return kernel.lanes, buffers, extents, stages


def _fixed_extents(extents: Sequence[Dim], in_lanes: bool) -> Key:
    """An entry for each loop: None where its extent may differ."""
    kept: list[Dim | None] = [None for _ in extents]
    if extents and in_lanes and isinstance(extents[-1], int) and extents[-1] < SHORT:
        kept[-1] = extents[-1]
    return tuple(kept)


def _body_key(stage: Stage, lane: int) -> Key:
    return tuple(_instruction_key(it, lane) for it in stage.body)


def _instruction_key(it: Instruction, lane: int) -> Key:
    match it:
        case Load():
            return "load", it.register, it.buffer, it.dtype, _index_key(it.index, lane)
        case Position():
            return "position", it.register, it.dtype, _index_key(it.index, lane)
        case Store():
            way = it.buffer, it.value, it.dtype, it.combine
            return "store", *way, _index_key(it.index, lane)
    return (it,)


def _index_key(index: Index, lane: int) -> Key:
    """Zeros and ones, and the stride along the lanes; other numbers may differ."""
    kept = [_unit(c) for c in index.coefficients]
    if kept and -len(kept) <= lane < len(kept):
        kept[lane] = index.coefficients[lane]
    dynamic = tuple((register, _unit(stride)) for register, stride in index.dynamic)
    return _unit(index.offset), tuple(kept), dynamic


def _unit(number: Dim) -> Dim | None:
    return number if number in (-1, 0, 1) else None


# --- one kernel -----------------------------------------------------------------------------------


def _shared(runs: list[RunKernel]) -> list[RunKernel]:
    """Runs of one kernel for runs of several with one skeleton."""
    slots = list(zip(*(_numbers(run.kernel) for run in runs), strict=True))
    differing = list(dict.fromkeys(s for s in slots if any(n != s[0] for n in s)))
    if len(differing) > MAX_SIZES:
        return runs
    first = runs[0].kernel
    names = _fresh(len(differing), [d for slot in slots for d in slot])
    size_of_slot = dict(zip(differing, map(symbol, names), strict=True))
    numbers = iter([size_of_slot.get(slot, slot[0]) for slot in slots])
    kernel = _with_numbers(first, lambda _: next(numbers))
    kept = {s for slot in slots if slot not in size_of_slot for s in dim_symbols(slot[0])}
    own = tuple(s for s in first.symbols if s in kept)
    kernel = replace(kernel, symbols=(*own, *names))
    return [
        RunKernel(
            kernel,
            run.buffers,
            (*map(symbol, own), *(slot[i] for slot in differing)),
            run.locs,
        )
        for i, run in enumerate(runs)
    ]


def _numbers(kernel: Kernel) -> list[Dim]:
    """Each extent and stride of a kernel, in the order of `_with_numbers`."""
    found: list[Dim] = []

    def note(number: Dim) -> Dim:
        found.append(number)
        return number

    _with_numbers(kernel, note)
    return found


def _fresh(count: int, dims: Sequence[Dim]) -> tuple[str, ...]:
    """Names that none of the dimensions mentions."""
    taken = frozenset[str]().union(*map(dim_symbols, dims))
    names = (f"n{i}" for i in range(count + len(taken)))
    return tuple([name for name in names if name not in taken][:count])


def _with_numbers(kernel: Kernel, change: Callable[[Dim], Dim]) -> Kernel:
    """The kernel with each extent and stride changed."""
    extents = tuple(map(change, kernel.extents))
    stages = tuple(
        Stage(tuple(map(change, s.extents)), tuple(_changed(s.body, change)), s.when)
        for s in kernel.stages
    )
    return replace(
        kernel,
        extents=extents,
        stages=stages,
        bytes_moved=kernel_bytes(extents, stages),
        flops=kernel_flops(extents, stages),
    )


def _changed(body: Sequence[Instruction], change: Callable[[Dim], Dim]) -> Iterator[Instruction]:
    for it in body:
        if isinstance(it, Load | Position | Store):
            index = it.index
            dynamic = tuple((register, change(stride)) for register, stride in index.dynamic)
            coefficients = tuple(map(change, index.coefficients))
            yield replace(it, index=Index(change(index.offset), coefficients, dynamic))
        else:
            yield it
