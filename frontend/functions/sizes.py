"""Sizes compared, and sizes as operands: numbers where known, scalars of the graph where named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...compiler.aval import Dim, SymDim, size_of
from ...compiler.primitives import create
from ..symint import asked
from ..tape import Operand, apply


def same_size(a: Dim, b: Dim) -> bool:
    """Whether two sizes are equal; of named ones, in the call that is traced, with a guard."""
    return bool(asked(a) == asked(b))


def same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two shapes are equal; see `same_size`."""
    return len(a) == len(b) and all(map(same_size, a, b))


def is_one(size: Dim) -> bool:
    """Whether a size is the number 1: a named one that may be 1 stays what it is."""
    return not isinstance(size, SymDim) and size == 1


def stretches(size: Dim, target: Dim) -> bool:
    """Whether a size broadcasts to another."""
    return is_one(size) or same_size(size, target) or same_size(size, 1)


def size_operand(size: Dim) -> Operand:
    """A size as an operand; a symbolic one is a weak integer, as Python's are."""
    return apply(create.size, value=size) if isinstance(size, SymDim) else size


def count_of(shape: Iterable[Dim]) -> Operand:
    """The number of elements of a shape, as an operand."""
    return size_operand(size_of(shape))
