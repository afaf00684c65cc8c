"""Sums over columns in kernels that reduce rows: one pass gives both."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from taut.compiler.evaluate import evaluate
from taut.compiler.schedule import print_kernels, schedule, schedule_stages
from taut.compiler.schedule.interpret import interpret
from taut.compiler.target import Target
from taut.compiler.text import parse_graph
from taut.frontend.testing import assert_same_bits
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target

Array = npt.NDArray[Any]
TARGET = Target("", "", "", "")
BOTH = """
    func @f(%x: f32[ROWS,COLUMNS]) -> (f32[ROWS,COLUMNS], f32[COLUMNS]) {
      %m: f32[ROWS] = reduce_max %x {dims = [1]}
      %b: f32[ROWS,COLUMNS] = broadcast %m {dims = [0]}
      %s: f32[ROWS,COLUMNS] = sub %x, %b
      %t: f32[COLUMNS] = reduce_sum %s {dims = [0]}
      return %s, %t
    }"""


def sized(text: str, rows: int | str, columns: int | str) -> str:
    return text.replace("ROWS", str(rows)).replace("COLUMNS", str(columns))


def reasons(text: str) -> list[str]:
    """Why the edges to sums over columns are cut."""
    cuts = schedule_stages(parse_graph(f"taut-ir 1\n{text.strip()}\n"), TARGET).plan.cuts
    return [c.why.reason for c in cuts if c.consumer.prim.name.startswith("reduce")]


@pytest.mark.parametrize("rows", [1, 2, 37])
@pytest.mark.parametrize("columns", [2, 16, 65, 1000])
def test_one_pass_gives_the_bits_of_two(rows: int, columns: int) -> None:
    graph = parse_graph(f"taut-ir 1\n{sized(BOTH, rows, columns).strip()}\n")
    x = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    expected = evaluate(graph, [x])
    program = schedule(graph, TARGET)
    assert len(program.kernels) == 1
    for points in (None, lambda n: [[point] for point in reversed(range(n))]):
        for a, b in zip(interpret(program, [x], points), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # sums in another order
    one, two = (
        compile_program(schedule(graph, host_target(), fuse=fuse))([x]) for fuse in (True, False)
    )
    assert_same_bits(one, two)


def test_negative_zeros_add_up_to_zero() -> None:
    """As in a sum alone, which ends with + 0."""
    text = sized(BOTH, 3, 4).replace("sub %x, %b", "mul %x, %b")
    graph = parse_graph(f"taut-ir 1\n{text.strip()}\n")
    x = np.full((3, 4), -0.0, np.float32)
    x[:, 0] = 1
    _, total = compile_program(schedule(graph, host_target()))([x])
    np.testing.assert_array_equal(np.signbit(total), np.zeros(4, bool))


def test_the_kernel_says_so() -> None:
    graph = parse_graph(f"taut-ir 1\n{sized(BOTH, 8, 100).strip()}\n")
    assert "store t[i1] sum= %" in print_kernels(schedule(graph, TARGET))


def test_a_sum_of_what_both_read_joins_too() -> None:
    text = sized(BOTH, 8, 100).replace("reduce_sum %s", "reduce_sum %x")
    assert len(schedule(parse_graph(f"taut-ir 1\n{text.strip()}\n"), TARGET).kernels) == 1


def test_why_not_a_size_that_is_not_known() -> None:
    text = sized(BOTH, "B", 100).replace("@f", "@f<B>")
    assert reasons(text) == [
        "sums over columns beside reductions over rows need sizes that are known"
    ]


def test_why_not_no_rows() -> None:
    text = sized(BOTH, 0, 3)
    assert reasons(text) == ["without rows nothing would write the sums over columns"]
    graph = parse_graph(f"taut-ir 1\n{text.strip()}\n")
    _, total = compile_program(schedule(graph, host_target()))([np.empty((0, 3), np.float32)])
    np.testing.assert_array_equal(total, np.zeros(3))


def test_why_not_too_wide() -> None:
    (reason,) = reasons(sized(BOTH, 8, 5000))
    assert reason == "sums over more than 4096 columns would not stay in the cache"


def test_why_not_another_reduction() -> None:
    (reason,) = reasons(sized(BOTH, 8, 100).replace("reduce_sum", "reduce_max"))
    assert reason == "only plain sums over columns can be made beside reductions over rows"


def test_why_not_half_precision() -> None:
    (reason,) = reasons(sized(BOTH, 8, 100).replace("f32", "f16"))
    assert reason == "f16 is summed in f32, which memory does not hold"


def test_what_needs_the_sums_waits_for_them() -> None:
    text = sized(BOTH, 8, 100).replace("return %s, %t", "%u: f32[100] = exp %t\nreturn %s, %u")
    graph = parse_graph(f"taut-ir 1\n{text.strip()}\n")
    plan = schedule_stages(graph, TARGET).plan
    assert len(plan.groups) == 2
    (cut,) = plan.cuts
    assert cut.why.reason == "a sum over columns is complete when its kernel ends"
