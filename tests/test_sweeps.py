"""Sweeps: kernels that differ in sizes are one, independent ones run in one step, tails join them.

Programs are compared with `evaluate` by the interpreter, with and without fusion, and run by the
back end that the options choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from taut.compiler.aval import Dim, substitute_dim, symbol
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph
from taut.compiler.schedule import schedule, schedule_stages
from taut.compiler.schedule.interpret import interpret
from taut.compiler.schedule.program import Program, RunKernel, RunSweep
from taut.compiler.target import Target
from taut.compiler.text import parse_graph
from taut.frontend.testing import assert_same_bits
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target

Array = npt.NDArray[Any]
TARGET = Target("", "", "", "")
B = symbol("B")


def graph_of(text: str) -> Graph:
    return parse_graph(f"taut-ir 1\n{text.strip()}\n")


def numbers(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng([seed, *shape])
    return np.asarray(rng.standard_normal(shape), np.float32)


def agree(text: str, arrays: Sequence[Array]) -> Program:
    """The program of a graph, after interpreter and machine have shown that it is right."""
    graph = graph_of(text)
    expected = evaluate(graph, arrays)
    program = schedule(graph, TARGET)
    for points in (None, lambda n: [[point] for point in reversed(range(n))]):
        for a, b in zip(interpret(program, arrays, points), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # sums in another order
    native, apart = (
        compile_program(schedule(graph, host_target(), fuse=fuse))([np.array(a) for a in arrays])
        for fuse in (True, False)
    )
    assert_same_bits(native, apart)
    for a, b in zip(native, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    return program


def sweeps(program: Program) -> list[int]:
    """How many segments each sweep has."""
    return [len(step.runs) for step in program.steps if isinstance(step, RunSweep)]


# --- one kernel for several sizes -----------------------------------------------------------------

ROWS = """
    func @f(%x: f32[3,300], %y: f32[5,700], %b: f32[300], %c: f32[700]) -> (f32[5], f32[3]) {
      %u: f32[3,300] = broadcast %b {dims = [1]}
      %s: f32[3,300] = mul %x, %u
      %p: f32[3] = reduce_sum %s {dims = [1]}
      %q: f32[] = reduce_sum %p {dims = [0]}
      %r: f32[5,700] = broadcast %q {dims = []}
      %t: f32[5,700] = sub %y, %r
      %v: f32[5,700] = broadcast %c {dims = [1]}
      %w: f32[5,700] = mul %t, %v
      %z: f32[5] = reduce_sum %w {dims = [1]}
      return %z, %p
    }"""


def test_updates_of_all_sizes_are_one_kernel() -> None:
    found = agree(
        """
        func @f(
            %a: f32[20], %b: f32[3], %c: f32[1000], %g: f32[20], %h: f32[3], %i: f32[1000],
            %lr: f32[]
        ) -> (f32[20], f32[3], f32[1000]) {
          %r: f32[20] = broadcast %lr {dims = []}
          %s: f32[3] = broadcast %lr {dims = []}
          %t: f32[1000] = broadcast %lr {dims = []}
          %u: f32[20] = fma %r, %g, %a
          %v: f32[3] = fma %s, %h, %b
          %w: f32[1000] = fma %t, %i, %c
          return %u -> %a, %v -> %b, %w -> %c
        }""",
        [numbers(n, seed=seed) for seed in (0, 1) for n in (20, 3, 1000)] + [numbers()],
    )
    (kernel,) = found.kernels
    (sweep,) = found.steps
    assert isinstance(sweep, RunSweep)
    assert kernel.extents == (symbol("n0"),)
    assert [run.sizes for run in sweep.runs] == [(20,), (3,), (1000,)]
    assert len(found.buffers) == 7  # in place


def test_kernels_that_wait_for_each_other_share_code_but_no_step() -> None:
    found = agree(
        """
        func @f(%x: f32[6], %w: f32[6,9], %v: f32[9,6]) -> (f32[1,6]) {
          %a: f32[6] = tanh %x
          %r: f32[1,6] = reshape %a
          %m: f32[1,9] = matmul %r, %w
          %b: f32[1,9] = tanh %m
          %n: f32[1,6] = matmul %b, %v
          %c: f32[1,6] = tanh %n
          return %c
        }""",
        [numbers(6), numbers(6, 9), numbers(9, 6)],
    )
    assert len(found.kernels) == 2  # the first does not write in place
    assert sum(isinstance(s, RunKernel) for s in found.parts) == 3
    assert sweeps(found) == []


def test_strides_are_sizes_too_and_equal_numbers_are_one() -> None:
    """Sums over columns: the same code for other rows and columns."""
    found = agree(
        """
        func @f(%x: f32[7,30], %y: f32[9,50]) -> (f32[30], f32[50]) {
          %a: f32[30] = reduce_sum %x {dims = [0]}
          %b: f32[50] = reduce_sum %y {dims = [0]}
          return %a, %b
        }""",
        [numbers(7, 30), numbers(9, 50)],
    )
    (kernel,) = found.kernels
    assert len(kernel.symbols) == 2  # columns, which are the stride of rows, and rows
    assert sweeps(found) == [2]


def test_a_short_loop_in_lanes_keeps_its_extent() -> None:
    text = """
        func @f(%x: f32[7,WIDE], %y: f32[7,NARROW]) -> (f32[7], f32[7]) {
          %a: f32[7] = reduce_max %x {dims = [1]}
          %b: f32[7] = reduce_max %y {dims = [1]}
          return %a, %b
        }"""
    for wide, narrow, kernels in ((10, 20, 2), (300, 400, 1)):
        sized = text.replace("WIDE", str(wide)).replace("NARROW", str(narrow))
        assert len(agree(sized, [numbers(7, wide), numbers(7, narrow)]).kernels) == kernels


def test_rows_share_code_in_their_own_order() -> None:
    """A kernel of rows whose lengths differ: the bits are those of the kernels apart."""
    arrays = [numbers(3, 300), numbers(5, 700), numbers(300), numbers(700)]
    agree(ROWS, arrays)


@pytest.mark.parametrize("size", [0, 1, 7, 100])
def test_named_sizes_and_known_ones(size: int) -> None:
    found = agree(
        """
        func @f<B>(%x: f32[B], %y: f32[B,3], %z: f32[40]) -> (f32[B], f32[B,3], f32[40]) {
          %a: f32[B] = exp %x
          %b: f32[B,3] = exp %y
          %c: f32[40] = exp %z
          return %a, %b, %c
        }""",
        [numbers(size), numbers(size, 3), numbers(40)],
    )
    (sweep,) = found.steps
    assert isinstance(sweep, RunSweep)
    assert [run.arguments[-1] for run in sweep.runs] == [B, B * 3, 40]


def test_substitution_in_sizes() -> None:
    n = symbol("n")
    cases: list[tuple[Dim, Dim]] = [(7, 7), (n, B * 2), (n * n + 1, B * B * 4 + 1), (n // 2, B)]
    for dim, expected in cases:
        assert substitute_dim(dim, {"n": B * 2}) == expected
    assert substitute_dim(n * 3, {"n": 5}) == 15


def test_what_differs_in_too_many_numbers_is_not_shared() -> None:
    """Four dimensions turned round: more extents and strides than a kernel takes."""

    def flipped(name: str, shape: tuple[int, ...]) -> str:
        back = ",".join(map(str, reversed(shape)))
        return f"""
          %r{name}: f32[{back}] = transpose %{name} {{perm = [3, 2, 1, 0]}}
          %s{name}: f32[{back}] = exp %r{name}
          %t{name}: f32[{back}] = mul %s{name}, %k{name}"""

    shapes = {"x": (2, 3, 4, 5), "y": (3, 5, 7, 6)}
    inputs = ", ".join(
        f"%{n}: f32[{','.join(map(str, s))}], %k{n}: f32[{','.join(map(str, reversed(s)))}]"
        for n, s in shapes.items()
    )
    outputs = ", ".join(f"f32[{','.join(map(str, reversed(s)))}]" for s in shapes.values())
    body = "".join(flipped(n, s) for n, s in shapes.items())
    text = f"func @f({inputs}) -> ({outputs}) {{{body}\nreturn %tx, %ty\n}}"
    arrays = [numbers(*s) for shape in shapes.values() for s in (shape, shape[::-1])]
    found = agree(text, arrays)
    assert len(found.kernels) == 2
    assert sweeps(found) == []


# --- one step -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "segments"), [(16, [2]), (4096, [])])
def test_a_large_temporary_does_not_wait_for_a_sweep(rows: int, segments: list[int]) -> None:
    text = """
        func @f(%x: f32[N,8], %w: f32[8,8]) -> (f32[N,8], f32[N,8]) {
          %a: f32[N,8] = matmul %x, %w
          %e: f32[N,8] = flip %a {dims = [1]}
          %b: f32[N,8] = tanh %e
          %c: f32[N,8] = matmul %x, %b0
          %g: f32[N,8] = flip %c {dims = [1]}
          %d: f32[N,8] = tanh %g
          return %b, %d
        }""".replace("%b0", "%v").replace("%w: f32[8,8]", "%w: f32[8,8], %v: f32[8,8]")
    found = agree(text.replace("N", str(rows)), [numbers(rows, 8), numbers(8, 8), numbers(8, 8)])
    assert sweeps(found) == segments
    assert len(found.kernels) == 1


def test_segments_that_are_written_in_place_are_apart_from_others() -> None:
    """One step, until memory is known: then these kernels have other parameters."""
    found = agree(
        """
        func @f(%a: f32[4], %b: f32[5], %c: f32[6]) -> (f32[4], f32[5], f32[6]) {
          %x: f32[4] = exp %a
          %y: f32[5] = exp %b
          %z: f32[6] = exp %c
          return %x, %y -> %b, %z -> %c
        }""",
        [numbers(4), numbers(5), numbers(6)],
    )
    assert sweeps(found) == [2]
    assert len(found.kernels) == len(found.steps) == 2


def test_what_a_check_needs_runs_before_it() -> None:
    found = agree(
        """
        func @f(%x: f32[4], %y: f32[9], %z: f32[4]) -> (f32[4], f32[9]) {
          %o: f32[4] = exp %x
          %t: f32[] = reduce_sum %o {dims = [0]}
          %zero: f32[] = full {value = 0.0}
          %ok: bool[] = lt %zero, %t
          check %ok "not positive"
          %p: f32[4] = exp %z
          %q: f32[9] = exp %y
          return %p, %q
        }""",
        [numbers(4), numbers(9), numbers(4, seed=1)],
    )
    kinds = [type(s).__name__ for s in found.steps]
    assert kinds.index("RunCheck") < kinds.index("RunSweep")
    assert sweeps(found) == [2]


def test_what_writes_one_value_keeps_its_order() -> None:
    """The bases are filled in one sweep, and two of the parts are written in another."""
    found = agree(
        """
        func @f(%x: f32[4], %y: f32[4], %z: f32[4]) -> (f32[10], f32[10], f32[10]) {
          %o: f32[10] = full {value = 0.0}
          %p: f32[4] = neg %x
          %q: f32[4] = neg %y
          %r: f32[4] = neg %z
          %a: f32[10] = set_slice %o, %p {start = [2], step = [1]}
          %b: f32[10] = set_slice %o, %q {start = [3], step = [1]}
          %c: f32[10] = set_slice %o, %r {start = [0], step = [1]}
          return %a, %b, %c
        }""",
        [numbers(4, seed=seed) for seed in range(3)],
    )
    assert sweeps(found) == [3, 2]


def test_parts_of_equal_shape_are_written_by_one_kernel() -> None:
    inputs = ", ".join(f"%x{i}: f32[3,{4 if i % 2 else 5}]" for i in range(6))
    parts = ", ".join(f"%x{i}" for i in range(6))
    text = f"""
        func @f({inputs}) -> (f32[3,27]) {{
          %y: f32[3,27] = concat {parts} {{dim = 1}}
          return %y
        }}"""
    found = agree(text, [numbers(3, 4 if i % 2 else 5, seed=i) for i in range(6)])
    assert len(found.steps) == len(found.kernels) == 2


# --- tails ----------------------------------------------------------------------------------------

LAYER = """
    func @f(
        %w: f32[20,30], %b: f32[30], %g: f32[20,30], %z: f32[64,30], %lr: f32[], %decay: f32[]
    ) -> (f32[20,30], f32[30], f32[30]) {
      %d: f32[20,30] = broadcast %decay {dims = []}
      %s: f32[20,30] = broadcast %lr {dims = []}
      %p: f32[20,30] = mul %w, %d
      %q: f32[20,30] = fma %s, %g, %p
      %e: f32[30] = broadcast %decay {dims = []}
      %t: f32[30] = broadcast %lr {dims = []}
      %h: f32[30] = reduce_sum %z {dims = [0]}
      %r: f32[30] = mul %b, %e
      %u: f32[30] = fma %t, %h, %r
      return %q -> %w, %u -> %b, %h
    }"""
ARRAYS = [numbers(20, 30), numbers(30), numbers(20, 30, seed=1), numbers(64, 30)]


def test_the_update_of_a_bias_joins_that_of_its_weight() -> None:
    found = agree(LAYER, [*ARRAYS, numbers(), numbers()])
    assert [k.name for k in found.kernels] == ["sum", "mul_fma"]
    assert sweeps(found) == [2]


def test_the_cut_has_its_reason() -> None:
    plan = schedule_stages(graph_of(LAYER), TARGET).plan
    (cut,) = [c for c in plan.cuts if c.producer.node.prim.name == "reduce_sum"]
    assert cut.why.reason == "it ends in what another kernel does: one sweep for both"


def test_a_tail_of_another_form_stays() -> None:
    """The update of the bias uses the decay where that of the weight uses the rate."""
    text = LAYER.replace("mul %b, %e", "mul %b, %t")
    found = agree(text, [*ARRAYS, numbers(), numbers()])
    assert [k.name for k in found.kernels] == ["mul_fma", "sum_mul_fma"]
    assert sweeps(found) == []


def test_a_tail_that_others_read_stays() -> None:
    text = LAYER.replace("(f32[20,30], f32[30], f32[30])", "(f32[20,30], f32[30], f32[64,30])")
    more = "%v: f32[64,30] = broadcast %u {dims = [1]}\n%m: f32[64,30] = mul %v, %z\nreturn"
    text = text.replace("return", more).replace("-> %b, %h", "-> %b, %m")
    found = agree(text, [*ARRAYS, numbers(), numbers()])
    assert sweeps(found) == []


# --- text -----------------------------------------------------------------------------------------


def test_sweeps_in_every_stage() -> None:
    stages = schedule_stages(graph_of(LAYER), TARGET)
    assert stages.text("fused").splitlines()[0] == "fused @f: 3 groups, 1 edges cut"
    assert "sweeps:\n  2 segments, one step: groups 0, 2\n" in stages.text("fused")
    memory = stages.text("memory")
    assert "sweep mul_fma over 2 segments\n" in memory
    assert "<n0 = 600>(lr#4, g#2, w#0, decay#5) -> w#0  [4808 bytes, 1200 flops]" in memory
    assert "kernel mul_fma<n0>(" in stages.text("kernel")
