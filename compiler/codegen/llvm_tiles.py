"""The inner parts of a matrix product: tiles of the result, and packing.

A tile is `rows` rows by one or two vector registers of columns, held in registers while k runs:

    void tile(ptr a, i64 a_row, i64 a_step, ptr b, i64 b_step,
              ptr c, i64 c_row, i64 skip, i64 stop, i64 columns, i64 k, i1 more)

adds up a[r*a_row + i*a_step] * b[i*b_step + j] over i < k, one fused multiply-add an element, from
0, and writes the sum to c[r*c_row + j], or adds it there if `more`.  In c only the rows from `skip`
up to `stop` and the first `columns` columns are touched; a and b are read in full.

Packing copies up to two registers of columns of a matrix into rows of a panel; columns beyond those
are -0 or repeat others:

    void pack(ptr source, i64 source_step, ptr panel, i64 panel_step, i64 columns, i64 k)

Strides are in elements, and every one a runtime value: each function serves all products of a
program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from llvmlite import ir

from ..dtypes import DType
from .llvm_control import Carried, Number, add, as_value, loop, multiply, smaller, subtract
from .llvm_values import (
    I1,
    I32,
    I64,
    POINTER,
    VOID,
    constant,
    first_lanes,
    index,
    intrinsic,
    register_type,
    shuffle,
    spread,
    vector,
)

_GROUP = 5
"""Rows that share a pointer: x86 addresses base + 0, 1, 2, 3, 4 strides with two registers."""


_BLOCK_BYTES = 32
"""Width of the blocks that are transposed: wider ones are no faster, and slow to compile."""


@dataclass(frozen=True)
class TileTypes:
    """What tiles of one dtype are made of: `lanes` elements fill a vector register."""

    dtype: DType
    lanes: int

    @property
    def element(self) -> ir.Type:
        """The type of an element."""
        return register_type(self.dtype)

    def at(self, builder: ir.IRBuilder, pointer: ir.Value, position: Number) -> ir.Value:
        """The address of an element."""
        if isinstance(position, int) and position == 0:
            return pointer
        return builder.gep(pointer, [as_value(position)], source_etype=self.element)

    def load(
        self, builder: ir.IRBuilder, pointer: ir.Value, width: int, mask: ir.Value | None = None
    ) -> ir.Value:
        """Elements from an address; those that the mask has not are -0, which adds nothing."""
        kind, align = vector(self.element, width), self.dtype.itemsize
        if mask is None:
            return builder.load(pointer, align=align, typ=kind)
        operands = [pointer, ir.Constant(I32, align), mask, constant(self.element, -0.0, width)]
        return intrinsic(builder, "masked.load", kind, operands, kind, POINTER)

    def store(
        self,
        builder: ir.IRBuilder,
        value: ir.Value,
        pointer: ir.Value,
        mask: ir.Value | None = None,
    ) -> None:
        """Writes a vector, or the lanes of it that the mask has."""
        align = self.dtype.itemsize
        if mask is None:
            builder.store(value, pointer, align=align)
            return
        operands = [value, pointer, ir.Constant(I32, align), mask]
        intrinsic(builder, "masked.store", VOID, operands, value.type, POINTER)


def internal_function(
    module: ir.Module, name: str, types: Sequence[ir.Type], names: str
) -> tuple[ir.Function, ir.IRBuilder]:
    """The internal function `taut.<name>`, not inlined, and a builder in its first block."""
    function = ir.Function(module, ir.FunctionType(VOID, types), f"taut.{name}")
    function.attributes.add("noinline")
    for argument, label in zip(function.args, names.split(), strict=True):
        argument.name = label
        if argument.type == POINTER:
            argument.add_attribute("noalias")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


@dataclass(frozen=True)
class ProductArguments:
    """The parameters of a product, in the order in which a call passes them.

    Element (i, k) of x is at `i*x_row + k*x_step`; y is row-major, or column-major where
    `y_transposed`, and out is row-major.
    """

    x: ir.Value
    y: ir.Value
    out: ir.Value
    rows: ir.Value
    columns: ir.Value
    inner: ir.Value
    x_row: ir.Value
    x_step: ir.Value
    y_leading: ir.Value
    y_transposed: ir.Value
    out_row: ir.Value


def declare_product(
    module: ir.Module, dtype: DType
) -> tuple[ir.Function, ir.IRBuilder, ProductArguments]:
    """The empty function that multiplies matrices of one dtype."""
    names = [f.name for f in fields(ProductArguments)]
    kinds = {"x": POINTER, "y": POINTER, "out": POINTER, "y_transposed": I1}
    types = [kinds.get(name, I64) for name in names]
    name = f"product_{dtype.name}"
    function, builder = internal_function(module, name, types, " ".join(names))
    return function, builder, ProductArguments(*function.args)


def emit_tile(module: ir.Module, types: TileTypes, rows: int, registers: int) -> ir.Function:
    """A tile of `rows` rows and 1 or 2 registers of columns."""
    width = types.lanes * registers
    function, builder = internal_function(
        module,
        f"tile_{types.dtype.name}_{rows}x{width}",
        [POINTER, I64, I64, POINTER, I64, POINTER, I64, I64, I64, I64, I64, I1],
        "a a_row a_step b b_step c c_row skip stop columns k more",
    )
    a, a_row, a_step, b, b_step, *written, k, more = function.args
    starts = range(0, rows, _GROUP)
    offsets = [multiply(builder, a_row, r) for r in range(min(rows, _GROUP))]
    pointers = [types.at(builder, a, multiply(builder, a_row, r)) for r in starts]

    def step(_: Number, state: Carried) -> Carried:
        groups, b_now, sums = (
            state[: len(pointers)],
            state[len(pointers)],
            state[len(pointers) + 1 :],
        )
        line = types.load(builder, b_now, width)
        for r in range(rows):
            address = types.at(builder, groups[r // _GROUP], offsets[r % _GROUP])
            factor = spread(builder, types.load(builder, address, 0), width)
            sums[r] = intrinsic(builder, "fma", line.type, [factor, line, sums[r]])
        moved = [types.at(builder, group, a_step) for group in groups]
        return [*moved, types.at(builder, b_now, b_step), *sums]

    zeros = [constant(types.element, 0.0, width)] * rows
    sums = loop(builder, 0, k, 1, [*pointers, b, *zeros], step)[len(pointers) + 1 :]
    _write_tile(builder, types, sums, written, more)
    return function


def _write_tile(
    builder: ir.IRBuilder,
    types: TileTypes,
    sums: Sequence[ir.Value],
    written: Sequence[ir.Value],
    more: ir.Value,
) -> None:
    c, c_row, skip, stop, columns = written
    width = int(sums[0].type.count)
    nothing = constant(I1, False, width)
    mask = first_lanes(builder, columns, width)
    for r, total in enumerate(sums):
        is_after = builder.icmp_signed("<=", skip, index(r))
        is_before = builder.icmp_signed(">", stop, index(r))
        kept = builder.select(builder.and_(is_after, is_before), mask, nothing)
        address = types.at(builder, c, multiply(builder, c_row, r))
        old = types.load(builder, address, width, builder.select(more, kept, nothing))
        types.store(builder, builder.fadd(total, old), address, kept)
    builder.ret_void()


def _declare_pack(
    module: ir.Module, types: TileTypes, name: str
) -> tuple[ir.Function, ir.IRBuilder]:
    kinds = [POINTER, I64, POINTER, I64, I64, I64]
    names = "source source_step panel panel_step columns k"
    return internal_function(module, f"{name}_{types.dtype.name}", kinds, names)


def emit_pack_rows(module: ir.Module, types: TileTypes) -> ir.Function:
    """Packing of a row-major matrix: element (i, j) at i*source_step + j."""
    function, builder = _declare_pack(module, types, "pack_rows")
    source, source_step, panel, panel_step, columns, k = function.args
    width = 2 * types.lanes
    mask = first_lanes(builder, columns, width)

    def copy(i: Number, _: Carried) -> Carried:
        line = types.at(builder, source, multiply(builder, source_step, i))
        value = types.load(builder, line, width, mask)
        types.store(builder, value, types.at(builder, panel, multiply(builder, panel_step, i)))
        return []

    loop(builder, 0, k, 1, [], copy)
    builder.ret_void()
    return function


def block_size(types: TileTypes) -> int:
    """Rows and columns of the blocks that are transposed in registers."""
    return min(types.lanes, _BLOCK_BYTES // types.dtype.itemsize)


def emit_pack_columns(module: ir.Module, types: TileTypes) -> ir.Function:
    """Packing of a column-major matrix: element (i, j) at i + j*source_step.

    Square blocks are transposed in registers.  Writes whole blocks: some rows beyond k, and the
    last column again where there are no more.
    """
    function, builder = _declare_pack(module, types, "pack_columns")
    source, source_step, panel, panel_step, columns, k = function.args
    size = block_size(types)

    def column(j: Number, _: Carried) -> Carried:
        sources = lines(builder, types, source, source_step, (j, columns), size)

        def block(i: Number, _: Carried) -> Carried:
            mask = first_lanes(builder, subtract(builder, k, i), size)
            places = [types.at(builder, line, i) for line in sources]
            values = [types.load(builder, place, size, mask) for place in places]
            first = types.at(builder, panel, add(builder, multiply(builder, panel_step, i), j))
            for number, value in enumerate(transposed(builder, values)):
                place = types.at(builder, first, multiply(builder, panel_step, number))
                types.store(builder, value, place)
            return []

        return loop(builder, 0, k, size, [], block)

    loop(builder, 0, columns, size, [], column)
    builder.ret_void()
    return function


def lines(
    builder: ir.IRBuilder,
    types: TileTypes,
    source: ir.Value,
    step: ir.Value,
    span: tuple[Number, Number],
    count: int,
) -> list[ir.Value]:
    """The addresses of `count` lines from the first of `span` on; the last of it again beyond."""
    first, stop = span
    last = subtract(builder, stop, 1)
    numbers = (smaller(builder, add(builder, first, n), last) for n in range(count))
    return [types.at(builder, source, multiply(builder, step, n)) for n in numbers]


def transposed(builder: ir.IRBuilder, lines: Sequence[ir.Value]) -> list[ir.Value]:
    """Vectors as a square matrix, transposed: blocks off the diagonal change places."""
    lines, size = list(lines), len(lines)
    distance = 1
    while distance < size:
        upper = [lane - distance + size if lane & distance else lane for lane in range(size)]
        lower = [lane + size if lane & distance else lane + distance for lane in range(size)]
        for r in range(size):
            if not r & distance:
                pair = lines[r], lines[r + distance]
                lines[r] = shuffle(builder, pair[0], upper, pair[1])
                lines[r + distance] = shuffle(builder, pair[0], lower, pair[1])
        distance *= 2
    return lines
