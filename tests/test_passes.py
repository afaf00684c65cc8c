"""Passes: what they keep, their engine, and the pipeline that runs them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taut.compiler import pipeline, primitive
from taut.compiler.aval import Aval
from taut.compiler.errors import CheckFailed, IRError
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph, Node, Value
from taut.compiler.passes import (
    algebra,
    casts,
    checks,
    fold,
    layout,
    logic,
    narrow,
    shapes,
    simplify,
)
from taut.compiler.passes.rewrite import Rules, rebuild, rewrite
from taut.compiler.pipeline import PARTS, PASSES, Pass, run_passes
from taut.compiler.primitive import Primitive, no_gradient
from taut.compiler.primitives.elementwise import add, exp, mul, neg, sin
from taut.compiler.primitives.movement import broadcast
from taut.compiler.text import parse_graph, print_graph
from taut.compiler.verify import verify
from taut.frontend.testing import (
    assert_same_bits,
    evaluate_contiguous,
    random_graph,
    random_inputs,
)

SEEDS = st.integers(0, 2**32 - 1)
EVERY = {
    "fold": fold.run,
    "algebra": algebra.run,
    "logic": logic.run,
    "casts": casts.run,
    "shapes": shapes.run,
    "narrow": narrow.run,
    "simplify": simplify.run,
    "checks": checks.run,
}


# ---------------------------------------------------------------- together

SOFTMAX = """\
taut-ir 1
func @step<B>(%x: f32[B,4], %lr: f32[], %w: f32[1,4]) -> (f32[B,4], f32[1,4]) {
  %0: f32[B] = reduce_max %x {dims = [1]}            loc("net.py":3:5)
  %1: f32[B,1] = reshape %0                          loc("net.py":3:5)
  %top: f32[B,4] = broadcast %1 {dims = [0, 1]}      loc("net.py":3:5)
  %z: f32[B,4] = sub %x, %top                        loc("net.py":4:5)
  %2: f32[B,4] = full {value = 1.0}                  loc("net.py":5:5)
  %y: f32[B,4] = mul %2, %z                          loc("net.py":5:5)
  %3: f32[1,4] = broadcast %lr {dims = []}           loc("opt.py":7:5)
  %4: f32[1,4] = full {value = 2.0}                  loc("opt.py":8:5)
  %5: f32[1,4] = div %3, %4                          loc("opt.py":8:5)
  %g: f32[1,4] = neg %w                              loc(grad "net.py":5:5)
  %h: f32[1,4] = neg %g                              loc(grad "net.py":6:5)
  %6: f32[1,4] = mul %5, %h                          loc("opt.py":9:5)
  %w2: f32[1,4] = add %w, %6                         loc("opt.py":10:5)
  return %y, %w2 -> %w
}
"""

SIMPLER = """\
taut-ir 1
func @step<B>(%x: f32[B,4], %lr: f32[], %w: f32[1,4]) -> (f32[B,4], f32[1,4]) {
  %0: f32[B] = reduce_max %x {dims = [1]}      loc("net.py":3:5)
  %top: f32[B,4] = broadcast %0 {dims = [0]}   loc("net.py":3:5)
  %z: f32[B,4] = sub %x, %top                  loc("net.py":4:5, "net.py":5:5)
  %1: f32[] = full {value = 0.5}               loc("opt.py":8:5)
  %2: f32[] = mul %lr, %1                      loc("opt.py":8:5)
  %3: f32[1,4] = broadcast %2 {dims = []}      loc("opt.py":8:5)
  %4: f32[1,4] = mul %3, %w                    loc("opt.py":9:5)
  %w2: f32[1,4] = add %w, %4                   loc("opt.py":10:5)
  return %z, %w2 -> %w
}
"""


def test_names_and_lines_stay_with_what_they_name() -> None:
    assert print_graph(simplify.run(parse_graph(SOFTMAX))) == SIMPLER


def test_an_input_takes_no_name_from_what_it_replaces() -> None:
    graph = unary("%a: f32[] = neg %x", "%r: f32[] = neg %a")
    nameless = graph.replace(names={v: n for v, n in graph.names.items() if n != "x"})
    assert simplify.run(nameless).names == {}
    assert simplify.run(graph).names == {graph.inputs[0]: "x"}


def test_checks_that_cannot_fail_are_dropped() -> None:
    graph = parse_graph(
        """taut-ir 1
        func @f(%a: bool[], %b: bool[]) -> () {
          %true: bool[] = full {value = true}
          %false: bool[] = full {value = false}
          %same: bool[] = eq %a, %a
          check %true "true"
          check %a "a"
          check %false "false"
          check %b "b"
          check %a "a again"
          check %same "same"
          return
        }"""
    )
    kept = [check.message for check in run_passes(graph).checks]
    assert kept == ["a", "false", "b"]
    for inputs in ([True, True], [False, True]):
        messages = []
        for program in (graph, run_passes(graph)):
            with pytest.raises(CheckFailed) as caught:
                evaluate(program, [np.array(x) for x in inputs])
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_a_product_is_turned_round_where_only_its_transpose_is_read() -> None:
    source = """taut-ir 1
func @f(%x: f32[4,3], %y: f32[4,5]) -> (f32[5,3]) {
  %0: f32[3,4] = transpose %x {perm = [1, 0]}
  %1: f32[3,5] = matmul %0, %y
  %2: f32[5,3] = transpose %1 {perm = [1, 0]}
  return %2
}
"""
    turned = """taut-ir 1
func @f(%x: f32[4,3], %y: f32[4,5]) -> (f32[5,3]) {
  %0: f32[5,4] = transpose %y {perm = [1, 0]}
  %1: f32[5,3] = matmul %0, %x
  return %1
}
"""
    graph = parse_graph(source)
    assert print_graph(run_passes(graph)) == turned
    read_twice = graph.replace(outputs=(*graph.outputs, graph.outputs[0].node.operands[0]))
    read_twice = read_twice.replace(donations=(None, None))
    assert layout.run(read_twice) == read_twice
    also_computed_with = read_twice.replace(outputs=(graph.outputs[0], neg(read_twice.outputs[1])))
    assert layout.run(also_computed_with) == also_computed_with


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_product_that_was_turned_round_is_the_same(size: int) -> None:
    source = f"""taut-ir 1
func @f(%x: f32[2,{size},3], %y: f32[2,3,3]) -> (f32[2,3,{size}]) {{
  %0: f32[2,{size},3] = matmul %x, %y
  %1: f32[2,3,{size}] = transpose %0 {{perm = [0, 2, 1]}}
  return %1
}}
"""
    graph = parse_graph(source)
    turned = verify(layout.run(graph))
    assert turned.outputs[0].node.prim.name == "matmul"
    # Small integers: the sums are exact, in whichever order NumPy takes them.
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-9, 9, v.aval.shape).astype(np.float32) for v in graph.inputs]
    assert_same_bits(evaluate(turned, inputs), evaluate(graph, inputs))


def test_every_pass_is_tried_on_random_graphs() -> None:
    """Layout adds up products in another order; bits are compared where that is one, below."""
    assert {*EVERY, "layout"} == {p.name for p in (*PASSES, *PARTS)}


@pytest.mark.parametrize("name", EVERY)
@given(seed=SEEDS, symbolic=st.booleans())
def test_random_graphs_mean_the_same(name: str, seed: int, symbolic: bool) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, symbolic=symbolic)
    result = verify(EVERY[name](graph))
    assert EVERY[name](result) == result
    assert [v.aval for v in result.outputs] == [v.aval for v in graph.outputs]
    assert (result.inputs, result.donations) == (graph.inputs, graph.donations)
    for size in (1, 4):
        inputs = random_inputs(rng, graph, {"B": size})
        expected = evaluate_contiguous(graph, inputs)
        assert_same_bits(evaluate_contiguous(result, inputs), expected)


# ---------------------------------------------------------------- the engine


def unary(*lines: str) -> Graph:
    """A function from %x to %r, both f32[]."""
    body = "\n".join(lines)
    return parse_graph(f"taut-ir 1\nfunc @f(%x: f32[]) -> (f32[]) {{\n{body}\nreturn %r\n}}")


def swap_sines(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    """sin x -> exp(-x), to see what becomes of names and lines."""
    return (exp(neg(operands[0])),) if node.prim is sin else None


def test_rebuild_gives_new_nodes_the_lines_of_the_old() -> None:
    graph = unary('%a: f32[] = sin %x loc("a.py":1:1)', "%r: f32[] = add %a, %a")
    assert (
        print_graph(rebuild(graph, swap_sines))
        == """\
taut-ir 1
func @f(%x: f32[]) -> (f32[]) {
  %0: f32[] = neg %x   loc("a.py":1:1)
  %a: f32[] = exp %0   loc("a.py":1:1)
  %r: f32[] = add %a, %a
  return %r
}
"""
    )


def test_rebuild_that_changes_nothing_gives_an_equal_graph() -> None:
    graph = random_graph(np.random.default_rng(5))
    assert rebuild(graph, lambda node, operands: None) == graph


@pytest.fixture
def scratch() -> Iterator[Primitive]:
    """A primitive of this test's own, with regions."""

    def type_rule(x: Aval, *, body: Graph, more: tuple[Graph, ...]) -> Aval:
        return x

    made = Primitive("scratch", type_rule, lambda x, **_: x, no_gradient, None, "for this test")
    primitive.register(made)
    yield made
    del primitive._registry["scratch"]


@pytest.mark.usefixtures("scratch")
def test_passes_go_into_regions() -> None:
    negations = '%a: f32[] = neg %y  %b: f32[] = neg %a loc("a.py":1:1)'
    twice = f"func @g(%y: f32[]) -> (f32[]) {{ {negations} return %b }}"
    graph = unary(f"%r: f32[] = scratch %x {{body = {twice}, more = [{twice}]}}")
    result = simplify.run(graph)
    node = result.nodes[0]
    inner = node.params["body"]
    assert node.params["more"] == (inner,)
    assert (inner.outputs, inner.names) == (inner.inputs, {inner.inputs[0]: "y"})


def test_a_rule_that_changes_a_type_is_refused() -> None:
    rules = Rules()

    @rules.on(exp)
    def pair(node: Node) -> Value:
        """exp x -> (x, x)"""
        return broadcast(node.operands[0], dims=(), shape=(2,))

    graph = unary("%r: f32[] = exp %x")
    message = "rule 'exp x -> (x, x)' of exp gave f32[2] in place of f32[]"
    with pytest.raises(IRError, match=re.escape(message)):
        rewrite(graph, rules)


def test_what_a_rule_makes_is_rewritten_too() -> None:
    rules = Rules()

    @rules.on(mul)
    def doubled(node: Node) -> Value | None:
        """x * x -> sin(-(-x)) + x"""
        x, y = node.operands
        return add(sin(neg(neg(x))), x) if x is y else None

    graph = unary("%a: f32[] = mul %x, %x", "%r: f32[] = mul %a, %a")
    result = rewrite(graph, Rules(rules, algebra.RULES))
    assert [node.prim.name for node in result.nodes] == ["sin", "add", "sin", "add"]


# ---------------------------------------------------------------- the pipeline


def test_the_list_of_passes_reads_well() -> None:
    assert [p.name for p in PASSES] == ["layout", "simplify", "checks"]
    for entry in PASSES:
        assert entry.run.__module__ == f"taut.compiler.passes.{entry.name}"
        assert 20 < len(entry.why) < 100


def test_passes_run_in_order_up_to_the_one_that_is_named() -> None:
    graph = parse_graph(SOFTMAX)
    seen: list[tuple[str, Graph]] = []
    result = run_passes(graph, check=True, observe=lambda name, g: seen.append((name, g)))
    assert [name for name, _ in seen] == [p.name for p in PASSES]
    assert seen[-1][1] == result
    assert run_passes(graph, until="simplify") == seen[1][1]


def test_an_unknown_pass_is_refused() -> None:
    message = (
        "no pass is called 'simplfy'; did you mean 'simplify'?; the passes are "
        "layout, simplify, checks"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        run_passes(parse_graph(SOFTMAX), until="simplfy")  # codespell:ignore simplfy


def test_a_broken_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_donations(graph: Graph) -> Graph:
        return graph.replace(donations=(7, None))

    broken = (*PASSES, Pass("break", break_donations, "for this test"))
    monkeypatch.setattr(pipeline, "PASSES", broken)
    graph = parse_graph(SOFTMAX)
    with pytest.raises(IRError, match="after the pass break: step: donation of input 7"):
        run_passes(graph, check=True)
    with pytest.raises(IRError, match="before the first pass: step: donation of input 7"):
        run_passes(break_donations(graph), check=True)
