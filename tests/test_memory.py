"""Memory: which values share it, what is written in place, and what happens before a check."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from taut.compiler.aval import Dim, symbol
from taut.compiler.errors import CheckFailed
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph
from taut.compiler.schedule import Program, print_memory, schedule
from taut.compiler.schedule.arena import Life, assign_slots
from taut.compiler.schedule.effects import reads, writes
from taut.compiler.schedule.interpret import interpret
from taut.compiler.schedule.order import order
from taut.compiler.schedule.printing import arena_bytes
from taut.compiler.schedule.program import RunCheck, RunCopy, RunKernel, RunMatmul
from taut.compiler.target import Target
from taut.compiler.text import parse_graph

Array = npt.NDArray[Any]
TARGET = Target("", "", "", "")
B = symbol("B")


def graph_of(text: str) -> Graph:
    return parse_graph("taut-ir 1\n" + dedent(text))


def program(text: str, *, fuse: bool = True) -> Program:
    return schedule(graph_of(text), TARGET, fuse=fuse)


def steps(found: Program) -> list[str]:
    """Steps with the names of what they read and write."""

    def names(buffers: set[int]) -> str:
        return " ".join(found.buffers[b].name for b in sorted(buffers))

    kinds = [type(s).__name__.removeprefix("Run").lower() for s in found.steps]
    pairs = zip(kinds, found.steps, strict=True)
    return [f"{kind}: {names(reads(s))} -> {names(writes(s))}".rstrip(" ->") for kind, s in pairs]


def agree(text: str, arrays: Sequence[Array]) -> Program:
    """The program of a graph, after it has shown that it computes what the graph means."""
    graph = graph_of(text)
    expected = evaluate(graph, arrays)
    for fuse in (True, False):
        for points in (None, lambda n: [[point] for point in reversed(range(n))]):
            got = interpret(schedule(graph, TARGET, fuse=fuse), arrays, points)
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5)  # sums in another order than NumPy's
    return schedule(graph, TARGET)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---------------------------------------------------------------- temporaries


@pytest.mark.quick
def test_an_elementwise_result_takes_the_place_of_its_operand() -> None:
    found = agree(
        """
        func @f(%x: f32[4,4], %b: f32[4]) -> (f32[4,4]) {
          %m: f32[4,4] = matmul %x, %x
          %c: f32[4,4] = broadcast %b {dims = [1]}
          %h: f32[4,4] = add %m, %c
          %t: f32[4,4] = tanh %h
          %y: f32[4,4] = matmul %t, %x
          return %y
        }""",
        [numbers(4, 4), numbers(4)],
    )
    assert [b.kind for b in found.buffers] == ["input", "input", "output", "temp"]
    kernel = next(s for s in found.parts if isinstance(s, RunKernel))
    assert kernel.buffers == (3, 1)  # one parameter, read and written
    assert found.slots == (64,)


def test_a_transposed_operand_is_not_overwritten() -> None:
    found = agree(
        """
        func @f(%x: f32[4,4]) -> (f32[4,4]) {
          %m: f32[4,4] = matmul %x, %x
          %t: f32[4,4] = transpose %m {perm = [1, 0]}
          %h: f32[4,4] = tanh %t
          %y: f32[4,4] = matmul %h, %x
          return %y
        }""",
        [numbers(4, 4)],
    )
    assert found.slots == (64, 64)


def test_slots_are_used_again() -> None:
    chain = ["%m0: f32[8,8] = matmul %x, %x"]
    chain += [f"%m{i}: f32[8,8] = matmul %m{i - 1}, %x" for i in range(1, 9)]
    text = "func @f(%x: f32[8,8]) -> (f32[8,8]) {\n" + "\n".join(chain) + "\nreturn %m8\n}"
    assert agree(text, [numbers(8, 8) / 8]).slots == (256, 256)


def test_slots_of_symbolic_sizes_are_used_again_by_equal_sizes() -> None:
    found = agree(
        """
        func @f<B>(%x: f32[B,4], %w: f32[4,4], %v: f32[4,2]) -> (f32[B,2]) {
          %a: f32[B,4] = matmul %x, %w
          %b: f32[B,4] = matmul %a, %w
          %c: f32[B,4] = matmul %b, %w
          %d: f32[B,2] = matmul %c, %v
          %e: f32[B,2] = tanh %d
          return %e
        }""",
        [numbers(7, 4), numbers(4, 4), numbers(4, 2)],
    )
    assert found.slots == (B * 16, B * 16)
    assert arena_bytes(found) == B * 32


def test_best_fit() -> None:
    def sizes(*lives: tuple[int, int, Dim]) -> tuple[list[int], list[Dim]]:
        return assign_slots([Life(*life) for life in lives])

    assert sizes((0, 1, 100), (0, 1, 200), (2, 3, 90)) == ([0, 1, 0], [100, 200])
    assert sizes((0, 1, 100), (2, 3, 150)) == ([0, 0], [150])  # a free slot grows
    assert sizes((0, 1, 100), (1, 2, 100)) == ([0, 1], [100, 100])  # both live at step 1
    assert sizes((0, 1, 1 << 20), (2, 3, 4)) == ([0, 1], [1 << 20, 4])  # too much for a number
    assert sizes((0, 1, B * 4), (2, 3, B * 8)) == ([0, 1], [B * 4, B * 8])


def test_a_branch_is_finished_before_the_next_is_begun() -> None:
    """Each gradient is used up before the next layer's is computed, so that one slot serves all."""
    lines, outputs = ["%c0: f32[1280,160] = matmul %ct, %w"], []
    for i in range(6):
        lines += [
            f"%t{i}: f32[160,1280] = transpose %c{i} {{perm = [1, 0]}}",
            f"%g{i}: f32[160,160] = matmul %t{i}, %x",
            f"%n{i}: f32[160,160] = sub %p{i}, %g{i}",
            f"%c{i + 1}: f32[1280,160] = matmul %c{i}, %w",
        ]
        outputs.append(f"%n{i} -> %p{i}")
    states = ", ".join(f"%p{i}: f32[160,160]" for i in range(6))
    text = (
        f"func @f(%x: f32[1280,160], %w: f32[160,160], %ct: f32[1280,160], {states}) -> ("
        + ", ".join(["f32[160,160]"] * 6 + ["f32[1280,160]"])
        + ") {\n"
        + "\n".join(lines)
        + f"\nreturn {', '.join(reversed(outputs))}, %c6\n}}"
    )
    assert arena_bytes(program(text)) == 2 * 1280 * 160 * 4 + 160 * 160 * 4


# ---------------------------------------------------------------- outputs


def test_outputs_that_are_inputs_or_equal_are_copied() -> None:
    found = agree(
        """
        func @f(%x: f32[4]) -> (f32[4], f32[4], f32[2,2], f32[4]) {
          %y: f32[4] = exp %x
          %r: f32[2,2] = reshape %y
          return %x, %y, %r, %y
        }""",
        [numbers(4)],
    )
    assert [type(s) for s in found.steps] == [RunCopy, RunKernel, RunCopy, RunCopy]


def test_constants_and_moved_values_are_outputs_too() -> None:
    found = agree(
        """
        func @f(%x: f32[2,3]) -> (f32[3,2], f32[2], i64[3], f32[6]) {
          %t: f32[3,2] = transpose %x {perm = [1, 0]}
          %c: f32[2] = full {value = 2.5}
          %i: i64[3] = iota {dim = 0}
          %r: f32[6] = reshape %x
          return %t, %c, %i, %r
        }""",
        [numbers(2, 3)],
    )
    assert [b.kind for b in found.buffers] == ["input", "output", "output", "output", "output"]


# ---------------------------------------------------------------- donated inputs

SGD = """
    func @f(%w: f32[4,4], %x: f32[4,4], %lr: f32[]) -> (f32[4,4], f32[4,4]) {
      %y: f32[4,4] = matmul %x, %w
      %r: f32[4,4] = broadcast %lr {dims = []}
      %s: f32[4,4] = mul %r, %y
      %n: f32[4,4] = sub %w, %s
      return %n -> %w, %y
    }"""


@pytest.mark.quick
def test_a_state_is_updated_in_place() -> None:
    found = agree(SGD, [numbers(4, 4), numbers(4, 4), np.array(0.1, np.float32)])
    assert steps(found) == ["matmul: w x -> y", "kernel: w lr y -> w"]
    assert found.slots == ()


def test_readers_come_before_the_update() -> None:
    """Although the new state is the first output, and so is met first."""
    text = SGD.replace("%y: f32[4,4] = matmul %x, %w", "%y: f32[4,4] = exp %x").replace(
        "return %n -> %w, %y", "%z: f32[4,4] = matmul %w, %x\n      return %n -> %w, %z"
    )
    found = agree(text, [numbers(4, 4), numbers(4, 4), np.array(0.1, np.float32)])
    assert steps(found) == ["matmul: w x -> z", "kernel: w x lr -> w"]


def test_a_state_that_is_read_later_is_shadowed() -> None:
    found = agree(
        """
        func @f(%w: f32[4,4]) -> (f32[4,4], f32[4,4]) {
          %n: f32[4,4] = exp %w
          %y: f32[4,4] = matmul %n, %w
          return %n -> %w, %y
        }""",
        [numbers(4, 4)],
    )
    assert steps(found) == ["kernel: w -> n", "matmul: w n -> y", "copy: n -> w"]


def test_a_state_read_in_another_order_is_shadowed() -> None:
    found = agree(
        """
        func @f(%w: f32[4,4]) -> (f32[4,4]) {
          %t: f32[4,4] = transpose %w {perm = [1, 0]}
          %n: f32[4,4] = add %w, %t
          return %n -> %w
        }""",
        [numbers(4, 4)],
    )
    assert steps(found) == ["kernel: w -> n", "copy: n -> w"]


def test_states_that_change_places() -> None:
    found = agree(
        """
        func @f(%a: f32[4], %b: f32[4]) -> (f32[4], f32[4]) {
          return %b -> %a, %a -> %b
        }""",
        [numbers(4), numbers(4, seed=1)],
    )
    assert steps(found) == ["copy: b -> b", "copy: a -> a", "copy: b -> a", "copy: a -> b"]
    assert len(found.slots) == 2


def test_a_state_that_does_not_change_costs_nothing() -> None:
    text = "func @f(%a: f32[4]) -> (f32[4]) {\n return %a -> %a\n}"
    assert agree(text, [numbers(4)]).steps == ()


def test_one_value_for_two_states() -> None:
    found = agree(
        """
        func @f(%a: f32[4], %b: f32[4]) -> (f32[4], f32[4], f32[4]) {
          %c: f32[4] = add %a, %b
          return %c -> %a, %c -> %b, %c
        }""",
        [numbers(4), numbers(4, seed=1)],
    )
    assert steps(found) == ["kernel: a b -> c", "copy: c -> a", "copy: c -> b"]


def test_rows_are_added_to_a_state_in_place() -> None:
    found = agree(
        """
        func @f(%e: f32[5,3], %i: i64[2], %r: f32[2,3]) -> (f32[5,3]) {
          %n: f32[5,3] = scatter_add %e, %i, %r
          return %n -> %e
        }""",
        [numbers(5, 3), np.array([4, 0]), numbers(2, 3)],
    )
    assert steps(found) == ["kernel: e i r -> e"]


def test_rows_are_added_in_place_to_a_temporary() -> None:
    found = agree(
        """
        func @f(%x: f32[5,5], %i: i64[2], %r: f32[2,5]) -> (f32[5,5]) {
          %m: f32[5,5] = matmul %x, %x
          %n: f32[5,5] = scatter_add %m, %i, %r
          return %n
        }""",
        [numbers(5, 5), np.array([4, 0]), numbers(2, 5)],
    )
    assert steps(found) == ["matmul: x -> n", "kernel: i r n -> n"]


def test_a_random_state_is_not_overwritten_while_it_is_read() -> None:
    found = program("""
    func @f(%s: u32[630]) -> (f32[3], u32[630]) {
      %u: f32[3], %n: u32[630] = uniform %s
      return %u, %n -> %s
    }""")
    assert steps(found) == ["call: s -> u n", "copy: n -> s"]


# ---------------------------------------------------------------- checks

CHECKED = """
    func @f(%w: f32[4], %x: f32[4], %i: i64[2]) -> (f32[4], f32[2]) {
      %0: i64[2] = full {value = 4}
      %1: bool[2] = lt %i, %0
      %ok: bool[] = reduce_min %1 {dims = [0]}
      check %ok "position out of range"
      %n: f32[4] = add %w, %x
      %y: f32[2] = take %x, %i
      return %n -> %w, %y
    }"""


def test_checks_come_before_what_they_guard() -> None:
    found = agree(CHECKED, [numbers(4), numbers(4), np.array([3, 0])])
    assert [type(s) for s in found.steps] == [RunKernel, RunCheck, RunKernel, RunKernel]
    assert found.checks == ("position out of range",)
    with pytest.raises(CheckFailed, match="position out of range"):
        interpret(found, [numbers(4), numbers(4), np.array([3, 4])])


def test_steps_that_need_each_other_have_no_order() -> None:
    with pytest.raises(AssertionError, match="steps that need each other"):
        order([RunCopy(0, 1), RunCopy(2, 3), RunCopy(3, 2)], {})


def test_a_check_of_a_new_state_forces_a_shadow() -> None:
    found = agree(
        """
        func @f(%w: f32[4], %x: f32[4]) -> (f32[4]) {
          %n: f32[4] = add %w, %x
          %0: bool[4] = eq %n, %n
          %ok: bool[] = reduce_min %0 {dims = [0]}
          check %ok "not a number"
          return %n -> %w
        }""",
        [numbers(4), numbers(4)],
    )
    assert [type(s) for s in found.steps] == [RunKernel, RunCheck, RunCopy]


def test_checks_run_in_order_each_before_what_the_next_one_needs() -> None:
    found = program("""
    func @f(%x: f32[4], %i: i64[2]) -> (f32[2]) {
      %0: i64[2] = full {value = 4}
      %1: bool[2] = lt %i, %0
      %first: bool[] = reduce_min %1 {dims = [0]}
      check %first "position out of range"
      %y: f32[2] = take %x, %i
      %2: bool[2] = eq %y, %y
      %second: bool[] = reduce_min %2 {dims = [0]}
      check %second "not a number"
      return %y
    }""")
    order = [s.number if isinstance(s, RunCheck) else "kernel" for s in found.steps]
    assert order == ["kernel", 0, "kernel", 1]


def test_no_visible_write_before_the_last_check() -> None:
    for text in (SGD, CHECKED):
        found = program(text)
        checks = [i for i, s in enumerate(found.steps) if isinstance(s, RunCheck)]
        visible = {i for i, b in enumerate(found.buffers) if b.kind == "input"}
        for i, step in enumerate(found.steps):
            assert not writes(step) & visible or i > max(checks, default=-1)


# ---------------------------------------------------------------- text


def test_memory_as_text() -> None:
    found = program("""
    func @f<B>(%x: f32[B,4], %w: f32[4,4]) -> (f32[B,4]) {
      %t: f32[4,4] = transpose %w {perm = [1, 0]}
      %m: f32[B,4] = matmul %x, %t
      %h: f32[B,4] = tanh %m
      %y: f32[B,4] = matmul %h, %w
      return %y
    }""")
    assert print_memory(found) == dedent("""\
    program @f
      buffers
        0: x: f32[B,4] input 0
        1: w: f32[4,4] input 1
        2: y: f32[B,4] output 0
        3: h: f32[B,4] temp 0
      peak B*48+64 bytes: inputs B*16+64, outputs B*16, arena B*16
      arena B*16 bytes in 1 slots
        slot 0: B*16 bytes
      steps
        0: matmul x#0 @ w#1.T -> h#3  [Bx4x4 f32]
           by blocks with kernel tanh(h#3) -> h#3  [B*16 bytes, B*4 flops]
        1: matmul h#3 @ w#1 -> y#2  [Bx4x4 f32]
    """)
    assert sum(isinstance(s, RunMatmul) for s in found.parts) == 2
