"""Sweeps as LLVM functions: a loop over a constant table of segments.

@sweep.NAME.segments = [N x [K x i64]]     for each segment the words of the program's table
that hold its buffers' addresses, then its sizes
void @sweep.NAME(ptr %table)               calls the kernel once for each segment
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llvmlite import ir

from ..aval import Dim
from .llvm_control import loop
from .llvm_values import I64, POINTER, VOID, index


class Segment(NamedTuple):
    """What a kernel runs on once: words of the program's table, and known sizes."""

    words: list[int]
    sizes: list[Dim]


def emit_sweep(
    module: ir.Module, name: str, kernel: ir.Function, segments: Sequence[Segment]
) -> ir.Function:
    """The function that runs `kernel` on each segment."""
    function = ir.Function(module, ir.FunctionType(VOID, [POINTER]), name)
    function.linkage = "internal"
    (table,) = function.args
    table.name = "table"
    rows = _constant_table(module, f"{name}.segments", segments)
    builder = ir.IRBuilder(function.append_basic_block("segments"))
    words, columns = len(segments[0].words), len(segments[0].words) + len(segments[0].sizes)

    def segment(number: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
        row = builder.gep(rows, [builder.mul(number, index(columns))], source_etype=I64)
        numbers = [_word(builder, row, index(column), I64) for column in range(columns)]
        buffers = [_word(builder, table, word, POINTER) for word in numbers[:words]]
        builder.call(kernel, [*buffers, *numbers[words:]])
        return []

    loop(builder, 0, len(segments), 1, [], segment)
    builder.ret_void()
    return function


def _word(builder: ir.IRBuilder, base: ir.Value, number: ir.Value, of: ir.Type) -> ir.Value:
    address = builder.gep(base, [number], source_etype=I64)
    return builder.load(address, align=8, typ=of)


def _constant_table(module: ir.Module, name: str, segments: Sequence[Segment]) -> ir.GlobalVariable:
    numbers = [number for words, sizes in segments for number in (*words, *sizes)]
    kind = ir.ArrayType(I64, len(numbers))
    table = ir.GlobalVariable(module, kind, name)
    table.linkage, table.global_constant = "internal", True
    table.initializer = ir.Constant(kind, numbers)
    return table
