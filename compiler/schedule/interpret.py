"""`interpret`: what a program means, run slowly in NumPy, for tests of schedules and back ends.

All outer points of a kernel go in lockstep, one array operation for each instruction, or, with
`points` given, some after the others, which any legal kernel permits.  Fresh memory
holds garbage, slots of the arena are shared as the program says, and reductions combine in the
order that kernels promise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import primitives  # noqa: F401 (registers them)
from ..aval import Aval, Dim, evaluate_dim
from ..dtypes import from_numpy
from ..errors import CheckFailed
from ..ir import solve_sizes
from ..primitive import CallFunction, get
from ..target import REDUCTION_LANES
from .blocks import blocks_of
from .loops import (
    Compute,
    Const,
    Index,
    Instruction,
    Kernel,
    Load,
    Position,
    Reduce,
    Stage,
    Store,
    When,
)
from .own_steps import FLOAT_PARAMS, INTEGER_PARAMS
from .program import (
    MatrixView,
    Program,
    RunBlocks,
    RunCall,
    RunCheck,
    RunCopy,
    RunKernel,
    RunMatmul,
    RunSweep,
    Simple,
    Step,
    kernel_runs,
    parts,
)

Array = npt.NDArray[Any]
GARBAGE = 0xA5
Points: TypeAlias = Callable[[int], Sequence[Sequence[int]]]


def interpret(
    program: Program,
    inputs: Sequence[Array],
    points: Points | None = None,
) -> list[Array]:
    """The outputs of a program on arrays; donated inputs are copied first, not overwritten.

    Args:
        program: any scheduled program.
        inputs: arrays of the types of `program.inputs`.
        points: for a number of outer points which to run together, one group after the other; None
            runs all together.

    Raises:
        CheckFailed: a check does not hold.
    """
    sizes = solve_sizes(program.inputs, [a.shape for a in inputs])
    memory = _Memory(program, inputs, sizes)
    with np.errstate(all="ignore"):
        for step in program.steps:
            _run(step, program, memory, points)
    return memory.outputs()


class _Memory:
    """The arrays behind a program's buffers, each flat."""

    def __init__(self, program: Program, inputs: Sequence[Array], sizes: Mapping[str, int]) -> None:
        self.program, self.sizes = program, sizes
        self.inputs = [np.array(a).ravel() for a in inputs]
        slots = [np.full(self.size(s), GARBAGE, np.uint8) for s in program.slots]
        self.fresh = {j: self._garbage(a) for j, a in enumerate(program.outputs)}
        self.buffers = []
        for buffer in program.buffers:
            if buffer.kind == "input":
                self.buffers.append(self.inputs[buffer.position])
            elif buffer.kind == "output":
                self.buffers.append(self.fresh[buffer.position])
            else:
                count = self.size(buffer.aval.nbytes)
                self.buffers.append(slots[buffer.position][:count].view(buffer.aval.dtype.numpy))

    def size(self, dim: Dim) -> int:
        return evaluate_dim(dim, self.sizes)

    def lose(self, buffer: int, count: Dim) -> None:
        """Fills a buffer with garbage, which may become longer than its memory."""
        aval = Aval(self.program.buffers[buffer].aval.dtype, (count,))
        self.buffers[buffer] = self._garbage(aval)

    def _garbage(self, aval: Aval) -> Array:
        return np.full(self.size(aval.nbytes), GARBAGE, np.uint8).view(aval.dtype.numpy)

    def outputs(self) -> list[Array]:
        pairs = enumerate(zip(self.program.outputs, self.program.donations, strict=True))
        flat = [(a, self.fresh[j] if d is None else self.inputs[d]) for j, (a, d) in pairs]
        return [array.reshape([self.size(d) for d in aval.shape]) for aval, array in flat]


def _run(step: Step, program: Program, memory: _Memory, points: Points | None) -> None:
    match step:
        case RunKernel():
            _run_kernel(step, memory, points)
        case RunSweep():  # in any order
            for run in step.runs if points is None else reversed(step.runs):
                _run_kernel(run, memory, points)
        case RunMatmul():
            _matmul(step, memory)
        case RunBlocks():
            _run_blocks(step, memory, points)
        case RunCall():
            _call(step, memory)
        case RunCopy():
            source, start = memory.buffers[step.source], memory.size(step.offset)
            memory.buffers[step.target][start : start + source.size] = source
        case RunCheck():
            if memory.buffers[step.buffer].view(np.uint8)[0] != 1:
                raise CheckFailed(program.checks[step.number])


# --- library calls --------------------------------------------------------------------------------


def _run_blocks(step: RunBlocks, memory: _Memory, points: Points | None) -> None:
    blocks = blocks_of(step)
    units, counts = memory.size(blocks.units), [memory.size(n) for n in blocks.counts]
    for run in kernel_runs(step):
        run_once(run.kernel, "first", *_given(run, memory))
    for first in range(0, units, blocks.block):
        last = min(first + blocks.block, units)
        if step.before:  # what it wrote before is gone
            memory.lose(step.product.x.buffer, step.product.rows * step.product.x.leading)
        for part, count in zip(parts(step), counts, strict=True):
            _run_part(part, memory, points, first * count, last * count)
    for run in kernel_runs(step):
        run_once(run.kernel, "last", *_given(run, memory))


def _run_part(part: Simple, memory: _Memory, points: Points | None, first: int, end: int) -> None:
    """Makes some rows (or matrices) of a product, or runs some steps of a kernel's first loop."""
    if isinstance(part, RunMatmul):
        _matmul(part, memory, slice(first, end))
    elif isinstance(part, RunKernel):
        inside = math.prod(memory.size(part.size(e)) for e in part.kernel.extents[1:])
        some = _shifted(points, first * inside, (end - first) * inside)
        run_points(part.kernel, *_given(part, memory), some)


def _shifted(points: Points | None, start: int, count: int) -> Points:
    """A kernel's outer points from `start` on."""
    groups: Sequence[Any] = [range(count)] if points is None else points(count)
    return lambda _: [[start + p for p in group] for group in groups] if count else []


def _matmul(step: RunMatmul, memory: _Memory, items: slice = slice(None)) -> None:
    """The product, or some matrices of its batch; some rows, where there is one matrix."""
    *batch, rows, columns, inner = (
        memory.size(d) for d in (*step.batch, step.rows, step.columns, step.inner)
    )
    x = _matrices(step.x, (*batch, rows, inner), memory)
    y = _matrices(step.y, (*batch, inner, columns), memory)
    out = _matrices(step.out, (*batch, rows, columns), memory)
    if not step.batch:
        out[items] = np.matmul(np.ascontiguousarray(x[items]), np.ascontiguousarray(y))
    for number in list(np.ndindex(*batch))[items] if step.batch else ():
        out[number] = np.matmul(np.ascontiguousarray(x[number]), np.ascontiguousarray(y[number]))


def _matrices(view: MatrixView, shape: tuple[int, ...], memory: _Memory) -> Array:
    flat = memory.buffers[view.buffer][memory.size(view.offset) :]
    *batch, leading = (memory.size(d) for d in (*view.batch, view.leading))
    steps = (*batch, 1, leading) if view.transposed else (*batch, leading, 1)
    last = sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
    assert min(shape) == 0 or last < len(flat), "a matrix reaches beyond its buffer"
    strides = tuple(s * flat.itemsize for s in steps)
    return np.lib.stride_tricks.as_strided(flat, shape, strides)


def _call(step: RunCall, memory: _Memory) -> None:
    buffers = [memory.buffers[b] for b in step.buffers]
    integers = [memory.size(i) for i in step.integers]
    if step.is_users:
        _call_users(step, buffers, integers)
        return
    if step.function == "solve":
        batch, n, columns = integers
        a, b = buffers[0].reshape(batch, n, n), buffers[1].reshape(batch, n, columns)
        results = get("solve").reference(a, b)
    else:
        name = step.function
        params: dict[str, Any] = {"shape": (integers[0],)}
        params |= zip(INTEGER_PARAMS.get(name, ()), integers[1:], strict=True)
        params |= zip(FLOAT_PARAMS.get(name, ()), step.floats, strict=True)
        if name not in ("integers", "bernoulli"):
            params["dtype"] = step.dtype
        results = get(step.function).reference(buffers[0], **params)
    for buffer, result in zip(buffers[-len(results) :], results, strict=True):
        buffer[:] = np.asarray(result).ravel()


def _call_users(step: RunCall, buffers: Sequence[Array], sizes: Sequence[int]) -> None:
    primitive, left = get(step.function), list(sizes)
    assert isinstance(primitive.lowering, CallFunction)
    shapes = [tuple(left.pop(0) for _ in range(rank)) for rank in primitive.lowering.ranks]
    count = step.operands
    given = [b.reshape(shape) for b, shape in zip(buffers[:count], shapes, strict=False)]
    of_results = tuple(from_numpy(b.dtype) for b in buffers[count:-1])
    results = primitive.reference(*given, shapes=tuple(shapes[count:-1]), dtypes=of_results)
    for buffer, result in zip(buffers[count:], results, strict=True):
        buffer[:] = np.asarray(result).ravel()


def _run_kernel(run: RunKernel, memory: _Memory, points: Points | None) -> None:
    run_kernel(run.kernel, *_given(run, memory), points)


def _given(run: RunKernel, memory: _Memory) -> tuple[list[Array], dict[str, int]]:
    """A kernel's buffers and sizes in one run."""
    sizes = dict(zip(run.kernel.symbols, map(memory.size, run.arguments), strict=True))
    return [memory.buffers[b] for b in run.buffers], sizes


# --- kernels --------------------------------------------------------------------------------------


def run_kernel(
    kernel: Kernel,
    buffers: Sequence[Array],
    sizes: Mapping[str, int],
    points: Points | None = None,
) -> None:
    """Runs one kernel on flat arrays."""
    run_once(kernel, "first", buffers, sizes)
    run_points(kernel, buffers, sizes, points)
    run_once(kernel, "last", buffers, sizes)


def run_once(
    kernel: Kernel, when: When, buffers: Sequence[Array], sizes: Mapping[str, int]
) -> None:
    """Runs what a kernel does before or after all outer points."""
    outer = [np.zeros((1, 1), int) for _ in kernel.extents]
    _Points(kernel, buffers, sizes, outer, 1).run(when)


def run_points(
    kernel: Kernel,
    buffers: Sequence[Array],
    sizes: Mapping[str, int],
    points: Points | None = None,
) -> None:
    """Runs some or all of a kernel's outer points."""
    extents = [evaluate_dim(e, sizes) for e in kernel.extents]
    count = math.prod(extents)
    chunks: Sequence[Any] = [np.arange(count)] if points is None else points(count)
    if _sums(kernel):
        chunks = [sorted(point for chunk in chunks for point in chunk)]
    for chunk in chunks if count else ():
        loops = np.unravel_index(np.asarray(chunk), extents) if extents else ()
        outer = [np.asarray(i)[:, None] for i in loops]
        _Points(kernel, buffers, sizes, outer, len(chunk)).run("each")


def _sums(kernel: Kernel) -> bool:
    """Whether outer points add to one place, in their order."""
    stores = (it for stage in kernel.stages for it in stage.body if isinstance(it, Store))
    return any(store.combine != "set" or store.index.dynamic for store in stores)


class _Points:
    """A kernel at some of its outer points; a register is an array (points, loops of the stage)."""

    def __init__(
        self,
        kernel: Kernel,
        buffers: Sequence[Array],
        sizes: Mapping[str, int],
        outer: list[Array],
        count: int,
    ) -> None:
        self.kernel, self.buffers, self.sizes = kernel, buffers, sizes
        self.outer, self.count = outer, count
        self.registers: dict[int, Array] = {}

    def run(self, when: When) -> None:
        for stage in self.kernel.stages_for(when):
            before = dict(self.registers)
            reduced = self._stage(stage)
            if stage.extents:
                self.registers = before
            self.registers |= reduced

    def _stage(self, stage: Stage) -> dict[int, Array]:
        extents = [evaluate_dim(e, self.sizes) for e in stage.extents]
        steps = math.prod(extents)
        inner = (
            np.unravel_index(np.arange(steps), extents)
            if extents and steps
            else [np.zeros(steps, int) for _ in extents]
        )
        loops = [*self.outer, *(np.asarray(i)[None, :] for i in inner)]
        reduced: dict[int, Array] = {}
        for it in stage.body:
            if isinstance(it, Reduce):
                values = self._spread(self.registers[it.operand], steps)
                last = extents[-1] if extents and self.kernel.lanes_of(stage) == "inner" else 1
                reduced[it.register] = reduce_rows(it, values, last)[:, None]
            elif isinstance(it, Store):
                self._store(it, loops, steps)
            else:
                self.registers[it.register] = self._value(it, loops, steps)
        return reduced

    def _spread(self, value: Array, steps: int) -> Array:
        return np.ascontiguousarray(np.broadcast_to(value, (self.count, steps)))

    def _index(self, index: Index, loops: Sequence[Array], steps: int) -> Array:
        position = np.full((self.count, steps), evaluate_dim(index.offset, self.sizes), np.int64)
        for coefficient, loop in zip(index.coefficients, loops, strict=True):
            position += evaluate_dim(coefficient, self.sizes) * loop
        for register, stride in index.dynamic:
            position += self.registers[register] * evaluate_dim(stride, self.sizes)
        return position

    def _value(self, it: Instruction, loops: Sequence[Array], steps: int) -> Array:
        match it:
            case Load():
                index = self._index(it.index, loops, steps)
                assert not index.size or index.min() >= 0, "a load before its buffer"
                return self.buffers[it.buffer][index]
            case Const():
                return np.full((self.count, steps), it.value, it.dtype.numpy)
            case Position():
                return self._index(it.index, loops, steps).astype(it.dtype.numpy)
            case Compute():
                operands = [self._spread(self.registers[r], steps) for r in it.operands]
                assert operands[-1].dtype == it.operand_dtype.numpy
                params = {"dtype": it.dtype} if it.primitive == "cast" else {}
                result = get(it.primitive).reference(*operands, **params)
                return np.asarray(result).astype(it.dtype.numpy, copy=False)
        raise AssertionError(it)

    def _store(self, it: Store, loops: Sequence[Array], steps: int) -> None:
        index = self._index(it.index, loops, steps).ravel()
        assert not index.size or index.min() >= 0, "a store before its buffer"
        assert self.kernel.buffers[it.buffer].written
        value = self._spread(self.registers[it.value], steps).ravel()
        assert value.dtype == self.buffers[it.buffer].dtype
        if it.combine == "sum" and not any(i[0].any() for i in self.outer):  # the first points
            self.buffers[it.buffer][index] = 0
        if it.combine != "set":
            np.add.at(self.buffers[it.buffer], index, value)
        else:
            self.buffers[it.buffer][index] = value


_COMBINE: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def reduce_rows(it: Reduce, values: Array, last: int) -> Array:
    """Each row of `values` combined, in partial results along loops of `last` elements."""
    if it.combine == "argmax":
        return np.asarray(np.argmax(values, axis=1), it.dtype.numpy)
    combine = _COMBINE[it.combine]
    wide = values.astype(np.float32) if values.dtype == np.float16 else values
    lanes = min(REDUCTION_LANES, 1 << max(last - 1, 0).bit_length())
    partial = np.full((len(wide), lanes), _neutral(it.combine, wide.dtype), wide.dtype)
    for line in np.split(wide, wide.shape[1] // last, axis=1) if wide.shape[1] else []:
        for start in range(0, last, lanes):
            block = line[:, start : start + lanes]
            partial[:, : block.shape[1]] = combine(partial[:, : block.shape[1]], block)
    while partial.shape[1] > 1:
        half = partial.shape[1] // 2
        partial = combine(partial[:, :half], partial[:, half:])
    total = partial[:, 0]
    result: Array = (total + 0 if it.combine == "add" else total).astype(it.dtype.numpy)
    return result


def _neutral(combine: str, dtype: np.dtype[Any]) -> Any:
    if combine in ("add", "mul"):
        return (-0.0 if dtype.kind == "f" else 0) if combine == "add" else 1
    lowest = combine == "max"
    if dtype.kind == "f":
        return -np.inf if lowest else np.inf
    if dtype.kind == "b":
        return not lowest
    return np.iinfo(dtype).min if lowest else np.iinfo(dtype).max
