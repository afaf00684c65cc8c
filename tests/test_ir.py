"""Avals, sizes, interning, graphs and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taut.compiler import dtypes
from taut.compiler.autodiff import backward_graph
from taut.compiler.aval import Aval, evaluate_dim, parse_dim, size_of, symbol
from taut.compiler.errors import CheckFailed, CompileError, IRError
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Check, Graph, Loc, make_node, solve_sizes
from taut.compiler.primitive import Primitive, get, register
from taut.compiler.primitives import create, elementwise, movement, reduce
from taut.compiler.text import parse_graph
from taut.compiler.verify import verify
from taut.frontend.testing import evaluate_contiguous

B, S = symbol("B"), symbol("S")
F32_8 = Aval(dtypes.f32, (8,))

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (B * 64, "B*64"),
        (64 * B + 1, "B*64+1"),
        (B * S * 2 + B - 3, "B*S*2+B-3"),
        ((B + 1) // 2, "(B+1)//2"),
        ((B * 4 + 2) // 2, "B*2+1"),
        (B - B, "0"),
        (B % 2, "B-(B//2)*2"),
        ((B // 2) * (S // 3), "(B//2)*(S//3)"),
        (-B, "-B"),
    ],
)
def test_sizes_have_one_form_and_round_trip(dim: object, text: str) -> None:
    assert str(dim) == text
    assert parse_dim(text) == dim


def test_sizes_divide_by_their_factors() -> None:
    assert (B * S * 6) // (B * 3) == S * 2
    assert size_of((B, 4, S)) // (B * 4) == S
    assert size_of((5, B, B + 1)) // (B + 1) == B * 5
    assert size_of((B - 1, S + 2, S - B, 3)) // ((S - B) * (B - 1)) == S * 3 + 6
    with pytest.raises(IRError, match=r"cannot show that B\*B\+1 is divisible by B\+1"):
        (B * B + 1) // (B + 1)
    with pytest.raises(IRError, match=r"cannot show that B\+1 is divisible by S"):
        (B + 1) // S


@pytest.mark.parametrize("text", ["", "B+", "*3", "(B", "(", "B 3$", "3 4", "1//B", "B//0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a size|missing|unexpected"):
        parse_dim(text)


def test_sizes_evaluate() -> None:
    assert evaluate_dim((B * 4 + S) // 3, {"B": 5, "S": 2}) == 7


def test_sizes_are_read_off_arguments() -> None:
    avals = [Aval(dtypes.f32, (B * 2, S)), Aval(dtypes.f32, (B, 3))]
    assert solve_sizes(avals, [(10, 7), (5, 3)]) == {"B": 5, "S": 7}
    with pytest.raises(IRError, match="argument 0: expected"):
        solve_sizes(avals, [(11, 7), (5, 3)])
    with pytest.raises(IRError, match="the size B is the size of no argument by itself"):
        solve_sizes(avals[:1], [(10, 7)])


def test_equal_nodes_are_one_node() -> None:
    x = create.graph_input(0, F32_8)
    assert elementwise.sin(x) is elementwise.sin(x)
    assert elementwise.sin(x) is not elementwise.cos(x)


def test_numbers_that_compare_equal_are_told_apart() -> None:
    zero = create.full(value=0.0, dtype=dtypes.f32, shape=())
    assert zero is not create.full(value=-0.0, dtype=dtypes.f32, shape=())
    nan = create.full(value=float("nan"), dtype=dtypes.f32, shape=())
    assert nan is create.full(value=float("nan"), dtype=dtypes.f32, shape=())
    one = create.full(value=1, dtype=dtypes.i64, shape=())
    assert one is not create.full(value=True, dtype=dtypes.boolean, shape=())


def test_dead_nodes_do_not_exist() -> None:
    x = create.graph_input(0, F32_8)
    elementwise.exp(x)
    graph = Graph("f", (x,), (elementwise.sin(x),))
    assert [n.prim.name for n in graph.nodes] == ["sin"]


def test_graphs_compare_names_and_lines_but_nodes_do_not() -> None:
    x = create.graph_input(0, F32_8)
    y = elementwise.sin(x)
    graph = Graph("f", (x,), (y,), names={y: "y"}, locs={y.node: (Loc("a.py", 1, 1),)})
    assert graph == graph.replace(names={y: "y"})
    assert graph != graph.replace(names={y: "z"})
    assert graph != graph.replace(locs={y.node: (Loc("a.py", 2, 1),)})


def test_type_errors_name_the_primitive_and_the_types() -> None:
    x = create.graph_input(0, F32_8)
    y = create.graph_input(1, Aval(dtypes.f32, (4,)))
    with pytest.raises(IRError) as caught:
        elementwise.mul(x, y)
    message = "mul: operands must have one dtype and one shape, got f32[8] and f32[4]"
    assert str(caught.value) == message


def test_a_missing_rule_is_loud() -> None:
    bare = Primitive("bare", lambda x: x, lambda x: x, None, None, "for this test")
    with pytest.raises(CompileError, match="bare has no VJP rule"):
        bare.require_vjp()
    with pytest.raises(CompileError, match="bare has no lowering"):
        bare.require_lowering()


def test_primitive_names_are_unique() -> None:
    with pytest.raises(ValueError, match="a primitive called sin exists already"):
        register(Primitive("sin", lambda x: x, lambda x: x, None, None, "again"))
    assert get("sin") is elementwise.sin


def test_a_constant_is_a_number_of_its_dtype() -> None:
    assert create.constant(-2, Aval(dtypes.u8, ())).node.params["value"] == 254
    assert create.constant(200, Aval(dtypes.i8, ())).node.params["value"] == -56
    with pytest.raises(IRError, match="full: 256 is no u8"):
        create.full(value=256, dtype=dtypes.u8, shape=())
    with pytest.raises(IRError, match="full: nan is no i32"):
        create.full(value=math.nan, dtype=dtypes.i32, shape=())


def test_verify_accepts_a_good_graph() -> None:
    x = create.graph_input(0, Aval(dtypes.f32, (B, 4)))
    y = reduce.reduce_sum(x, dims=(1,))
    graph = Graph("f", (x,), (y,))
    assert verify(graph) is graph


def wrong_graphs() -> list[tuple[Graph, str]]:
    x, y = create.graph_input(0, F32_8), create.graph_input(1, F32_8)
    odd = make_node(elementwise.exp, (x,), {})
    loose = create.full(value=1.0, dtype=dtypes.f32, shape=(B,))
    return [
        (Graph("f", (y,), (y,)), "input 0 is"),
        (Graph("f", (x,), (elementwise.add(x, y),)), "which is no input"),
        (Graph("f", (x,), (loose,)), "no input binds the size B"),
        (Graph("f", (x,), (x,), checks=(Check(x, "m"),)), "check 'm' is no bool scalar"),
        (Graph("f", (x,), (x, x), (0, 0)), "donations"),
        (Graph("f", (x,), (movement.reshape(x, shape=(2, 4)),), (0,)), "cannot replace input 0"),
        (Graph("f", (x,), (odd.results[0],), names={x: "a", odd.results[0]: "a"}), "one name"),
    ]


@pytest.mark.parametrize("number", range(7))
def test_verify_refuses(number: int) -> None:
    graph, message = wrong_graphs()[number]
    with pytest.raises(IRError, match=message):
        verify(graph)


def test_evaluate_computes_and_checks() -> None:
    x = create.graph_input(0, Aval(dtypes.f32, (B,)))
    total = reduce.reduce_sum(x, dims=(0,))
    positive = elementwise.lt(create.full_like(total, 0), total)
    graph = verify(Graph("f", (x,), (total,), checks=(Check(positive, "must be positive"),)))
    assert evaluate(graph, [np.array([1, 2, 3], np.float32)]) == [np.float32(6)]
    with pytest.raises(CheckFailed, match="must be positive"):
        evaluate(graph, [np.array([-1], np.float32)])
    with pytest.raises(IRError, match=r"expected f32\[B\], got dtype float64"):
        evaluate(graph, [np.zeros(3)])


def test_checks_are_tested_before_what_they_guard() -> None:
    """Each in order: the second is computed from rows whose positions the first one checks."""
    graph = parse_graph("""taut-ir 1
    func @f(%w: f32[3], %i: i64[], %n: i64[3]) -> (f32[]) {
      %0: i64[] = full {value = 3}
      %1: bool[] = lt %i, %0
      check %1 "first"
      %2: i64[] = take %n, %i
      %3: bool[] = lt %2, %0
      check %3 "second"
      %4: f32[] = take %w, %2
      return %4
    }""")
    table, positions = np.arange(3, dtype=np.float32), np.array([2, 9, 1])
    for run in (evaluate, evaluate_contiguous):
        assert run(graph, [table, np.array(0), positions])[0] == 2
        for position, message in [(7, "first"), (1, "second")]:
            with pytest.raises(CheckFailed, match=message):
                run(graph, [table, np.array(position), positions])


@pytest.mark.parametrize("pair", [False, True])
def test_verify_looks_into_regions(pair: bool) -> None:
    x, y = create.graph_input(0, F32_8), create.graph_input(1, F32_8)
    good, bad = Graph("good", (x,), (x,)), Graph("bad", (y,), (y,))
    apply = Primitive("apply", lambda x, *, body: x, lambda x, *, body: x, None, None, "")
    node = make_node(apply, (x,), {"body": (good, bad) if pair else bad})
    with pytest.raises(IRError, match="bad: input 0 is"):
        verify(Graph("f", (x,), node.results))


def test_each_output_has_a_cotangent_even_if_it_is_another_one_too() -> None:
    x = create.graph_input(0, F32_8)
    y = elementwise.mul(x, x)
    backward, residuals = backward_graph(Graph("f", (x,), (y, y)), [x])
    arrays = [np.full(8, value, np.float32) for value in (3, 10, 20)]
    assert residuals == (x,)
    assert evaluate(backward, arrays)[0].tolist() == [2 * 3 * 30] * 8


def test_promotion_follows_pytorch() -> None:
    torch = pytest.importorskip("torch")
    for a in dtypes.ALL:
        for b in dtypes.ALL:
            if dtypes.u32 in (a, b):
                continue  # PyTorch does not promote its unsigned types
            want = torch.promote_types(getattr(torch, a.long_name), getattr(torch, b.long_name))
            assert repr(dtypes.promote(a, b)) == str(want)
