"""Matrix operands as views: transposes, reshapes, slices and broadcasts that cost no copy."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from ..aval import Dim, Shape
from ..errors import WhyNot
from ..ir import Value
from .access import is_literal, is_movement
from .indexing import Expr, flatten, loop, never_negative, through


class SourceView(NamedTuple):
    """A batch of matrices inside the contiguous value `source`; the rest is as in `MatrixView`."""

    source: Value
    offset: Dim
    leading: Dim
    batch_stride: Dim
    transposed: bool


def matrix_view(value: Value) -> SourceView | WhyNot:
    """How a matrix product can read its operand `value` in place."""
    shape = value.aval.shape
    if not is_movement(value.node) and not is_literal(value.node):
        rows, columns = shape[-2:]
        return SourceView(value, 0, columns, rows * columns, False)
    flat = flatten([loop(axis) for axis in range(len(shape))], shape)
    while is_movement(value.node):
        flat = through(value.node, flat, shape)
        value = value.node.operands[0]
    if is_literal(value.node):
        return WhyNot("it is a constant, which has no memory")
    steps = _steps(flat, len(shape))
    if steps is None:
        return WhyNot("its elements do not lie at regular distances")
    batch = _batch_stride(shape[:-2], steps[:-2])
    if batch is None:
        return WhyNot("the matrices of the batch do not lie at regular distances")
    matrix = _matrix(shape[-2:], steps[-2:])
    if matrix is None:
        return WhyNot("neither its rows nor its columns are contiguous")
    return SourceView(value, flat.offset, matrix[0], batch, matrix[1])


def _steps(flat: Expr, count: int) -> list[Dim] | None:
    """The distance of neighbouring elements along each dimension."""
    steps: list[Dim] = [0] * count
    for atom, coefficient in flat.terms:
        if not isinstance(atom, int) or not never_negative(coefficient):
            return None
        steps[atom] = coefficient
    return steps


def _batch_stride(shape: Shape, steps: list[Dim]) -> Dim | None:
    """The distance of neighbouring matrices, where the batch's dimensions act as one."""
    kept = [(size, step) for size, step in zip(shape, steps, strict=True) if size != 1]
    for (_, outer), (size, inner) in pairwise(kept):
        if outer != inner * size:
            return None
    return kept[-1][1] if kept else 0


def _matrix(shape: Shape, steps: list[Dim]) -> tuple[Dim, bool] | None:
    """(leading dimension, whether transposed), or None if rows and columns are both spread out."""
    (rows, columns), (down, along) = shape, steps
    if along == 1 or columns == 1:
        leading = _leading(rows, down, columns)
        if leading is not None:
            return leading, False
    if down == 1 or rows == 1:
        leading = _leading(columns, along, rows)
        if leading is not None:
            return leading, True
    return None


def _leading(count: Dim, step: Dim, length: Dim) -> Dim | None:
    """The distance of neighbouring lines: anything where there is but one line, but never 0."""
    if count == 1:
        return length
    return step if step != 0 else None
