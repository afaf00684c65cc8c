"""Matrix operands as views: transposes, reshapes, slices and broadcasts that cost no copy."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ..aval import Dim, Shape
from ..errors import WhyNot
from ..ir import Value
from .access import is_literal, is_movement
from .indexing import Expr, flatten, loop, never_negative, strides, through
from .program import RunMatmul


class SourceView(NamedTuple):
    """A batch of matrices inside the contiguous value `source`; the rest is as in `MatrixView`.

    `batch` has an entry for each dimension of the value but the last two.
    """

    source: Value
    offset: Dim
    leading: Dim
    batch: tuple[Dim, ...]
    transposed: bool


def matrix_view(value: Value) -> SourceView | WhyNot:
    """How a matrix product can read its operand `value` in place."""
    shape = value.aval.shape
    if not is_movement(value.node) and not is_literal(value.node):
        return SourceView(value, 0, shape[-1], strides(shape)[:-2], False)
    flat = flatten([loop(axis) for axis in range(len(shape))], shape)
    while is_movement(value.node):
        flat = through(value.node, flat, shape)
        value = value.node.operands[0]
    if is_literal(value.node):
        return WhyNot("it is a constant, which has no memory")
    steps = _steps(flat, len(shape))
    if steps is None:
        return WhyNot("its elements do not lie at regular distances")
    matrix = _matrix(shape[-2:], steps[-2:])
    if matrix is None:
        return WhyNot("neither its rows nor its columns are contiguous")
    return SourceView(value, flat.offset, matrix[0], tuple(steps[:-2]), matrix[1])


class OutView(NamedTuple):
    """How a product writes its result into a value; the rest is as in `MatrixView`."""

    leading: Dim
    batch: tuple[Dim, ...]
    transposed: bool


def out_view(product: Value, written: Value) -> OutView | WhyNot:
    """How a product can be written in the order of `written`: itself, or a transpose of it."""
    distances, node = strides(written.aval.shape), written.node
    if written is product:
        return OutView(product.aval.shape[-1], distances[:-2], False)
    if node.prim.name != "transpose" or node.operands[0] is not product:
        return WhyNot("it is no transpose of the product")
    steps = [distances[node.params["perm"].index(axis)] for axis in range(product.aval.ndim)]
    matrix = _matrix(product.aval.shape[-2:], steps[-2:])
    if matrix is None:
        return WhyNot("neither its rows nor its columns would be contiguous")
    return OutView(matrix[0], tuple(steps[:-2]), matrix[1])


def _steps(flat: Expr, count: int) -> list[Dim] | None:
    """The distance of neighbouring elements along each dimension."""
    steps: list[Dim] = [0] * count
    for atom, coefficient in flat.terms:
        if not isinstance(atom, int) or not never_negative(coefficient):
            return None
        steps[atom] = coefficient
    return steps


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


# --- batches --------------------------------------------------------------------------------------


def with_joined_batch(step: RunMatmul) -> RunMatmul:
    """The product with as few dimensions of the batch as its views allow.

    Two that act as one in all three views are joined.  Matrices by one and the same matrix, if they
    lie one below the other, are one taller matrix by it.
    """
    step = _without_units(step)
    axis = len(step.batch) - 1
    while axis > 0:
        size = step.batch[axis]
        if all(v.batch[axis - 1] == v.batch[axis] * size for v in (step.x, step.y, step.out)):
            joined = (*step.batch[: axis - 1], step.batch[axis - 1] * size, *step.batch[axis + 1 :])
            step = replace(_without(step, axis - 1), batch=joined)
        axis -= 1
    while step.batch and _is_stacked(step):
        step = replace(_without(step, len(step.batch) - 1), rows=step.batch[-1] * step.rows)
    return step


def _without_units(step: RunMatmul) -> RunMatmul:
    for axis in reversed(range(len(step.batch))):
        step = _without(step, axis) if step.batch[axis] == 1 else step
    return step


def _without(step: RunMatmul, axis: int) -> RunMatmul:
    """The product with a dimension of the batch dropped."""

    def dropped(dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
        return dims[:axis] + dims[axis + 1 :]

    x, y, out = (replace(v, batch=dropped(v.batch)) for v in (step.x, step.y, step.out))
    return replace(step, x=x, y=y, out=out, batch=dropped(step.batch))


def _is_stacked(step: RunMatmul) -> bool:
    """Whether along the last dimension of the batch the rows simply go on."""
    rows = (v.batch[-1] == step.rows * v.leading and not v.transposed for v in (step.x, step.out))
    return step.y.batch[-1] == 0 and all(rows)
