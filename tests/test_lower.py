"""Lowering: kernels as loop nests, index maps, and the order of reductions."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taut.compiler import dtypes
from taut.compiler.aval import Aval, Dim, Shape, symbol
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph, Value
from taut.compiler.primitive import get
from taut.compiler.primitives.create import graph_input
from taut.compiler.schedule import print_kernels, schedule
from taut.compiler.schedule.access import is_over_lanes, runs_of
from taut.compiler.schedule.fuse import fuse
from taut.compiler.schedule.indexing import (
    Expr,
    Quotient,
    Remainder,
    exact,
    flatten,
    linear,
    loop,
    split,
    through,
    unflatten,
)
from taut.compiler.schedule.interpret import interpret
from taut.compiler.schedule.lower import lower
from taut.compiler.schedule.nest import Nest
from taut.compiler.schedule.program import (
    Program,
    RunCopy,
    RunKernel,
    RunMatmul,
    RunSweep,
    kernel_runs,
)
from taut.compiler.target import Target
from taut.compiler.text import parse_graph
from taut.frontend.testing import assert_same_bits
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target
from taut.runtime.options import default_options

Array = npt.NDArray[Any]
TARGET = Target("", "", "", "")
B, C = symbol("B"), symbol("C")


def program(text: str) -> Program:
    return schedule(parse_graph("taut-ir 1\n" + dedent(text)), TARGET)


def kernels(text: str) -> str:
    """The kernels of a program, without what they cost."""
    lines = print_kernels(program(text)).splitlines()
    return "\n".join(line for line in lines if not line.startswith("  //")) + "\n"


# ---------------------------------------------------------------- kernels as text


@pytest.mark.quick
def test_softmax_keeps_its_exponentials() -> None:
    """They are written where the quotient goes, and read from there by the last loop."""
    assert kernels("""
    func @f(%x: f32[64,10]) -> (f32[64,10]) {
      %m: f32[64] = reduce_max %x {dims = [1]}
      %b: f32[64,10] = broadcast %m {dims = [0]}
      %d: f32[64,10] = sub %x, %b
      %e: f32[64,10] = exp %d
      %s: f32[64] = reduce_sum %e {dims = [1]}
      %r: f32[64,10] = broadcast %s {dims = [0]}
      %y: f32[64,10] = div %e, %r
      return %y
    }""") == dedent("""\
    kernel max_sub_exp_sum_div(x: f32 in, y: f32 in out)  outer (64)  lanes inner
      stage (10):
        %0 = load x[i0*10 + i1]
        %1 = reduce max %0
      stage (10):
        %2 = load x[i0*10 + i1]
        %3 = sub %2, %1
        %4 = exp %3
        %5 = reduce add %4
        store y[i0*10 + i1] = %4
      stage (10):
        %6 = load y[i0*10 + i1]
        %7 = div %6, %5
        store y[i0*10 + i1] = %7
    """)


def test_broadcasts_and_transposes_are_index_maps() -> None:
    assert kernels("""
    func @f(%x: f32[8,6], %b: f32[6], %z: f32[6,8]) -> (f32[8,6]) {
      %c: f32[8,6] = broadcast %b {dims = [1]}
      %t: f32[8,6] = transpose %z {perm = [1, 0]}
      %s: f32[8,6] = add %x, %c
      %y: f32[8,6] = mul %s, %t
      return %y
    }""") == dedent("""\
    kernel add_mul(x: f32 in, b: f32 in, z: f32 in, y: f32 out)  outer (8, 6)  lanes outer
      stage:
        %0 = load x[i0*6 + i1]
        %1 = load b[i1]
        %2 = add %0, %1
        %3 = load z[i0 + i1*8]
        %4 = mul %2, %3
        store y[i0*6 + i1] = %4
    """)


def test_a_bias_gradient_reduces_its_fused_producer_by_columns() -> None:
    assert kernels("""
    func @f<B>(%x: f32[B,6], %ct: f32[B,6]) -> (f32[6]) {
      %z: f32[B,6] = full {value = 0.0}
      %p: bool[B,6] = le %x, %z
      %g: f32[B,6] = select %p, %z, %ct
      %y: f32[6] = reduce_sum %g {dims = [0]}
      return %y
    }""") == dedent("""\
    kernel le_select_sum<B>(x: f32 in, ct: f32 in, y: f32 out)  outer (6)  lanes outer
      stage:
        %0 = f32 0.0
      stage (B):
        %1 = load x[i0 + i1*6]
        %2 = le %1, %0
        %3 = load ct[i0 + i1*6]
        %4 = select %2, %0, %3
        %5 = reduce add %4
      stage:
        store y[i0] = %5
    """)


def test_what_belongs_to_a_row_is_computed_once_a_row() -> None:
    assert kernels("""
    func @f(%x: f32[4,6], %w: f32[4], %lr: f32[]) -> (f32[4]) {
      %l: f32[4,6] = broadcast %lr {dims = []}
      %v: f32[4,6] = broadcast %w {dims = [0]}
      %a: f32[4,6] = mul %l, %v
      %b: f32[4,6] = mul %a, %x
      %s: f32[4] = reduce_sum %b {dims = [1]}
      %y: f32[4] = sqrt %s
      return %y
    }""") == dedent("""\
    kernel mul_sum_sqrt(lr: f32 in, w: f32 in, x: f32 in, y: f32 out)  outer (4)  lanes inner
      stage:
        %0 = load lr[0]
        %1 = load w[i0]
        %2 = mul %0, %1
      stage (6):
        %3 = load x[i0*6 + i1]
        %4 = mul %2, %3
        %5 = reduce add %4
      stage:
        %6 = sqrt %5
        store y[i0] = %6
    """)


def test_rows_are_taken_and_added_at_positions_that_are_data() -> None:
    assert kernels("""
    func @f(%x: f32[5,7], %i: i32[3], %c: f32[3,7]) -> (f32[3,7], f32[5,7]) {
      %t: f32[3,7] = take %x, %i
      %y: f32[3,7] = mul %t, %c
      %e: f32[3,7] = neg %c
      %z: f32[5,7] = full {value = 0.0}
      %g: f32[5,7] = scatter_add %z, %i, %e
      return %y, %g
    }""") == dedent("""\
    kernel take_mul(i: i32 in, x: f32 in, c: f32 in, y: f32 out)  outer (3, 7)  lanes outer
      stage:
        %0 = load i[i0]
        %1 = cast %0 to i64
        %2 = load x[i1 + %1*7]
        %3 = load c[i0*7 + i1]
        %4 = mul %2, %3
        store y[i0*7 + i1] = %4

    kernel neg_scatter_add(g: f32 in out, i: i32 in, c: f32 in)  outer (3)  lanes inner
      first stage:
        %0 = f32 0.0
      first stage (35):
        store g[i1] = %0
      stage:
        %1 = load i[i0]
        %2 = cast %1 to i64
      stage (7):
        %3 = load c[i0*7 + i1]
        %4 = neg %3
        store g[i1 + %2*7] += %4
    """)


@pytest.mark.parametrize("size", [0, 1, 2, 7])
def test_loops_that_run_backwards_are_cut_where_others_are(size: int) -> None:
    """They were cut into -B-1 times -1, which no loop runs."""
    text = """taut-ir 1
    func @f<B>(%b: f32[B], %x: f32[B*2,B,B+1]) -> (f32[B+1,B,B*2]) {
      %0: f32[B+1,B,B*2] = transpose %x {perm = [2, 1, 0]}
      %1: f32[B+1,B,B*2] = flip %0 {dims = [0, 2]}
      return %1
    }"""
    graph, shape = parse_graph(text), (size * 2, size, size + 1)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    inputs = [np.zeros(size, np.float32), x]
    found = schedule(graph, TARGET)
    assert [k.extents for k in found.kernels] == [(B + 1, B, B * 2)]
    options = default_options().replace(kernels="python")
    as_python = compile_program(schedule(graph, host_target()), options)
    for outputs in (as_python(inputs), interpret(found, inputs)):
        np.testing.assert_array_equal(outputs[0], np.flip(x.transpose(2, 1, 0), (0, 2)))


@pytest.mark.parametrize("last", ["B+1", "B*2+3"])
def test_rows_are_found_past_a_size_that_is_a_sum(last: str) -> None:
    graph = parse_graph(f"""taut-ir 1
    func @f<B>(%b: f32[B], %x: f32[5,B,{last}]) -> (f32[5,B,{last}]) {{
      %0: f32[5,{last}] = reduce_sum %x {{dims = [1]}}
      %1: f32[5,B,{last}] = broadcast %0 {{dims = [0, 2]}}
      %2: f32[5,B,{last}] = div %x, %1
      return %2
    }}""")
    found = schedule(graph, TARGET)
    assert len(found.kernels) == 1
    for size in (0, 1, 2, 7):
        shape = (5, size, size + 1 if last == "B+1" else size * 2 + 3)
        x = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
        inputs = [np.zeros(size, np.float32), x]
        assert_same_bits(interpret(found, inputs), evaluate(graph, inputs))


@pytest.mark.parametrize("size", [0, 1, 2, 7])
def test_rows_whose_size_does_not_divide_what_is_scattered_have_a_loop_of_their_own(
    size: int,
) -> None:
    """4*B*(B + 1) elements over B + 1 is no size that can be written down."""
    graph = parse_graph("""
    taut-ir 1
    func @f<B>(%x: i32[3,B+1], %i: i64[B,4], %rows: i32[B,4,B+1]) -> (i32[3,B+1]) {
      %0: i32[3,B+1] = scatter_add %x, %i, %rows
      return %0
    }""")
    rng = np.random.default_rng(0)
    shapes = [(3, size + 1), (size, 4), (size, 4, size + 1)]
    inputs = [
        rng.integers(0, 3, s).astype(t) for s, t in zip(shapes, ("i4", "i8", "i4"), strict=True)
    ]
    program = schedule(graph, TARGET)
    native = compile_program(schedule(graph, host_target()), default_options())
    for outputs in (native(inputs), interpret(program, inputs)):
        np.testing.assert_array_equal(outputs[0], evaluate(graph, inputs)[0])


def test_single_numbers_are_scattered_without_lanes() -> None:
    """Two of them may go to one place, where they must be added one after the other."""
    text = kernels("""
    func @f(%x: f32[5], %i: i64[9], %c: f32[9]) -> (f32[5]) {
      %g: f32[5] = scatter_add %x, %i, %c
      return %g
    }""")
    assert text.startswith(
        "kernel scatter_add(i: i64 in, c: f32 in, g: f32 in out)  outer ()  lanes none"
    )


def test_parts_are_written_into_windows() -> None:
    assert kernels("""
    func @f<B>(%x: f32[B,3], %y: f32[2,3]) -> (f32[B+2,3]) {
      %a: f32[B,3] = exp %x
      %b: f32[2,3] = neg %y
      %g: f32[B+2,3] = concat %a, %b {dim = 0}
      return %g
    }""") == dedent("""\
    kernel exp_neg_concat<B>(x: f32 in, g: f32 out)  outer (B*3)  lanes outer
      stage:
        %0 = load x[i0]
        %1 = exp %0
        store g[i0] = %1

    kernel exp_neg_concat_2<B>(y: f32 in, g: f32 out)  outer (6)  lanes outer
      stage:
        %0 = load y[i0]
        %1 = neg %0
        store g[i0 + B*3] = %1
    """)


WINDOWS = {
    "%g: f32[B+2,3] = concat %x, %y {dim = 0}": [0, 3 * B],
    "%g: f32[B,6] = concat %x, %x {dim = 1}": ["concat"],
    "%g: f32[8] = concat %r, %r {dim = 0}": ["concat"],
    "%g: f32[5,3] = set_slice %z, %y {start = [2, 0], step = [1, 1]}": [0, 6],
    "%g: f32[5,3] = set_slice %z, %y {start = [2, 0], step = [2, 1]}": [0, "set_slice"],
    "%g: f32[4,4] = set_slice %w, %s {start = [1, 3], step = [5, 1]}": [0, 7],
}
"""For each window the element from which on it is copied, or the kernel that writes it."""


@pytest.mark.parametrize("line", WINDOWS)
def test_a_window_that_is_one_piece_of_memory_is_copied(line: str) -> None:
    found = program(f"""
    func @f<B>(
        %x: f32[B,3], %y: f32[2,3], %z: f32[5,3], %w: f32[4,4], %r: f32[4], %s: f32[1,1]
    ) -> ({line.split()[1]}) {{
      {line}
      return %g
    }}""")
    steps: list[Any] = [s.kernel.name if isinstance(s, RunKernel) else s for s in found.steps]
    assert [s.offset if isinstance(s, RunCopy) else s for s in steps] == WINDOWS[line]


def test_one_loop_runs_over_dimensions_that_are_reduced_together() -> None:
    """So the order of a sum depends on the number of its elements, not on how they are arranged."""
    text = """
    func @f(%x: f32[8,6], %b: f32[6]) -> (f32[]) {
      %c: f32[8,6] = broadcast %b {dims = [1]}
      %s: f32[8,6] = add %x, %c
      %y: f32[] = reduce_sum %s {dims = [0, 1]}
      return %y
    }"""
    assert kernels(text) == dedent("""\
    kernel add_sum(x: f32 in, b: f32 in, y: f32 out)  outer ()  lanes inner
      stage:
        %0 = i64 6
      stage (48):
        %1 = load x[i0]
        %2 = i64 position i0
        %3 = rem %2, %0
        %4 = load b[%3]
        %5 = add %1, %4
        %6 = reduce add %5
      stage:
        store y[0] = %6
    """)
    wide = kernels(text.replace("6]", "128]"))
    assert "stage (8, 128):" in wide  # cut where that changes no element's lane
    assert "rem" not in wide


def test_kernels_that_differ_in_sizes_are_one() -> None:
    found = program("""
    func @f(
        %x: f32[4], %y: f32[4], %z: f32[5], %w: f32[4,4]
    ) -> (f32[4], f32[4], f32[5], f32[4,4]) {
      %a: f32[4] = exp %x
      %b: f32[4] = exp %y
      %c: f32[5] = exp %z
      %d: f32[4,4] = exp %w
      return %a, %b, %c, %d
    }""")
    (sweep,) = found.steps
    assert isinstance(sweep, RunSweep)
    assert [k.name for k in found.kernels] == ["exp"]
    assert [run.sizes for run in sweep.runs] == [(4,), (4,), (5,), (16,)]


def test_kernels_carry_lines_and_costs() -> None:
    (kernel,) = program("""
    func @f<B>(%x: f32[B,8], %b: f32[8]) -> (f32[B]) {
      %c: f32[B,8] = broadcast %b {dims = [1]}      loc("a.py":1:1)
      %s: f32[B,8] = add %x, %c                     loc("a.py":1:1)
      %y: f32[B] = reduce_sum %s {dims = [1]}       loc("a.py":2:1, grad "a.py":1:1)
      return %y
    }""").kernels
    assert list(map(str, kernel.locs)) == ['"a.py":1:1', '"a.py":2:1', 'grad "a.py":1:1']
    assert kernel.symbols == ("B",)
    assert kernel.bytes_moved == B * 8 * 4 + 8 * 4 + B * 4
    assert kernel.flops == B * 8 * 2


def layers(count: int) -> str:
    """`tanh(x @ w) * x` again and again, with a sum over rows of each layer's result."""
    lines, last = [], "x"
    for i in range(count):
        lines += [
            f"%p{i}: f32[8,8] = matmul %{last}, %w",
            f"%t{i}: f32[8,8] = tanh %p{i}",
            f"%h{i}: f32[8,8] = mul %t{i}, %{last}",
            f"%s{i}: f32[8] = reduce_sum %h{i} {{dims = [1]}}",
        ]
        last = f"h{i}"
    results = ["f32[8,8]", *["f32[8]"] * count]
    values = ", ".join([f"%{last}", *(f"%s{i}" for i in range(count))])
    body = "\n".join([*lines, f"return {values}"])
    head = f"func @f(%x: f32[8,8], %w: f32[8,8]) -> ({', '.join(results)})"
    return f"taut-ir 1\n{head} {{\n{body}\n}}"


def test_equal_layers_are_lowered_once() -> None:
    few, many = (lower(fuse(parse_graph(layers(count)))) for count in (3, 9))
    assert len(few.forms) == len(many.forms)
    runs = [run for step in many.steps for run in kernel_runs(step)]
    assert len(runs) == 9
    assert len({id(run.kernel) for run in runs}) == len(many.forms)
    assert len({run.buffers for run in runs}) == 9


# ---------------------------------------------------------------- matrix products


def product(text: str) -> RunMatmul:
    (step,) = [s for s in program(text).steps if isinstance(s, RunMatmul)]
    return step


def test_products_read_transposes_slices_and_broadcasts_in_place() -> None:
    step = product("""
    func @f(%x: f32[9,4], %w: f32[5,4]) -> (f32[3,5]) {
      %s: f32[3,4] = slice %x {start = [2, 0], step = [2, 1], stop = [8, 4]}
      %t: f32[4,5] = transpose %w {perm = [1, 0]}
      %y: f32[3,5] = matmul %s, %t
      return %y
    }""")
    assert (step.x.offset, step.x.leading, step.x.transposed) == (8, 8, False)
    assert (step.y.offset, step.y.leading, step.y.transposed) == (0, 4, True)
    assert (step.batch, step.rows, step.columns, step.inner) == ((), 3, 5, 4)


def test_a_batch_by_one_matrix_is_one_taller_matrix() -> None:
    step = product("""
    func @f<B>(%x: f32[B,7,4], %w: f32[4,5]) -> (f32[B,7,5]) {
      %b: f32[B,4,5] = broadcast %w {dims = [1, 2]}
      %y: f32[B,7,5] = matmul %x, %b
      return %y
    }""")
    assert (step.batch, step.rows) == ((), B * 7)


def test_heads_of_attention_are_read_where_they_lie() -> None:
    """(B,T,H,D) as (B,H,T,D): two distances between the matrices of a batch."""
    step = product("""
    func @f(%q: f32[2,5,3,4], %k: f32[2,5,3,4]) -> (f32[2,3,5,5]) {
      %t: f32[2,3,5,4] = transpose %q {perm = [0, 2, 1, 3]}
      %u: f32[2,3,4,5] = transpose %k {perm = [0, 2, 3, 1]}
      %y: f32[2,3,5,5] = matmul %t, %u
      return %y
    }""")
    assert (step.batch, step.x.batch, step.y.batch, step.out.batch) == (
        (2, 3),
        (60, 4),
        (60, 4),
        (75, 25),
    )
    assert (step.x.leading, step.y.leading, step.y.transposed) == (12, 12, True)


# ---------------------------------------------------------------- the order of reductions


def test_runs_of_dimensions() -> None:
    assert runs_of((B, 12, C), (2,)) == runs_of((B * 12, C), (1,)) == ((B * 12, False), (C, True))
    assert runs_of((4, 1, 5), (0, 1, 2)) == ((20, True),)
    assert runs_of((4, 1, 5), (0, 2)) == ((4, True), (5, True))  # as if the middle were not 1
    assert runs_of((), ()) == ()


def test_reductions_over_the_last_dimensions_run_over_lanes() -> None:
    assert is_over_lanes((4, 5), (1,))
    assert is_over_lanes((8, 1), (0, 1))
    assert not is_over_lanes((8, 1), (0,))
    assert not is_over_lanes((3, 2, 1), (0, 2))
    assert is_over_lanes((3, B), (1,))


SHAPES: list[tuple[Shape, tuple[int, ...]]] = [
    ((B, 37), (0, 1)),
    ((B, 37), (1,)),
    ((37, B), (0,)),
    ((37, B), (0, 1)),
    ((11, B, 7), (0, 2)),
    ((11, B, 7), (0, 1)),
    ((11, 7, B), (0, 2)),
    ((B, 11, 7), (1, 2)),
]


@pytest.mark.parametrize(("shape", "dims"), SHAPES)
@pytest.mark.parametrize("size", [1, 2, 70])
def test_a_symbolic_size_changes_no_bit(shape: Shape, dims: tuple[int, ...], size: int) -> None:
    known = tuple(size if d is B else d for d in shape)
    x = np.random.default_rng(0).standard_normal([int(d) for d in known]).astype(np.float32)

    def run(dims_of_x: Shape) -> Array:
        value = graph_input(0, Aval(dtypes.f32, dims_of_x))
        y = get("reduce_sum")(get("exp")(value), dims=dims)
        return interpret(schedule(Graph("f", (value,), (y,)), TARGET), [x])[0]

    assert_same_bits([run(shape)], [run(known)])


def test_a_reshape_changes_no_bit() -> None:
    x = np.random.default_rng(0).standard_normal((6, 5, 14)).astype(np.float32)

    def total(shape: tuple[int, ...]) -> Array:
        value = graph_input(0, Aval(dtypes.f32, shape))
        y = get("reduce_sum")(value, dims=tuple(range(len(shape))))
        return interpret(schedule(Graph("f", (value,), (y,)), TARGET), [x.reshape(shape)])[0]

    expected = [total((420,))]
    for shape in [(6, 5, 14), (30, 14), (420, 1), (1, 6, 70)]:
        assert_same_bits([total(shape)], expected)


# ---------------------------------------------------------------- index arithmetic


def value_of(expr: Expr, loops: Sequence[int]) -> int:
    total = int(expr.offset)
    for atom, coefficient in expr.terms:
        if isinstance(atom, int):
            number = loops[atom]
        else:
            assert isinstance(atom, Quotient | Remainder)
            inner = value_of(atom.expr, loops)
            by = int(atom.by)
            number = inner // by if isinstance(atom, Quotient) else inner % by
        total += number * int(coefficient)
    return total


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(12, 4, 3), (12, 5, None), (B * 12, 4, B * 3), (B * 12, B, 12), (B * C, C, B), (0, B, 0)],
)
def test_exact_quotients_of_sizes(a: Dim, b: Dim, expected: Dim | None) -> None:
    assert exact(a, b) == expected


def test_quotients_and_remainders_cancel() -> None:
    extents = (B * 12,)
    flat = loop(0)
    indices = unflatten(flat, (B, 3, 4), extents)
    assert all(any(not isinstance(a, int) for a, _ in i.terms) for i in indices)
    assert flatten(indices, (B, 3, 4)) == flat


def test_splitting_is_linear_where_the_loops_are_fine_enough() -> None:
    extents = (B, 3, 4)
    flat = linear([(loop(0), 12), (loop(1), 4), (loop(2), 1)])
    assert unflatten(flat, (B, 3, 4), extents) == [loop(0), loop(1), loop(2)]
    assert split(flat, 12, extents) == (loop(0), linear([(loop(1), 4), (loop(2), 1)]))


def test_loops_are_cut_into_chains_of_divisors() -> None:
    nest = Nest(((B * 60, False),)).cut([(0, 5), (0, 20), (0, 6)])
    assert nest is not None
    assert nest.extents == (B * 3, 4, 5)  # 6 neither divides 20 nor is a multiple of 5
    assert nest.point() == linear([(loop(0), 20), (loop(1), 5), (loop(2), 1)])
    assert nest.cut([(2, 1), (0, 7)]) is None


def test_reductions_over_lanes_are_cut_at_whole_blocks_only() -> None:
    nest = Nest(((8, False), (640, True)), inner=True)
    assert nest.cut([(1, 10)]) is None
    cut = nest.cut([(1, 128)])
    assert cut is not None
    assert cut.extents == (8, 5, 128)


@given(data=st.data())
def test_movement_as_index_maps(data: st.DataObject) -> None:
    """Each element of a chain of movements is where the index map says."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    value = start = graph_input(0, Aval(dtypes.f32, shape))
    array = source = np.arange(float(np.prod(shape)), dtype=np.float32).reshape(shape)
    for _ in range(data.draw(st.integers(1, 4))):
        value = data.draw(st.sampled_from([_transposed, _flipped, _sliced, _spread, _reshaped]))(
            data, value
        )
        node = value.node
        array = np.asarray(node.prim.reference(array, **node.params))
    extents = value.aval.shape
    flat = flatten([loop(axis) for axis in range(len(extents))], extents)
    while value is not start:
        flat = through(value.node, flat, extents)
        value = value.node.operands[0]
    for point in np.ndindex(*array.shape):
        assert source.ravel()[value_of(flat, point)] == array[point]


def _transposed(data: st.DataObject, x: Value) -> Value:
    return get("transpose")(x, perm=tuple(data.draw(st.permutations(range(x.aval.ndim)))))


def _flipped(data: st.DataObject, x: Value) -> Value:
    return get("flip")(x, dims=tuple(d for d in range(x.aval.ndim) if data.draw(st.booleans())))


def _sliced(data: st.DataObject, x: Value) -> Value:
    start = tuple(data.draw(st.integers(0, int(d) - 1)) for d in x.aval.shape)
    step = tuple(data.draw(st.integers(1, 2)) for _ in start)
    return get("slice")(x, start=start, stop=x.aval.shape, step=step)


def _spread(data: st.DataObject, x: Value) -> Value:
    at = data.draw(st.integers(0, x.aval.ndim))
    dims = tuple(d + (d >= at) for d in range(x.aval.ndim))
    shape = (*x.aval.shape[:at], data.draw(st.integers(1, 3)), *x.aval.shape[at:])
    return get("broadcast")(x, dims=dims, shape=shape)


def _reshaped(data: st.DataObject, x: Value) -> Value:
    size = int(x.aval.size)
    first = data.draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    return get("reshape")(x, shape=(first, size // first))
