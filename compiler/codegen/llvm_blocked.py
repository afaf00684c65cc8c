"""The product of one floating dtype: packed panels and tiles.

The columns of `y` are taken in panels of two vector registers, `DEPTH` rows of it at a time, packed
so that the inner loop reads them in order; for each, `x` passes by in tiles of rows.  The sum for
an element runs over k in order, one fused multiply-add after the other, in blocks of `DEPTH`, whose
sums are added up in order.  So a result depends on the product's numbers alone: not on its other
sizes, on layouts, or on the width of vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from llvmlite import ir

from ..dtypes import DType
from ..target import Target
from .llvm_control import Carried, Number, as_value, loop, smaller, when
from .llvm_one_row import emit_one_row
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

_UNPACKED_ROWS = 16
"""Up to so many rows of `x`, packing `y` costs more than it saves."""

_UNPACKED_COLUMNS = 128
"""Up to so many columns of `y`, packing a column-major `x` costs more than it saves."""

_Tile: TypeAlias = Callable[[ir.Function, ir.Value, ir.Value], None]


def emit_blocked(
    module: ir.Module, dtype: DType, target: Target, *, one_row: bool = True
) -> ir.Function:
    """The function that multiplies matrices of f32 or f64; `one_row`: fast for one row, too."""
    types = TileTypes(dtype, max(4, target.vector_bits // dtype.bits))
    rows = 8 if target.vector_bits >= 512 else 6  # of two registers each; AVX has 16
    blocked = _Blocked(module, types, rows, _rows_at_a_time(types, target))
    blocked.emit_product(one_row=one_row)
    return blocked.function


def _rows_at_a_time(types: TileTypes, target: Target) -> int:
    """Rows of `x` for which the second cache has room: an odd number of panels' widths.

    Packed, they lie side by side, and an odd distance spreads them over the cache's sets.
    """
    width = 2 * types.lanes
    panels = target.cache_bytes[1] * 3 // 8 // (DEPTH * types.dtype.itemsize) // width
    return max(3, min(panels, 25) - 1 | 1) * width


class _Blocked:
    """The product of one dtype.

    Tiles are two registers wide, and one for panels that need no more.  The last tile of a column
    overlaps the one above it where fewer rows are left; where there are fewer than a tile's rows in
    all, they are packed, so that what a tile reads beyond them does no harm.
    """

    def __init__(self, module: ir.Module, types: TileTypes, rows: int, capacity: int) -> None:
        self._types, self._rows, self._capacity = types, rows, capacity
        self._lanes, self._width = types.lanes, 2 * types.lanes
        self._wide, self._narrow = (emit_tile(module, types, rows, n) for n in (2, 1))
        self._pack_rows = emit_pack_rows(module, types)
        self._pack_columns = emit_pack_columns(module, types)
        self.function, self._builder, self._arguments = declare_product(module, types.dtype)

    def emit_product(self, *, one_row: bool) -> None:
        """Fills in the function."""
        if one_row:
            self._emit_one_row()
        self._emit_rows()
        self._builder.ret_void()

    def _emit_one_row(self) -> None:
        builder, arguments = self._builder, self.function.args
        function = emit_one_row(self.function.module, self._types, DEPTH, self.function)
        is_one = builder.icmp_signed("==", self._arguments.rows, index(1))
        with builder.if_then(is_one):
            builder.call(function, arguments)
            builder.ret_void()

    def _emit_rows(self) -> None:
        """Loops over blocks of k, of rows (what the second cache holds of x), and of columns."""
        builder, of = self._builder, self._arguments
        panel = self._memory(self._width, "panel")
        packed = self._memory(self._capacity, "packed")
        some = builder.icmp_signed(">", of.inner, index(1))
        at_least_once = builder.select(some, of.inner, index(1))

        def rows(depth: ir.Value, first: ir.Value) -> Carried:
            block = self._row_block(packed, depth, first)

            def body(j: Number, _: Carried) -> Carried:
                self._panel(panel, block, depth, as_value(j))
                return []

            return loop(builder, 0, of.columns, self._width, [], body)

        def row_blocks(depth: ir.Value) -> Carried:
            """The last block is larger rather than followed by a very small one."""
            step = self._capacity - self._width
            last = builder.sub(of.rows, index(self._width))
            one = builder.icmp_signed("<", last, index(1))
            stop = builder.select(one, index(1), last)
            return loop(builder, 0, stop, step, [], lambda i, _: rows(depth, as_value(i)))

        loop(builder, 0, at_least_once, DEPTH, [], lambda depth, _: row_blocks(as_value(depth)))

    def _memory(self, columns: int, name: str) -> ir.Value:
        """Memory on the stack, in the function's first block, for `DEPTH` packed lines."""
        with self._builder.goto_entry_block():
            memory = self._builder.alloca(self._types.element, index(DEPTH * columns), name)
        memory.align = 64
        return memory

    def _row_block(self, packed: ir.Value, depth: ir.Value, first: ir.Value) -> _Rows:
        """A block of rows, packed if it is less than a tile, or column-major and worth it."""
        builder, at, of = self._builder, self._types.at, self._arguments
        left = builder.sub(of.rows, first)
        is_last = builder.icmp_signed("<=", left, index(self._capacity))
        count = builder.select(is_last, left, index(self._capacity - self._width))
        k = as_value(smaller(builder, builder.sub(of.inner, depth), DEPTH))
        start = builder.add(builder.mul(depth, of.x_step), builder.mul(first, of.x_row))
        source = at(builder, of.x, start)
        in_columns = builder.icmp_signed("==", of.x_row, index(1))
        is_wide = builder.icmp_signed(">", of.columns, index(_UNPACKED_COLUMNS))
        is_short = builder.icmp_signed("<", count, index(self._rows))
        is_packed = builder.or_(is_short, builder.and_(in_columns, is_wide))

        def pack(i: Number, _: Carried) -> Carried:
            width = as_value(smaller(builder, builder.sub(count, as_value(i)), self._width))
            panel, capacity = at(builder, packed, i), index(self._capacity)
            place = at(builder, source, builder.mul(as_value(i), of.x_row))
            step = builder.select(in_columns, of.x_step, of.x_row)
            arguments = [place, step, panel, capacity, width, k]
            when(builder, in_columns, lambda: builder.call(self._pack_rows, arguments))
            in_rows = builder.not_(in_columns)
            when(builder, in_rows, lambda: builder.call(self._pack_columns, arguments))
            return []

        when(builder, is_packed, lambda: loop(builder, 0, count, self._width, [], pack))
        a = builder.select(is_packed, packed, source)
        a_row = builder.select(is_packed, index(1), of.x_row)
        a_step = builder.select(is_packed, index(self._capacity), of.x_step)
        return _Rows(first, count, a, a_row, a_step, k)

    def _panel(self, panel: ir.Value, block: _Rows, depth: ir.Value, j: ir.Value) -> None:
        """Adds a block of `inner` to a block of rows and columns of the result."""
        builder, at, of = self._builder, self._types.at, self._arguments
        width = as_value(smaller(builder, builder.sub(of.columns, j), self._width))
        b, b_step = self._packed(panel, depth, j, width, block.k)
        more = builder.icmp_signed(">", depth, index(0))
        c = at(builder, of.out, builder.add(builder.mul(block.first, of.out_row), j))

        def tile(function: ir.Function, row: ir.Value, skip: ir.Value) -> None:
            stop = builder.sub(block.count, row)
            a_now = at(builder, block.a, builder.mul(row, block.a_row))
            c_now = at(builder, c, builder.mul(row, of.out_row))
            strides = block.a_row, block.a_step, b, b_step, c_now, of.out_row
            builder.call(function, [a_now, *strides, skip, stop, width, block.k, more])

        self._tiles(tile, block.count, width)

    def _packed(
        self, panel: ir.Value, depth: ir.Value, j: ir.Value, width: ir.Value, k: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Where a block of y is, and the distance of its rows; packed unless x has few rows."""
        builder, of = self._builder, self._arguments
        by_column = builder.add(builder.mul(j, of.y_leading), depth)
        by_row = builder.add(builder.mul(depth, of.y_leading), j)
        position = builder.select(of.y_transposed, by_column, by_row)
        source = self._types.at(builder, of.y, position)
        is_short = builder.icmp_signed("<=", of.rows, index(_UNPACKED_ROWS))
        is_full = builder.icmp_signed("==", width, index(self._width))
        in_rows = builder.not_(of.y_transposed)
        direct = builder.and_(builder.and_(is_short, is_full), in_rows)
        arguments = [source, of.y_leading, panel, index(self._width), width, k]
        by_rows = builder.and_(in_rows, builder.not_(direct))
        when(builder, of.y_transposed, lambda: builder.call(self._pack_columns, arguments))
        when(builder, by_rows, lambda: builder.call(self._pack_rows, arguments))
        b = builder.select(direct, source, panel)
        return b, builder.select(direct, of.y_leading, index(self._width))

    def _tiles(self, tile: _Tile, count: ir.Value, width: ir.Value) -> None:
        """All rows of a block and a panel."""
        builder = self._builder

        last = builder.sub(count, index(self._rows))
        last = builder.select(builder.icmp_signed("<", last, index(0)), index(0), last)

        def column(function: ir.Function) -> None:
            def body(i: Number, _: Carried) -> Carried:
                row = as_value(smaller(builder, i, last))
                tile(function, row, builder.sub(as_value(i), row))
                return []

            loop(builder, 0, count, self._rows, [], body)

        is_wide = builder.icmp_signed(">", width, index(self._lanes))
        when(builder, is_wide, lambda: column(self._wide))
        when(builder, builder.not_(is_wide), lambda: column(self._narrow))


class _Rows(NamedTuple):
    """A block of rows: element (r, i) of it is at a[r*a_row + i*a_step], for r < count, i < k."""

    first: ir.Value
    count: ir.Value
    a: ir.Value
    a_row: ir.Value
    a_step: ir.Value
    k: ir.Value
