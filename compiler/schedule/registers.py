"""Registers of a kernel renamed."""

from __future__ import annotations

from dataclasses import replace

from .loops import (
    Compute,
    Const,
    Index,
    Instruction,
    Load,
    Position,
    Reduce,
    Register,
    Stage,
    Store,
)


def defined(stages: tuple[Stage, ...]) -> list[Register]:
    """The registers in the order in which they are defined."""
    return [it.register for stage in stages for it in stage.body if not isinstance(it, Store)]


def renumber(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same stages with registers numbered in the order in which they are defined."""
    numbers = {old: new for new, old in enumerate(defined(stages))}
    if all(old == new for old, new in numbers.items()):
        return stages
    return tuple(replace(s, body=tuple(_renamed(i, numbers) for i in s.body)) for s in stages)


def shifted(stages: tuple[Stage, ...], by: int) -> tuple[Stage, ...]:
    """The same stages with higher numbers of registers."""
    numbers = {register: register + by for register in defined(stages)}
    return tuple(replace(s, body=tuple(_renamed(i, numbers) for i in s.body)) for s in stages)


def _renamed(it: Instruction, to: dict[Register, Register]) -> Instruction:
    match it:
        case Load():
            return Load(to[it.register], it.buffer, _renamed_index(it.index, to), it.dtype)
        case Const():
            return Const(to[it.register], it.value, it.dtype)
        case Position():
            return Position(to[it.register], _renamed_index(it.index, to), it.dtype)
        case Compute():
            operands = tuple(to[r] for r in it.operands)
            return Compute(to[it.register], it.primitive, operands, it.operand_dtype, it.dtype)
        case Reduce():
            operand = to[it.operand]
            return Reduce(to[it.register], it.combine, operand, it.operand_dtype, it.dtype)
        case Store():
            index = _renamed_index(it.index, to)
            return Store(it.buffer, index, to[it.value], it.dtype, it.combine)


def _renamed_index(index: Index, to: dict[Register, Register]) -> Index:
    if not index.dynamic:
        return index
    return Index(index.offset, index.coefficients, tuple((to[r], s) for r, s in index.dynamic))
