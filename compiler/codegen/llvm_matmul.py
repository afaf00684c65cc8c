"""Matrix products: one internal function for each dtype serves all products of a program.

`out = x @ y` with a column-major `out` is computed as `out' = y' @ x'`; products with one column
likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from llvmlite import ir

from .. import dtypes
from ..aval import Dim, size_of
from ..dtypes import DType
from ..errors import CompileError
from ..schedule.program import MatrixView, RunMatmul
from ..target import LANES, Target
from .llvm_blocked import emit_blocked
from .llvm_cast import round_to, widen
from .llvm_control import (
    Carried,
    Number,
    Sizes,
    add,
    as_value,
    divide,
    loop,
    multiply,
    smaller,
    subtract,
)
from .llvm_tiles import TileTypes, declare_product
from .llvm_values import (
    I1,
    I64,
    addresses,
    constant,
    first_lanes,
    gather,
    index,
    intrinsic,
    lane_numbers,
    memory_type,
    register_type,
    spread,
)

Pointer: TypeAlias = Callable[[int], ir.Value]


class Products:
    """Emits the products of one program."""

    def __init__(self, module: ir.Module, target: Target, steps: Sequence[RunMatmul]) -> None:
        self._module, self._target = module, target
        self._of_one_row = {step.dtype for step in steps if _may_be_one_row(step)}
        self._functions: dict[str, ir.Function] = {}

    def emit(
        self,
        builder: ir.IRBuilder,
        step: RunMatmul,
        pointer: Pointer,
        sizes: Sizes,
        items: tuple[Number, Number] | None = None,
    ) -> None:
        """A call for each matrix of the batch.

        `items` are the first one and the end of those to make: of the batch's matrices, or of the
        rows, where there is one matrix.

        Raises:
            CompileError: the dtype has no product.
        """
        call = _Call(builder, self._function(step.dtype), step, pointer, sizes)
        if not step.batch:
            first, end = items or (0, sizes(step.rows))
            call.rows([], first, subtract(builder, end, first))
            return

        def matrix(b: Number, _: Carried) -> Carried:
            call.rows(call.places(b), 0, sizes(step.rows))
            return []

        loop(builder, *(items or (0, sizes(size_of(step.batch)))), 1, [], matrix)

    def _function(self, dtype: DType) -> ir.Function:
        if dtype.name not in self._functions:
            if dtype.kind == "bool":
                raise CompileError("matmul: there is no product of bools; cast them to an integer")
            self._functions[dtype.name] = self._emit_function(dtype)
        return self._functions[dtype.name]

    def _emit_function(self, dtype: DType) -> ir.Function:
        module, target = self._module, self._target
        if dtype not in (dtypes.f32, dtypes.f64):
            return _emit_simple(module, dtype)
        return emit_blocked(module, dtype, target, one_row=dtype in self._of_one_row)


@dataclass(frozen=True)
class _Call:
    """Calls the function of products for one step."""

    builder: ir.IRBuilder
    function: ir.Function
    step: RunMatmul
    pointer: Pointer
    sizes: Sizes

    def places(self, number: Number) -> list[Number]:
        """The index of a matrix in each dimension of the batch."""
        found: list[Number] = []
        for size in reversed(self.step.batch[1:]):
            number, rest = divide(self.builder, number, self.sizes(size))
            found.insert(0, rest)
        return [number, *found]

    def rows(self, batch: Sequence[Number], first: Number, count: Number) -> None:
        """Makes some rows of the matrix at an index of the batch."""
        step, sizes = self.step, self.sizes
        x, out = self._matrix(step.x, batch, first), self._matrix(step.out, batch, first)
        y = self._matrix(step.y, batch, 0)
        views, pointers, shape = (step.x, step.y), [x, y], [count, sizes(step.columns)]
        out_row: Dim = step.out.leading
        if _is_turned(step):
            views, pointers = (_transposed(step.y), _transposed(step.x)), [y, x]
            shape.reverse()
        numbers = [
            *shape,
            *map(sizes, (step.inner, *_strides(views[0]), views[1].leading)),
        ]
        turned = ir.Constant(I1, views[1].transposed)
        arguments = [*pointers, out, *map(as_value, numbers), turned, as_value(sizes(out_row))]
        self.builder.call(self.function, arguments)

    def _matrix(self, view: MatrixView, batch: Sequence[Number], row: Number) -> ir.Value:
        """The address of a row of a matrix."""
        builder, sizes = self.builder, self.sizes
        position = sizes(view.offset)
        batches = zip(batch, view.batch, strict=True)
        for number, stride in (*batches, (row, _strides(view)[0])):
            position = add(builder, position, multiply(builder, sizes(stride), number))
        if isinstance(position, int) and position == 0:
            return self.pointer(view.buffer)
        element = memory_type(self.step.dtype)
        return builder.gep(self.pointer(view.buffer), [as_value(position)], source_etype=element)


def _is_turned(step: RunMatmul) -> bool:
    """Whether the transposes are multiplied: `out` is column-major, or is itself a column."""
    return step.out.transposed or (step.columns == 1 and step.rows != 1 and step.out.leading == 1)


def _may_be_one_row(step: RunMatmul) -> bool:
    rows = step.columns if _is_turned(step) else step.rows
    return not isinstance(rows, int) or rows == 1


def _transposed(view: MatrixView) -> MatrixView:
    return replace(view, transposed=not view.transposed)


def _strides(view: MatrixView) -> tuple[Dim, Dim]:
    """Distances of rows and of columns."""
    return (1, view.leading) if view.transposed else (view.leading, 1)


# --- other dtypes: one row and sixteen columns at a time ------------------------------------------


def _emit_simple(module: ir.Module, dtype: DType) -> ir.Function:
    """A product without tiles; f16 is added up in f32, in order, and rounded once."""
    function, builder, of = declare_product(module, dtype)
    types, lanes = TileTypes(dtype, LANES), LANES
    y_row = builder.select(of.y_transposed, index(1), of.y_leading)
    y_step = builder.select(of.y_transposed, of.y_leading, index(1))
    wide = register_type(dtypes.f32 if dtype is dtypes.f16 else dtype)

    def row(i: Number, _: Carried) -> Carried:
        return loop(builder, 0, of.columns, lanes, [], lambda j, _: block(as_value(i), as_value(j)))

    def block(i: ir.Value, j: ir.Value) -> Carried:
        left = as_value(smaller(builder, builder.sub(of.columns, j), lanes))
        mask = first_lanes(builder, left, lanes)
        places = builder.mul(spread(builder, y_step, lanes), lane_numbers(I64, lanes))

        def step(k: Number, sums: Carried) -> Carried:
            x_at = builder.add(builder.mul(i, of.x_row), builder.mul(as_value(k), of.x_step))
            factor = widen(builder, types.load(builder, types.at(builder, of.x, x_at), 0))
            start = builder.add(builder.mul(as_value(k), y_row), builder.mul(j, y_step))
            at = addresses(builder, types.at(builder, of.y, start), places, types.element)
            line = widen(builder, gather(builder, types.element, at, dtype.itemsize, mask))
            factor = spread(builder, factor, lanes)
            if dtype is dtypes.f16:
                return [intrinsic(builder, "fma", line.type, [factor, line, sums[0]])]
            return [builder.add(builder.mul(factor, line), sums[0])]

        (total,) = loop(builder, 0, of.inner, 1, [constant(wide, 0, lanes)], step)
        target_at = types.at(builder, of.out, builder.add(builder.mul(i, of.out_row), j))
        types.store(builder, round_to(builder, total, dtype), target_at, mask)
        return []

    loop(builder, 0, of.rows, 1, [], row)
    builder.ret_void()
    return function
