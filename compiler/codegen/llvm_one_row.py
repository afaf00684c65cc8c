"""Products of one row: each element of `y` is used once, and read where it lies.

    void row(ptr a, i64 a_step, ptr b, i64 b_step, ptr c, i64 columns, i64 k, i1 more)

adds up a[i*a_step] * b[i*b_step + j] over i < k for up to `_ROW_COLUMNS` columns, some lines of b
at a time, so that they are read as they lie in memory; the sums are in memory meanwhile.  `dots`
does the same for some lines of a column-major matrix, b[i + j*b_step], whose square blocks are
transposed in registers.  The order of sums is that of all products.
"""

from __future__ import annotations

from llvmlite import ir

from .llvm_control import Carried, Number, add, as_value, loop, multiply, smaller, when
from .llvm_tiles import (
    ProductArguments,
    TileTypes,
    block_size,
    internal_function,
    lines,
    transposed,
)
from .llvm_values import (
    I1,
    I32,
    I64,
    POINTER,
    constant,
    first_lanes,
    index,
    intrinsic,
    poison,
    spread,
)

_ROW_COLUMNS, _ROW_LINES = 1024, 8
"""Columns whose sums stay in the first cache, and lines that are read side by side."""

_DOT_REGISTERS = 2
"""Registers of sums: a sum waits for itself, but there are blocks to transpose meanwhile."""


def emit_one_row(
    module: ir.Module, types: TileTypes, depth: int, product: ir.Function
) -> ir.Function:
    """The function for one row; its parameters are those of `product`."""
    row, dots = _emit_row(module, types), _emit_dots(module, types)
    kinds, names = [a.type for a in product.args], " ".join(a.name for a in product.args)
    function, builder = internal_function(module, f"one_row_{types.dtype.name}", kinds, names)
    of = ProductArguments(*function.args)
    wide, narrow = _ROW_COLUMNS, block_size(types) * _DOT_REGISTERS
    in_rows = builder.not_(of.y_transposed)
    when(builder, in_rows, lambda: _panels(builder, types, of, row, wide, depth))
    when(builder, of.y_transposed, lambda: _panels(builder, types, of, dots, narrow, depth))
    builder.ret_void()
    return function


def _panels(
    builder: ir.IRBuilder,
    types: TileTypes,
    of: ProductArguments,
    inner: ir.Function,
    width: int,
    depth: int,
) -> Carried:
    """Calls `inner` for blocks of columns, for each of them along k."""
    some = builder.icmp_signed(">", of.inner, index(1))
    at_least_once = builder.select(some, of.inner, index(1))

    def block(j: Number, start: Number) -> Carried:
        across, along = multiply(builder, of.y_leading, j), multiply(builder, of.y_leading, start)
        by_column, by_row = add(builder, across, start), add(builder, along, j)
        position = builder.select(of.y_transposed, as_value(by_column), as_value(by_row))
        columns = smaller(builder, builder.sub(of.columns, as_value(j)), width)
        k = smaller(builder, builder.sub(of.inner, as_value(start)), depth)
        more = builder.icmp_signed(">", as_value(start), index(0))
        operands = [
            types.at(builder, of.x, multiply(builder, of.x_step, start)),
            of.x_step,
            types.at(builder, of.y, position),
            of.y_leading,
            types.at(builder, of.out, j),
            as_value(columns),
            as_value(k),
            more,
        ]
        builder.call(inner, operands)
        return []

    def panel(j: Number) -> Carried:
        return loop(builder, 0, at_least_once, depth, [], lambda start, _: block(j, start))

    return loop(builder, 0, of.columns, width, [], lambda j, _: panel(j))


def _declare(module: ir.Module, name: str) -> tuple[ir.Function, ir.IRBuilder]:
    kinds = [POINTER, I64, POINTER, I64, POINTER, I64, I64, I1]
    return internal_function(module, name, kinds, "a a_step b b_step c columns k more")


def _factor(
    builder: ir.IRBuilder, types: TileTypes, a: ir.Value, position: Number, width: int
) -> ir.Value:
    value = types.load(builder, types.at(builder, a, position), 0)
    return spread(builder, value, width)


def _write(
    builder: ir.IRBuilder,
    types: TileTypes,
    total: ir.Value,
    mask: ir.Value,
    place: ir.Value,
    more: ir.Value,
) -> None:
    """Writes sums, or adds them to what is there."""
    width = int(total.type.count)
    kept = builder.select(more, mask, constant(I1, False, width))
    old = types.load(builder, place, width, kept)
    types.store(builder, builder.fadd(total, old), place, mask)


def _emit_row(module: ir.Module, types: TileTypes) -> ir.Function:
    function, builder = _declare(module, f"row_{types.dtype.name}")
    a, a_step, b, b_step, c, columns, k, more = function.args
    lanes, zeros = types.lanes, constant(types.element, 0.0, types.lanes)
    sums = builder.alloca(types.element, index(_ROW_COLUMNS), "sums")
    sums.align, sums.type = 64, POINTER  # llvmlite types it as a pointer to an element

    def start(j: Number, _: Carried) -> Carried:
        types.store(builder, zeros, types.at(builder, sums, j))
        return []

    def add_lines(i: Number, count: int) -> Carried:
        """Adds some lines of b to the sums."""
        numbers = [add(builder, i, n) for n in range(count)]
        found = [types.at(builder, b, multiply(builder, b_step, n)) for n in numbers]
        factors = [_factor(builder, types, a, multiply(builder, a_step, n), lanes) for n in numbers]

        def block(j: Number, _: Carried) -> Carried:
            mask = first_lanes(builder, builder.sub(columns, as_value(j)), lanes)
            place = types.at(builder, sums, j)
            total = types.load(builder, place, lanes)
            for line, factor in zip(found, factors, strict=True):
                value = types.load(builder, types.at(builder, line, j), lanes, mask)
                total = intrinsic(builder, "fma", total.type, [factor, value, total])
            types.store(builder, total, place)
            return []

        return loop(builder, 0, columns, lanes, [], block)

    def finish(j: Number, _: Carried) -> Carried:
        mask = first_lanes(builder, builder.sub(columns, as_value(j)), lanes)
        total = types.load(builder, types.at(builder, sums, j), lanes)
        _write(builder, types, total, mask, types.at(builder, c, j), more)
        return []

    whole = builder.and_(k, index(-_ROW_LINES))
    loop(builder, 0, columns, lanes, [], start)
    loop(builder, 0, whole, _ROW_LINES, [], lambda i, _: add_lines(i, _ROW_LINES))
    loop(builder, whole, k, 1, [], lambda i, _: add_lines(i, 1))
    loop(builder, 0, columns, lanes, [], finish)
    builder.ret_void()
    return function


def _emit_dots(module: ir.Module, types: TileTypes) -> ir.Function:
    """Lines beyond the last column are the last one again, and their sums are not written."""
    function, builder = _declare(module, f"dots_{types.dtype.name}")
    a, a_step, b, b_step, c, columns, k, more = function.args
    size, registers = block_size(types), range(_DOT_REGISTERS)
    found = lines(builder, types, b, b_step, (0, columns), size * _DOT_REGISTERS)

    def block(i: Number, sums: Carried) -> Carried:
        for register in registers:
            places = [types.at(builder, line, i) for line in found[register * size :][:size]]
            values = [types.load(builder, place, size) for place in places]
            for number, line in enumerate(transposed(builder, values)):
                place = multiply(builder, a_step, add(builder, i, number))
                operands = [_factor(builder, types, a, place, size), line, sums[register]]
                sums[register] = intrinsic(builder, "fma", line.type, operands)
        return sums

    def single(i: Number, sums: Carried) -> Carried:
        factor = _factor(builder, types, a, multiply(builder, a_step, i), size)
        for register in registers:
            line = poison(sums[register].type)
            for number, source in enumerate(found[register * size :][:size]):
                element = types.load(builder, types.at(builder, source, i), 0)
                line = builder.insert_element(line, element, ir.Constant(I32, number))
            operands = [factor, line, sums[register]]
            sums[register] = intrinsic(builder, "fma", line.type, operands)
        return sums

    whole = builder.and_(k, index(-size))
    sums = [constant(types.element, 0.0, size)] * _DOT_REGISTERS
    sums = loop(builder, 0, whole, size, sums, block)
    sums = loop(builder, whole, k, 1, sums, single)
    for register, total in enumerate(sums):
        mask = first_lanes(builder, builder.sub(columns, index(register * size)), size)
        _write(builder, types, total, mask, types.at(builder, c, register * size), more)
    builder.ret_void()
    return function
