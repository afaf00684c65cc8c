"""Loads and stores of a kernel: index maps become addresses, and those the best instruction.

An index is affine in the loops, one of which may be spread over lanes.  Its coefficient there
decides: 0 reads one element for all lanes, 1 a vector, -1 a vector in reverse order; anything else,
and positions that are data, gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

from llvmlite import ir

from ..dtypes import DType
from ..errors import CompileError
from ..schedule.loops import Index, Load, Store
from ..target import LANES
from .llvm_cast import resize, round_to, widen
from .llvm_control import Number, Sizes, add, as_value, multiply
from .llvm_ops import Operations
from .llvm_values import (
    I1,
    I8,
    I32,
    I64,
    POINTER,
    VOID,
    addresses,
    constant,
    element_type,
    gather,
    index,
    intrinsic,
    lane_numbers,
    memory_type,
    poison,
    shuffle,
    spread,
    vector,
    width_of,
)

Registers: TypeAlias = dict[int, tuple[ir.Value, DType]]


@dataclass(frozen=True)
class Point:
    """Where code runs.

    Attributes:
        loops: the values of the loops; of the one in lanes, its first lane's.
        axis: the loop that is spread over lanes, or None.
        width: lanes, or 0.
        mask: the lanes that exist (None: all).
    """

    loops: tuple[Number, ...]
    axis: int | None = None
    width: int = 0
    mask: ir.Value | None = None


@dataclass(frozen=True)
class Positions:
    """Where lanes are in a buffer: `base + step * lane`, plus `lanes` where positions are data."""

    base: Number
    step: Number
    lanes: ir.Value | None = None

    @property
    def fixed_step(self) -> int | None:
        """The distance of neighbouring lanes, if it is known and the same for all."""
        return self.step if self.lanes is None and isinstance(self.step, int) else None


class Memory:
    """Emits a kernel's accesses to its buffers."""

    def __init__(
        self,
        builder: ir.IRBuilder,
        buffers: Sequence[ir.Value],
        sizes: Sizes,
        operations: Operations,
        outer: int,
    ) -> None:
        """`outer` loops of the kernel are around its stages."""
        self._builder, self._buffers, self._outer = builder, buffers, outer
        self._sizes, self._operations = sizes, operations

    def positions(self, where: Index, point: Point, registers: Registers) -> Positions:
        """Where the lanes of a point are."""
        builder, sizes = self._builder, self._sizes
        base = sizes(where.offset)
        for coefficient, loop in zip(where.coefficients, point.loops, strict=True):
            base = add(builder, base, multiply(builder, sizes(coefficient), loop))
        step: Number = 0 if point.axis is None else sizes(where.coefficients[point.axis])
        lanes: ir.Value | None = None
        for register, stride in where.dynamic:
            value, dtype = registers[register]
            part = self._scaled(resize(builder, value, dtype, I64), sizes(stride))
            if not width_of(part):
                base = add(builder, base, part)
            else:
                lanes = part if lanes is None else builder.add(lanes, part)
        return Positions(base, step, lanes)

    def _scaled(self, value: ir.Value, factor: Number) -> ir.Value:
        if isinstance(factor, int) and factor == 1:
            return value
        return self._builder.mul(value, spread(self._builder, as_value(factor), width_of(value)))

    def numbers(self, positions: Positions, width: int) -> ir.Value:
        """Positions as i64: one if they are the same for all lanes, else one in each."""
        base = as_value(positions.base)
        if positions.fixed_step == 0:
            return base
        result = spread(self._builder, base, width)
        if not isinstance(positions.step, int) or positions.step != 0:
            steps = self._scaled(lane_numbers(I64, width), positions.step)
            result = self._builder.add(result, steps)
        return result if positions.lanes is None else self._builder.add(result, positions.lanes)

    # --- loads ------------------------------------------------------------------------------------

    def load(self, load: Load, point: Point, registers: Registers) -> ir.Value:
        """The elements at a point; one scalar if it is the same for all lanes."""
        positions = self.positions(load.index, point, registers)
        value = self._read(load.buffer, positions, point, load.dtype)
        if load.dtype.kind != "bool":
            return value
        return self._builder.icmp_unsigned("!=", value, constant(I8, 0, width_of(value)))

    def _read(self, buffer: int, positions: Positions, point: Point, dtype: DType) -> ir.Value:
        if positions.fixed_step == 0:
            element = memory_type(dtype)
            address = self._address(buffer, positions.base, element)
            return self._builder.load(address, align=dtype.itemsize, typ=element)
        if positions.fixed_step in (1, -1):
            return self._read_vector(buffer, positions, point, dtype)
        return self._gather(buffer, positions, point, dtype)

    def _read_vector(
        self, buffer: int, positions: Positions, point: Point, dtype: DType
    ) -> ir.Value:
        address = self._first_address(buffer, positions, point, dtype)
        kind = vector(memory_type(dtype), point.width)
        mask = self._in_order(point.mask, positions)
        if mask is None:
            value = self._builder.load(address, align=dtype.itemsize, typ=kind)
        else:
            operands = [address, ir.Constant(I32, dtype.itemsize), mask, _zeros(dtype, point.width)]
            value = intrinsic(self._builder, "masked.load", kind, operands, kind, POINTER)
        return self._in_order(value, positions)

    def _gather(self, buffer: int, positions: Positions, point: Point, dtype: DType) -> ir.Value:
        """Lane by lane: faster than the instruction, which serves masks and long vectors."""
        if point.mask is None and point.width <= LANES:
            return self._collect(buffer, positions, point.width, dtype)
        places = self._addresses(buffer, positions, point, dtype)
        element = memory_type(dtype)
        return gather(self._builder, element, places, dtype.itemsize, _mask_of(point))

    def _collect(self, buffer: int, positions: Positions, width: int, dtype: DType) -> ir.Value:
        builder, element = self._builder, memory_type(dtype)
        first = self._address(buffer, positions.base, element)
        value: ir.Value = poison(vector(element, width))
        for number in range(width):
            lane = ir.Constant(I32, number)
            distance = multiply(builder, positions.step, number)
            if positions.lanes is not None:
                part = builder.extract_element(positions.lanes, lane)
                distance = add(builder, part, distance)
            address = builder.gep(first, [as_value(distance)], source_etype=element)
            loaded = builder.load(address, align=dtype.itemsize, typ=element)
            value = builder.insert_element(value, loaded, lane)
        return value

    # --- stores -----------------------------------------------------------------------------------

    def store(self, store: Store, point: Point, registers: Registers) -> None:
        """Writes the elements at a point.

        Raises:
            CompileError: lanes write to one place, or may, which only a kernel without lanes can do
            in order.
        """
        positions = self.positions(store.index, point, registers)
        collide = positions.fixed_step == 0 or (store.combine == "add" and positions.lanes)
        if point.width and collide:
            raise CompileError("lanes write to one place: this kernel must have lanes none")
        value, dtype = spread(self._builder, registers[store.value][0], point.width), store.dtype
        if store.combine != "set":
            old = self._read(store.buffer, positions, point, dtype)
            if store.combine == "sum":
                old = self._unless_first(old, point)
            value = self._sum(old, value, dtype)
        if dtype.kind == "bool":
            value = self._builder.zext(value, vector(I8, width_of(value)))
        self._write(store.buffer, positions, point, dtype, value)

    def _unless_first(self, old: ir.Value, point: Point) -> ir.Value:
        """What the outer points before this one have added up: 0 at the first one."""
        builder, zero = self._builder, constant(element_type(old), 0, width_of(old))
        later = [
            builder.icmp_signed(">", as_value(i), index(0)) for i in point.loops[: self._outer]
        ]
        return builder.select(reduce(builder.or_, later), old, zero) if later else zero

    def _sum(self, old: ir.Value, value: ir.Value, dtype: DType) -> ir.Value:
        operands = (widen(self._builder, old), widen(self._builder, value))
        total = self._operations.combine(self._builder, "add", dtype, *operands)
        return round_to(self._builder, total, dtype)

    def _write(
        self, buffer: int, positions: Positions, point: Point, dtype: DType, value: ir.Value
    ) -> None:
        if not point.width:
            address = self._address(buffer, positions.base, value.type)
            self._builder.store(value, address, align=dtype.itemsize)
        elif positions.fixed_step in (1, -1):
            self._write_vector(buffer, positions, point, dtype, value)
        else:
            places = self._addresses(buffer, positions, point, dtype)
            operands = [value, places, ir.Constant(I32, dtype.itemsize), _mask_of(point)]
            types = (value.type, places.type)
            intrinsic(self._builder, "masked.scatter", VOID, operands, *types)

    def _write_vector(
        self, buffer: int, positions: Positions, point: Point, dtype: DType, value: ir.Value
    ) -> None:
        address = self._first_address(buffer, positions, point, dtype)
        value, mask = self._in_order(value, positions), self._in_order(point.mask, positions)
        if mask is None:
            self._builder.store(value, address, align=dtype.itemsize)
            return
        operands = [value, address, ir.Constant(I32, dtype.itemsize), mask]
        intrinsic(self._builder, "masked.store", VOID, operands, value.type, POINTER)

    # --- addresses --------------------------------------------------------------------------------

    def _address(self, buffer: int, position: Number, element: ir.Type) -> ir.Value:
        base = self._buffers[buffer]
        if isinstance(position, int) and position == 0:
            return base
        return self._builder.gep(base, [as_value(position)], source_etype=element)

    def _first_address(
        self, buffer: int, positions: Positions, point: Point, dtype: DType
    ) -> ir.Value:
        """The lowest address of neighbouring lanes."""
        last = 0 if positions.step == 1 else 1 - point.width
        lowest = add(self._builder, positions.base, last)
        return self._address(buffer, lowest, memory_type(dtype))

    def _addresses(self, buffer: int, positions: Positions, point: Point, dtype: DType) -> ir.Value:
        numbers = self.numbers(positions, point.width)
        return addresses(self._builder, self._buffers[buffer], numbers, memory_type(dtype))

    def _in_order(self, value: ir.Value | None, positions: Positions) -> ir.Value | None:
        """Lanes in the order of memory: reversed where an index runs down."""
        if value is None or positions.step == 1:
            return value
        return shuffle(self._builder, value, range(width_of(value))[::-1])


def _zeros(dtype: DType, width: int) -> ir.Value:
    return constant(memory_type(dtype), 0, width)


def _mask_of(point: Point) -> ir.Value:
    return constant(I1, True, point.width) if point.mask is None else point.mask
