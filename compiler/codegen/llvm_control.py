"""Loops and sizes of generated code.

Sizes are Python ints where they are known, and i64 values where they are symbolic (`Number`):
arithmetic on known ones happens here, so that it never reaches LLVM's text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llvmlite import ir

from ..aval import Dim, FloorDiv, SymDim
from .llvm_values import index

Number: TypeAlias = "int | ir.Value"
Carried: TypeAlias = list[ir.Value]


def as_value(number: Number) -> ir.Value:
    """A number as an i64 value."""
    return index(number) if isinstance(number, int) else number


def add(builder: ir.IRBuilder, a: Number, b: Number) -> Number:
    """a + b."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if isinstance(a, int):
        a, b = b, a
    return a if isinstance(b, int) and b == 0 else builder.add(as_value(a), as_value(b))


def multiply(builder: ir.IRBuilder, a: Number, b: Number) -> Number:
    """a * b."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if isinstance(a, int):
        a, b = b, a
    if isinstance(b, int) and b in (0, 1):
        return a if b else 0
    return builder.mul(as_value(a), as_value(b))


def subtract(builder: ir.IRBuilder, a: Number, b: Number) -> Number:
    """a - b."""
    if isinstance(b, int):
        return add(builder, a, -b)
    return builder.sub(as_value(a), b)


def smaller(builder: ir.IRBuilder, a: Number, b: Number) -> Number:
    """The smaller of a and b."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    left, right = as_value(a), as_value(b)
    return builder.select(builder.icmp_signed("<", left, right), left, right)


def larger(builder: ir.IRBuilder, a: Number, b: Number) -> Number:
    """The larger of a and b."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    left, right = as_value(a), as_value(b)
    return builder.select(builder.icmp_signed(">", left, right), left, right)


def floor_divide(builder: ir.IRBuilder, a: Number, b: int) -> Number:
    """a // b for b > 0, rounded down as in Python."""
    if isinstance(a, int):
        return a // b
    if b & (b - 1) == 0:
        return builder.ashr(a, index(b.bit_length() - 1)) if b > 1 else a
    quotient, rest = builder.sdiv(a, index(b)), builder.srem(a, index(b))
    below = builder.icmp_signed("<", rest, index(0))
    return builder.select(below, builder.sub(quotient, index(1)), quotient)


def divide(builder: ir.IRBuilder, a: Number, b: Number) -> tuple[Number, Number]:
    """a // b and a % b of numbers that are not negative."""
    if isinstance(a, int) and isinstance(b, int) and b:
        return divmod(a, b)
    left, right = as_value(a), as_value(b)
    return builder.udiv(left, right), builder.urem(left, right)


def loop(
    builder: ir.IRBuilder,
    start: Number,
    stop: Number,
    step: int,
    carried: Sequence[ir.Value],
    body: Callable[[Number, Carried], Sequence[ir.Value]],
) -> Carried:
    """Runs `carried = body(i, carried)` for i in range(start, stop, step); returns the last one.

    A trip count that is known to be 0 or 1 makes no loop.
    """
    trips = _trips(start, stop, step)
    if trips == 0:
        return list(carried)
    if trips == 1:
        return list(body(start, list(carried)))
    before, first, last = builder.block, as_value(start), as_value(stop)
    inside = builder.append_basic_block("loop")
    after = builder.append_basic_block("after")
    if trips:
        builder.branch(inside)
    else:
        builder.cbranch(builder.icmp_signed("<", first, last), inside, after)
    builder.position_at_end(inside)
    i = _phi(builder, first, before)
    merged = [_phi(builder, value, before) for value in carried]
    results = list(body(i, list(merged)))
    following = builder.add(i, index(step), flags=("nsw",))
    builder.cbranch(builder.icmp_signed("<", following, last), inside, after)
    end = builder.block
    for phi, value in zip([i, *merged], [following, *results], strict=True):
        phi.add_incoming(value, end)
    builder.position_at_end(after)
    if trips:
        return results
    pairs = zip(carried, results, strict=True)
    return [_phi(builder, old, before, (new, end)) for old, new in pairs]


def _trips(start: Number, stop: Number, step: int) -> int | None:
    """How often a loop runs, if that is known."""
    known = isinstance(start, int) and isinstance(stop, int)
    return len(range(start, stop, step)) if known else None


def _phi(
    builder: ir.IRBuilder, value: ir.Value, block: ir.Block, *more: tuple[ir.Value, ir.Block]
) -> ir.PhiInstr:
    phi = builder.phi(value.type)
    for incoming in ((value, block), *more):
        phi.add_incoming(*incoming)
    return phi


def when(builder: ir.IRBuilder, condition: ir.Value, body: Callable[[], object]) -> None:
    """Runs `body` if the condition holds."""
    inside = builder.append_basic_block("then")
    after = builder.append_basic_block("after")
    builder.cbranch(condition, inside, after)
    builder.position_at_end(inside)
    body()
    builder.branch(after)
    builder.position_at_end(after)


class Sizes:
    """Numbers that dimensions stand for, each computed once, in a function's first block."""

    def __init__(self, builder: ir.IRBuilder, read: Callable[[str], ir.Value]) -> None:
        """`builder` stands at the end of the first block, where `read` emits a named size."""
        self._builder, self._read = builder, read
        self._known: dict[object, Number] = {}

    def __call__(self, dim: Dim) -> Number:
        """The number that `dim` stands for."""
        if not isinstance(dim, SymDim):
            return int(dim)
        if dim not in self._known:
            self._known[dim] = self._polynomial(dim)
        return self._known[dim]

    def _polynomial(self, dim: SymDim) -> Number:
        total: Number = 0
        for monomial, coefficient in dim.terms:
            term: Number = coefficient
            for atom in monomial:
                term = multiply(self._builder, term, self._atom(atom))
            total = add(self._builder, total, term)
        return total

    def _atom(self, atom: str | FloorDiv) -> Number:
        if atom not in self._known:
            if isinstance(atom, FloorDiv):
                numerator = self(atom.numerator)
                self._known[atom] = floor_divide(self._builder, numerator, atom.denominator)
            else:
                self._known[atom] = self._read(atom)
        return self._known[atom]
