"""Reductions: accumulators, and the fixed order in which they are combined.

Over the inner loop, element j goes to lane j % 64 (4 vectors of 16 lanes, so that four additions
are under way at a time), and the lanes are combined in halves: i with i + 32, then i + 16, 8, 4, 2,
1.  A shorter loop needs fewer lanes and gives the same bits, since all others would hold the
neutral element.  Over any other loop, elements are added one after the other.  So the order is a
function of the extents alone.

A sum starts from -0, the one number that changes no other when added, and ends with + 0, since the
sum of nothing or of negative zeros is +0.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from ..schedule.loops import Reduce, Stage
from .llvm_cast import cast, round_to
from .llvm_ops import Operations
from .llvm_values import (
    I1,
    I64,
    constant,
    element_type,
    halves,
    register_type,
    shuffle,
    spread,
    width_of,
)

State: TypeAlias = list[ir.Value]
_NOWHERE = (1 << 63) - 1


def reductions(stage: Stage) -> list[Reduce]:
    """The reductions of a stage, in order."""
    return [i for i in stage.body if isinstance(i, Reduce)]


def accumulated(reduce: Reduce) -> DType:
    """The dtype in which partial results are kept: f16 is added up in f32."""
    dtype = reduce.operand_dtype if reduce.combine == "argmax" else reduce.dtype
    return dtypes.f32 if dtype is dtypes.f16 else dtype


def state_size(reduce: Reduce) -> int:
    """Values that an accumulator has: an argmax keeps the largest element and its position."""
    return 2 if reduce.combine == "argmax" else 1


def initial(reduce: Reduce, width: int) -> State:
    """An accumulator of nothing."""
    dtype = accumulated(reduce)
    neutral = constant(register_type(dtype), _neutral(reduce.combine, dtype), width)
    return [neutral, constant(I64, _NOWHERE, width)][: state_size(reduce)]


def _neutral(combine: str, dtype: DType) -> bool | int | float:
    if combine in ("add", "mul"):
        if dtype.kind == "float":
            return -0.0 if combine == "add" else 1.0
        return int(combine == "mul")
    largest = combine == "min"
    if dtype.kind == "float":
        return math.inf if largest else -math.inf
    if dtype.kind in ("bool", "uint"):
        top: bool | int = True if dtype.kind == "bool" else (1 << dtype.bits) - 1
        return top if largest else type(top)(0)
    return (1 << (dtype.bits - 1)) - 1 if largest else -(1 << (dtype.bits - 1))


class Reductions:
    """Emits the steps of accumulators."""

    def __init__(self, builder: ir.IRBuilder, operations: Operations) -> None:
        self._builder, self._operations = builder, operations

    def update(
        self, reduce: Reduce, state: State, values: State, lanes: int, mask: ir.Value | None
    ) -> State:
        """The accumulator with one more element (and its position) in each lane that the mask has.

        A block of fewer `lanes` than the accumulator's goes to its first ones.
        """
        width = width_of(state[0])
        element = cast(self._builder, values[0], reduce.operand_dtype, accumulated(reduce))
        new = [self._fit(v, width) for v in (element, *values[1:])]
        combined = self._combine(reduce, state, new)
        if mask is None and lanes < width:
            mask = constant(I1, True, lanes)
        if mask is None:
            return combined
        mask = self._fit(mask, width, constant(I1, False, lanes))
        return [self._builder.select(mask, c, s) for c, s in zip(combined, state, strict=True)]

    def _fit(self, value: ir.Value, width: int, rest: ir.Value | None = None) -> ir.Value:
        """A scalar in all lanes; a narrower vector in the first, before `rest` (or anything)."""
        narrow = width_of(value)
        if not narrow or narrow == width:
            return spread(self._builder, value, width)
        lanes = [min(lane, narrow) for lane in range(width)]
        return shuffle(self._builder, value, lanes, rest)

    def _combine(self, reduce: Reduce, a: State, b: State) -> State:
        dtype = accumulated(reduce)
        if reduce.combine != "argmax":
            return [self._operations.combine(self._builder, reduce.combine, dtype, a[0], b[0])]
        wins = self._wins(dtype, a, b)
        return [self._builder.select(wins, y, x) for x, y in zip(a, b, strict=True)]

    def _wins(self, dtype: DType, a: State, b: State) -> ir.Value:
        """Whether b is before a: larger, or nan where a is not; or as large, but earlier."""
        builder = self._builder
        earlier = builder.icmp_signed("<", b[1], a[1])
        if dtype.kind == "float":
            a_is_nan = builder.fcmp_unordered("uno", a[0], a[0])
            b_is_nan = builder.fcmp_unordered("uno", b[0], b[0])
            larger = builder.and_(builder.fcmp_unordered(">", b[0], a[0]), builder.not_(a_is_nan))
            same = builder.or_(
                builder.fcmp_ordered("==", b[0], a[0]), builder.and_(a_is_nan, b_is_nan)
            )
        else:
            compare = builder.icmp_signed if dtype.kind == "int" else builder.icmp_unsigned
            larger, same = compare(">", b[0], a[0]), compare("==", b[0], a[0])
        return builder.or_(larger, builder.and_(same, earlier))

    def finish(self, reduce: Reduce, state: State, across: bool) -> ir.Value:
        """The result; `across` combines the lanes."""
        while across and width_of(state[0]):
            parts = [halves(self._builder, s) for s in state]
            state = self._combine(reduce, [p[0] for p in parts], [p[1] for p in parts])
        if reduce.combine == "argmax":
            return state[1]
        (value,) = state
        dtype = accumulated(reduce)
        if reduce.combine == "add" and dtype.kind == "float":
            zero = constant(element_type(value), 0.0, width_of(value))
            value = self._builder.fadd(value, zero)
        return round_to(self._builder, value, reduce.dtype)
