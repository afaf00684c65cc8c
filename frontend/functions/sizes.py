"""Sizes as operands: a number where it is known, a scalar of the graph where it is symbolic."""

from __future__ import annotations

from collections.abc import Iterable

from ...compiler.aval import Dim, SymDim, size_of
from ...compiler.primitives import create
from ..tape import Operand, apply


def size_operand(size: Dim) -> Operand:
    """A size as an operand; a symbolic one is a weak integer, as Python's are."""
    return apply(create.size, value=size) if isinstance(size, SymDim) else size


def count_of(shape: Iterable[Dim]) -> Operand:
    """The number of elements of a shape, as an operand."""
    return size_operand(size_of(shape))
