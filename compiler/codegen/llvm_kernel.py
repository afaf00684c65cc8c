"""A kernel as an LLVM function.

    void kernel(ptr buffer, ..., i64 symbol, ..., i64 begin, i64 end)

`begin` and `end` bound the first outer loop, after `flatten`: the seam at which threads share the
work, and at which a kernel takes a product's blocks.  Where that loop is the one in lanes, they are
multiples of `CHUNK`, or the end of the loop.  A kernel without outer loops ignores them.

A loop in lanes runs in blocks.  Elements that are left over make one more block, under a mask that
is a constant where the extent is known; so a known extent of at most a block's width is straight
code, without any loop.  Blocks of simple kernels are wider than 16 lanes, which is how they are
unrolled; lanes are independent of each other but in reductions, and those have their own fixed
width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from llvmlite import ir

from .. import dtypes
from ..aval import Dim
from ..dtypes import DType
from ..schedule.loops import (
    Compute,
    Const,
    Index,
    Kernel,
    Load,
    Position,
    Reduce,
    Stage,
    Store,
    When,
)
from ..target import CHUNK, LANES, REDUCTION_LANES
from .llvm_blocks import block_width, lanes_for
from .llvm_cast import cast
from .llvm_control import Carried, Number, Sizes, as_value, loop, smaller, when
from .llvm_memory import Memory, Point, Registers
from .llvm_ops import Operations
from .llvm_reduce import Reductions, initial, reductions, state_size
from .llvm_values import (
    I64,
    POINTER,
    VOID,
    constant,
    first_lanes,
    fixed_mask,
    index,
    register_type,
)

Block: TypeAlias = Callable[[Number, int, "ir.Value | None", Carried], Sequence[ir.Value]]


def declare_kernel(module: ir.Module, kernel: Kernel, name: str, distinct: bool) -> ir.Function:
    """An empty function; `distinct` promises that what it writes is none of its other buffers.

    It is not inlined: LLVM's time grows faster than a function's length, and a program may run
    hundreds of kernels.
    """
    words = [I64] * (len(kernel.symbols) + 2)
    kind = ir.FunctionType(VOID, [POINTER] * len(kernel.buffers) + words)
    function = ir.Function(module, kind, name)
    function.attributes.add("noinline")
    names = [*(b.name for b in kernel.buffers), *kernel.symbols, "begin", "end"]
    for argument, label in zip(function.args, names, strict=True):
        argument.name = label
    if distinct:
        for argument in function.args[: len(kernel.buffers)]:
            argument.add_attribute("noalias")
    return function


def emit_kernel(function: ir.Function, kernel: Kernel, operations: Operations) -> None:
    """Fills in the function of a flattened kernel."""
    _KernelEmitter(function, kernel, operations).run()


class _KernelEmitter:
    def __init__(self, function: ir.Function, kernel: Kernel, operations: Operations) -> None:
        self._kernel, self._operations = kernel, operations
        self._width, self._each = block_width(kernel), kernel.stages_for("each")
        entry, body = function.append_basic_block("sizes"), function.append_basic_block("body")
        self._entry, self._builder = ir.IRBuilder(entry), ir.IRBuilder(body)
        count = len(kernel.buffers)
        symbols = zip(kernel.symbols, function.args[count:], strict=False)
        self._begin, self._end = function.args[-2:]
        self._sizes = Sizes(self._entry, dict(symbols).__getitem__)
        buffers = function.args[:count]
        self._memory = Memory(self._builder, buffers, self._sizes, operations, len(kernel.extents))
        self._reductions = Reductions(self._builder, operations)

    def run(self) -> None:
        builder, last = self._builder, self._sizes(first_extent(self._kernel))
        self._once("first", lambda: builder.icmp_signed("==", self._begin, index(0)))
        self._outer(())
        self._once("last", lambda: builder.icmp_signed("==", self._end, as_value(last)))
        self._builder.ret_void()
        self._entry.branch(self._builder.function.basic_blocks[1])

    def _once(self, part: When, condition: Callable[[], ir.Value]) -> None:
        """What runs before or after all outer points, in the call that has the first or last."""
        stages = self._kernel.stages_for(part)
        if stages:
            point = Point((0,) * len(self._kernel.extents))
            when(self._builder, condition(), lambda: self._stages(stages, point))

    # --- loops ------------------------------------------------------------------------------------

    def _outer(self, loops: tuple[Number, ...]) -> list[ir.Value]:
        """The outer loops from number `len(loops)` on."""
        axis, kernel = len(loops), self._kernel
        if axis == len(kernel.extents):
            self._stages(self._each, Point(loops))
            return []
        if kernel.lanes == "outer" and axis + 1 == len(kernel.extents):
            return self._outer_lanes(loops)
        start, stop = self._bounds(axis)
        return loop(self._builder, start, stop, 1, [], lambda i, _: self._outer((*loops, i)))

    def _bounds(self, axis: int) -> tuple[Number, Number]:
        return (0, self._sizes(self._kernel.extents[axis])) if axis else (self._begin, self._end)

    def _outer_lanes(self, loops: tuple[Number, ...]) -> list[ir.Value]:
        axis = len(loops)

        def block(i: Number, width: int, mask: ir.Value | None, _: Carried) -> list[ir.Value]:
            self._stages(self._each, Point((*loops, i), axis, width, mask))
            return []

        extent = self._sizes(self._kernel.extents[axis])
        if not isinstance(extent, int):
            self._blocks(*self._bounds(axis), self._width, LANES, [], block)
        elif axis or extent <= CHUNK:
            self._known_blocks(extent, self._width, [], block)
        else:
            self._chunk(extent, block)
        return []

    def _chunk(self, extent: int, block: Block) -> None:
        """Blocks from begin to end, of a loop whose extent is known."""
        whole = extent - extent % self._width
        stop = smaller(self._builder, self._end, whole)
        self._whole_blocks(self._begin, stop, self._width, [], block)
        if whole < extent:
            is_last = self._builder.icmp_signed(">", self._end, index(whole))
            when(self._builder, is_last, lambda: self._rest(whole, extent, [], block))

    def _known_blocks(self, extent: int, width: int, carried: Carried, block: Block) -> Carried:
        whole = extent - extent % width
        carried = self._whole_blocks(0, whole, width, carried, block)
        return self._rest(whole, extent, carried, block) if whole < extent else carried

    def _whole_blocks(
        self, start: Number, stop: Number, width: int, carried: Carried, block: Block
    ) -> Carried:
        return loop(
            self._builder, start, stop, width, carried, lambda i, c: block(i, width, None, c)
        )

    def _rest(self, start: int, stop: int, carried: Carried, block: Block) -> Carried:
        width = lanes_for(stop - start)
        return list(block(start, width, fixed_mask(stop - start, width), carried))

    def _blocks(
        self,
        start: Number,
        stop: Number,
        width: int,
        last_width: int,
        carried: Carried,
        block: Block,
    ) -> Carried:
        """Blocks of a loop of unknown extent, the last ones of `last_width` under a mask."""
        builder = self._builder
        count = builder.sub(as_value(stop), as_value(start))
        whole = builder.add(as_value(start), builder.and_(count, index(-width)))
        carried = self._whole_blocks(start, whole, width, carried, block)

        def masked(i: Number, state: Carried) -> Sequence[ir.Value]:
            left = builder.sub(as_value(stop), as_value(i))
            return block(i, last_width, first_lanes(builder, left, last_width), state)

        return loop(builder, whole, stop, last_width, carried, masked)

    # --- stages -----------------------------------------------------------------------------------

    def _stages(self, stages: Sequence[Stage], point: Point) -> None:
        registers: Registers = {}
        for stage in stages:
            if stage.extents:
                self._looped_stage(stage, point, registers)
            else:
                self._body(stage, point, registers, [])

    def _looped_stage(self, stage: Stage, point: Point, registers: Registers) -> None:
        """Runs a stage's loops; its reductions are complete after them."""
        inner = self._is_inner(stage)
        width = self._inner_width(stage) if inner else point.width
        found = reductions(stage)
        carried = [value for reduce in found for value in initial(reduce, width)]
        carried = self._nest(stage, point, registers, width, carried)
        for reduce in found:
            state, carried = carried[: state_size(reduce)], carried[state_size(reduce) :]
            value = self._reductions.finish(reduce, state, across=inner)
            registers[reduce.register] = value, reduce.dtype

    def _is_inner(self, stage: Stage) -> bool:
        return self._kernel.lanes_of(stage) == "inner"

    def _inner_width(self, stage: Stage) -> int:
        """Lanes of the last loop: fixed if something is reduced, but none that stay empty."""
        width = REDUCTION_LANES if reductions(stage) else self._width
        extent = stage.extents[-1]
        return min(width, lanes_for(extent)) if isinstance(extent, int) else width

    def _nest(
        self, stage: Stage, point: Point, registers: Registers, width: int, carried: Carried
    ) -> Carried:
        """The stage's loops from the one on that the point has not."""
        axis = len(point.loops)
        level = axis - len(self._kernel.extents)
        if level == len(stage.extents):
            return self._body(stage, point, dict(registers), carried)
        extent = self._sizes(stage.extents[level])
        if self._is_inner(stage) and level + 1 == len(stage.extents):
            block = self._inner_block(stage, point, registers)
            if isinstance(extent, int):
                return self._known_blocks(extent, width, carried, block)
            last_width = width if carried else LANES
            return self._blocks(0, extent, width, last_width, carried, block)

        def body(i: Number, state: Carried) -> Carried:
            inside = replace(point, loops=(*point.loops, i))
            return self._nest(stage, inside, registers, width, state)

        return loop(self._builder, 0, extent, 1, carried, body)

    def _inner_block(self, stage: Stage, point: Point, registers: Registers) -> Block:
        axis = len(point.loops)

        def block(i: Number, width: int, mask: ir.Value | None, state: Carried) -> Carried:
            inside = Point((*point.loops, i), axis, width, mask)
            return self._body(stage, inside, dict(registers), state)

        return block

    # --- instructions -----------------------------------------------------------------------------

    def _body(self, stage: Stage, point: Point, registers: Registers, carried: Carried) -> Carried:
        """The stage's instructions at a point; fills `registers`, returns the accumulators."""
        results: Carried = []
        for instruction in stage.body:
            match instruction:
                case Store():
                    self._memory.store(instruction, point, registers)
                case Reduce():
                    state = carried[len(results) :][: state_size(instruction)]
                    here = point if self._is_inner(stage) else replace(point, mask=None)
                    results += self._update(instruction, state, here, registers)
                case _:
                    value = self._value(instruction, point, registers)
                    registers[instruction.register] = value, instruction.dtype
        return results

    def _value(
        self, instruction: Load | Const | Position | Compute, point: Point, registers: Registers
    ) -> ir.Value:
        match instruction:
            case Load():
                return self._memory.load(instruction, point, registers)
            case Const(value=value, dtype=dtype):
                return constant(register_type(dtype), _typed(value, dtype))
            case Position():
                number = self._number(instruction.index, point, registers)
                return cast(self._builder, number, dtypes.i64, instruction.dtype)
            case Compute(primitive=primitive, operand_dtype=source, dtype=result):
                operands = [registers[r][0] for r in instruction.operands]
                return self._operations.compute(
                    self._builder, primitive, operands, source, result, point.mask
                )

    def _number(self, where: Index, point: Point, registers: Registers) -> ir.Value:
        positions = self._memory.positions(where, point, registers)
        return self._memory.numbers(positions, point.width)

    def _update(
        self, reduce: Reduce, state: Carried, point: Point, registers: Registers
    ) -> Carried:
        """An accumulator with the elements at a point; lanes that are rows need no mask."""
        values = [registers[reduce.operand][0]]
        if reduce.combine == "argmax":
            along = tuple(int(i + 1 == len(point.loops)) for i in range(len(point.loops)))
            values.append(self._number(Index(0, along), point, registers))
        return self._reductions.update(reduce, state, values, point.width, point.mask)


def _typed(value: bool | float, dtype: DType) -> bool | float:
    return {"float": float, "bool": bool}.get(dtype.kind, int)(value)


def first_extent(kernel: Kernel) -> Dim:
    """The extent of the first outer loop: what `end` is for a call that does all the work."""
    return kernel.extents[0] if kernel.extents else 1
