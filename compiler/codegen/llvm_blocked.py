"""The product of one floating dtype: packed panels and tiles.

The columns of `y` are taken in panels of two vector registers, `DEPTH` rows of it at a time, packed
so that the inner loop reads them in order; for each, `x` passes by in tiles of rows.  The sum for
an element runs over k in order, one fused multiply-add after the other, in blocks of `DEPTH`, whose
sums are added up in order.  So a result depends on the product's numbers alone: not on its other
sizes, on layouts, or on the width of vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from llvmlite import ir

from ..dtypes import DType
from ..target import Target
from .llvm_control import Carried, Number, as_value, loop, smaller, when
from .llvm_tiles import (
    TileTypes,
    declare_product,
    emit_pack_columns,
    emit_pack_rows,
    emit_tile,
)
from .llvm_values import index

DEPTH = 256
"""Rows of `y` that are summed up at a time: part of the meaning, as it settles the order."""

_FEW_ROWS = 16
"""Up to so many rows of `x`, packing `y` costs more than it saves."""

_Tile: TypeAlias = Callable[[ir.Function, ir.Value, ir.Value], None]


def emit_blocked(module: ir.Module, dtype: DType, target: Target) -> ir.Function:
    """The function that multiplies matrices of f32 or f64."""
    lanes = max(4, target.vector_bits // dtype.bits)
    rows = 8 if target.vector_bits >= 512 else 6  # of two registers each; AVX has 16
    at_a_time = target.cache_bytes[1] // 2 // (DEPTH * dtype.itemsize) // rows * rows
    return _Blocked(module, TileTypes(dtype, lanes), rows, max(rows, at_a_time)).function


class _Blocked:
    """The product of one dtype.

    Tiles are two registers wide, and one for panels that need no more.  The last tile of a column
    overlaps the one above it where fewer rows are left; up to `rows` - 1 rows in all are done one
    by one.
    """

    def __init__(self, module: ir.Module, types: TileTypes, rows: int, at_a_time: int) -> None:
        self._types, self._rows, self._rows_at_a_time = types, rows, at_a_time
        self._lanes, self._width = types.lanes, 2 * types.lanes
        self._wide, self._narrow = (emit_tile(module, types, rows, n) for n in (2, 1))
        self._row = emit_tile(module, types, 1, 2)
        self._pack_rows = emit_pack_rows(module, types)
        self._pack_columns = emit_pack_columns(module, types)
        self.function, self._builder, self._arguments = declare_product(module, types.dtype)
        self._emit_product()

    def _emit_product(self) -> None:
        """Loops over blocks of k, of rows (what the second cache holds of x), and of columns."""
        builder, arguments = self._builder, self._arguments
        panel = builder.alloca(self._types.element, index(DEPTH * self._width), "panel")
        panel.align = 64
        some = builder.icmp_signed(">", arguments.inner, index(1))
        at_least_once = builder.select(some, arguments.inner, index(1))

        def panels(depth: ir.Value, i: ir.Value) -> Carried:
            def body(j: Number, _: Carried) -> Carried:
                self._panel(panel, depth, i, as_value(j))
                return []

            return loop(builder, 0, arguments.columns, self._width, [], body)

        def row_blocks(depth: ir.Value) -> Carried:
            step = self._rows_at_a_time
            return loop(
                builder, 0, arguments.rows, step, [], lambda i, _: panels(depth, as_value(i))
            )

        loop(builder, 0, at_least_once, DEPTH, [], lambda depth, _: row_blocks(as_value(depth)))
        builder.ret_void()

    def _panel(self, panel: ir.Value, depth: ir.Value, i: ir.Value, j: ir.Value) -> None:
        """Adds a block of `inner` to a block of rows and columns of the result."""
        builder, at, of = self._builder, self._types.at, self._arguments
        k = as_value(smaller(builder, builder.sub(of.inner, depth), DEPTH))
        width = as_value(smaller(builder, builder.sub(of.columns, j), self._width))
        b, b_step = self._packed(panel, depth, j, width, k)
        more = builder.icmp_signed(">", depth, index(0))
        stop = as_value(smaller(builder, builder.add(i, index(self._rows_at_a_time)), of.rows))
        a = at(builder, of.x, builder.mul(depth, of.x_step))
        c = at(builder, of.out, j)

        def tile(function: ir.Function, row: ir.Value, skip: ir.Value) -> None:
            a_now = at(builder, a, builder.mul(row, of.x_row))
            c_now = at(builder, c, builder.mul(row, of.out_row))
            strides = of.x_row, of.x_step, b, b_step, c_now, of.out_row
            builder.call(function, [a_now, *strides, skip, width, k, more])

        self._tiles(tile, i, stop, width)

    def _packed(
        self, panel: ir.Value, depth: ir.Value, j: ir.Value, width: ir.Value, k: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Where a block of y is, and the distance of its rows; packed unless x has few rows."""
        builder, of = self._builder, self._arguments
        by_column = builder.add(builder.mul(j, of.y_leading), depth)
        by_row = builder.add(builder.mul(depth, of.y_leading), j)
        position = builder.select(of.y_transposed, by_column, by_row)
        source = self._types.at(builder, of.y, position)
        is_few = builder.icmp_signed("<=", of.rows, index(_FEW_ROWS))
        is_full = builder.icmp_signed("==", width, index(self._width))
        in_rows = builder.not_(of.y_transposed)
        direct = builder.and_(builder.and_(is_few, is_full), in_rows)
        arguments = [source, of.y_leading, panel, index(self._width), width, k]
        by_rows = builder.and_(in_rows, builder.not_(direct))
        when(builder, of.y_transposed, lambda: builder.call(self._pack_columns, arguments))
        when(builder, by_rows, lambda: builder.call(self._pack_rows, arguments))
        b = builder.select(direct, source, panel)
        return b, builder.select(direct, of.y_leading, index(self._width))

    def _tiles(self, tile: _Tile, first: ir.Value, stop: ir.Value, width: ir.Value) -> None:
        """All rows from `first` to `stop` of a panel."""
        builder, rows = self._builder, index(self._rows)

        def column(function: ir.Function) -> None:
            def body(i: Number, _: Carried) -> Carried:
                last = builder.sub(stop, rows)
                row = as_value(smaller(builder, i, last))
                tile(function, row, builder.sub(as_value(i), row))
                return []

            loop(builder, first, stop, self._rows, [], body)

        def single(i: Number, _: Carried) -> Carried:
            tile(self._row, as_value(i), index(0))
            return []

        is_few = builder.icmp_signed("<", stop, rows)
        is_wide = builder.icmp_signed(">", width, index(self._lanes))
        is_tall = builder.not_(is_few)
        when(builder, is_few, lambda: loop(builder, first, stop, 1, [], single))
        when(builder, builder.and_(is_tall, is_wide), lambda: column(self._wide))
        when(
            builder,
            builder.and_(is_tall, builder.not_(is_wide)),
            lambda: column(self._narrow),
        )
