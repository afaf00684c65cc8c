"""`taut.compiler` and `taut.runtime` as a library: graphs without any tensor or tracer."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import taut
from taut import compiler, runtime
from taut.compiler import (
    Aval,
    Graph,
    GraphBuilder,
    IRError,
    Value,
    canonical_text,
    difference,
    evaluate_graph,
    find_pass,
    gradient_graph,
    ops,
    parse_graph,
    print_graph,
    run_passes,
    schedule_graph,
    verify_graph,
)
from taut.compiler.aval import parse_aval
from taut.compiler.dtypes import f32
from taut.compiler.pipeline import PARTS, PASSES
from taut.frontend.testing import random_graph
from taut.runtime import compile_graph, host_target

LAYER = """\
taut-ir 1
func @layer<B>(%x: f32[B,8], %w: f32[8,16]) -> (f32[], f32[8,16]) {
  %z: f32[B,16] = matmul %x, %w
  %t: f32[B,16] = tanh %z
  %0: f32[] = reduce_sum %t {dims = [0, 1]}
  %c: bool[] = lt %0, %0
  %1: bool[] = not %c
  check %1 "a sum is less than itself"
  %2: f32[8,16] = add %w, %w
  return %0, %2 -> %w
}
"""


def layer() -> Graph:
    build = GraphBuilder("layer")
    x = build.input("x", "f32[B,8]")
    w = build.input("w", Aval(f32, (8, 16)))
    t = build.name("t", ops.tanh(build.name("z", ops.matmul(x, w))))
    total = ops.reduce_sum(t, dims=(0, 1))
    build.check(ops.not_(build.name("c", ops.lt(total, total))), "a sum is less than itself")
    doubled = ops.add(w, w)
    return build.returns(total, doubled, replaces={doubled: w})


# --- building -----------------------------------------------------------------------------------


def test_a_graph_built_by_hand_is_the_graph_of_its_text() -> None:
    assert print_graph(layer()) == LAYER
    assert parse_graph(LAYER) == layer()


def test_a_builder_verifies_what_it_returns() -> None:
    build = GraphBuilder("f")
    x = build.input("x", "f32[4]")
    stranger = ops.exp(GraphBuilder("g").input("y", "f32[5]"))
    with pytest.raises(IRError, match="which is no input"):
        build.returns(stranger)
    with pytest.raises(IRError, match="cannot replace input 0"):
        build.returns(ops.lt(x, x), replaces={ops.lt(x, x): x})


def test_two_values_cannot_have_one_name() -> None:
    build = GraphBuilder("f")
    x = build.input("x", "f32[]")
    assert build.name("x", x) is x
    with pytest.raises(IRError, match="f: another value is called 'x'"):
        build.input("x", "f32[]")
    with pytest.raises(IRError, match="f: another value is called 'x'"):
        build.name("x", ops.exp(x))


@pytest.mark.parametrize("text", ["f32", "f32[", "f23[4]", "f32[4]]", "f32[4,]", "[4]", "f32[4;5]"])
def test_a_type_is_read_whole_or_not_at_all(text: str) -> None:
    with pytest.raises(IRError, match="not a type: "):
        parse_aval(text)


def test_primitives_are_found_by_name() -> None:
    assert set(dir(ops)) >= {"matmul", "and", "reduce_sum"}
    assert ops.and_ is getattr(ops, "and")
    with pytest.raises(AttributeError, match="called 'matmull'; did you mean 'matmul'"):
        _ = ops.matmull
    with pytest.raises(IRError, match="matmul: "):
        ops.matmul(layer().inputs[0], layer().inputs[0])


# --- the whole way ------------------------------------------------------------------------------


def test_a_graph_goes_the_whole_way_without_a_tracer() -> None:
    graph = gradient_graph(layer(), ["w"])
    assert verify_graph(graph) is graph
    optimised = run_passes(graph, check=True)
    scheduled = schedule_graph(optimised, host_target())
    assert any("tanh" in kernel.name for kernel in scheduled.program.kernels)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((5, 8), (8, 16))]
    for got, expected in zip(
        compile_graph(graph)(arrays), evaluate_graph(graph, arrays), strict=True
    ):
        # Sums of 80 products of numbers around 1, in another order.
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_a_gradient_is_the_derivative() -> None:
    build = GraphBuilder("f")
    x, y, unused = (build.input(name, "f64[3]") for name in ("x", "y", "unused"))
    loss = ops.reduce_sum(ops.mul(ops.sin(x), y), dims=(0,))
    graph = gradient_graph(build.returns(loss), [x, "y", unused])
    a, b = np.array([0.1, 0.2, 0.3]), np.array([2.0, 3.0, 4.0])
    got = evaluate_graph(graph, [a, b, a])
    # One rounding or two of numbers below 4.
    for value, expected in zip(got[1:], (np.cos(a) * b, np.sin(a), 0 * a), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-15)
    assert set(graph.names.values()) == {"x", "y", "unused", "grad_x", "grad_y", "grad_unused"}


def test_derived_nodes_know_their_lines() -> None:
    text = LAYER.replace("tanh %z", 'tanh %z loc("a.py":3:1)')
    graph = gradient_graph(parse_graph(text), ["w"])
    derived = [node for node in graph.nodes if node not in parse_graph(text).nodes]
    marked = {str(loc) for node in derived for loc in graph.locs.get(node, ())}
    assert marked == {'grad "a.py":3:1'}


@pytest.mark.parametrize(
    ("wrt", "message"),
    [("v", "layer has no value called 'v'"), ("c", "is not floating, so it has no gradient")],
)
def test_what_cannot_be_differentiated_is_refused(wrt: str, message: str) -> None:
    with pytest.raises(IRError, match=message):
        gradient_graph(layer(), [wrt])


def test_a_gradient_is_that_of_a_scalar() -> None:
    graph = layer().replace(outputs=layer().outputs[1:], donations=(None,))
    with pytest.raises(IRError, match=r"of a floating scalar, not of f32\[8,16\]"):
        gradient_graph(graph, ["w"])
    with pytest.raises(IRError, match="not of nothing"):
        gradient_graph(graph.replace(outputs=(), donations=()), ["w"])


def test_passes_are_chosen_by_name() -> None:
    doubled = "func @f(%x: f32[4]) -> (f32[4]) {\n  %1: f32[4] = full {value = 1.0}\n"
    graph = parse_graph(f"taut-ir 1\n{doubled}  %y: f32[4] = mul %x, %1\n  return %y\n}}\n")
    assert run_passes(graph, [find_pass("casts")]) == graph
    assert run_passes(graph, [find_pass("algebra")]).nodes == ()
    assert run_passes(graph, []) == graph
    with pytest.raises(ValueError, match="no pass is called 'algebr'; did you mean 'algebra'"):
        find_pass("algebr")
    names = [p.name for p in (*PASSES, *PARTS)]
    assert len(names) == len(set(names))


# --- differences --------------------------------------------------------------------------------


def test_graphs_that_differ_in_names_alone_have_no_difference() -> None:
    other = LAYER.replace("%z", "%q").replace("@layer", "@other").replace("%x", "%0x")
    other = other.replace("%0x", '%"a b"').replace("tanh %q", 'tanh %q loc("a.py":3:1)')
    assert difference(layer(), parse_graph(other)) == ""


def test_one_change_is_one_line() -> None:
    found = difference(layer(), parse_graph(LAYER.replace("tanh", "exp")), ("left", "right"))
    lines = found.splitlines()
    assert lines[:2] == ["--- left", "+++ right"]
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        "-  %t: f32[B,16] = tanh %z",
        "+  %t: f32[B,16] = exp %z",
    ]


def test_an_addition_is_one_line_and_its_use() -> None:
    other = LAYER.replace(
        "  %t: f32[B,16] = tanh %z\n", "  %u: f32[B,16] = exp %z\n  %t: f32[B,16] = tanh %u\n"
    )
    changed = [x for x in difference(layer(), parse_graph(other)).splitlines() if x[0] in "+-"][2:]
    assert changed == [
        "-  %t: f32[B,16] = tanh %z",
        "+  %u: f32[B,16] = exp %z",
        "+  %t: f32[B,16] = tanh %u",
    ]


def test_checks_messages_and_donations_are_part_of_the_program() -> None:
    for old, new in (("itself", "another"), (" -> %w", ""), ("f32[B,", "f32[C,")):
        text = LAYER.replace(old, new).replace("<B>", "<C>" if new == "f32[C," else "<B>")
        assert difference(layer(), parse_graph(text))


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_differ_exactly_if_their_canonical_texts_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, symbolic=seed % 2 == 0)
    bare = parse_graph(canonical_text(graph))
    assert difference(graph, bare) == ""
    other = random_graph(rng, symbolic=seed % 2 == 0)
    found = difference(graph, other)
    assert bool(found) is (canonical_text(graph) != canonical_text(other))


# --- the surface --------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [compiler, runtime], ids=["compiler", "runtime"])
def test_public_names_are_there(module: object) -> None:
    names = compiler.public.__all__ if module is compiler else list(runtime._HOMES)
    for name in names:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nix'"):
        module.nix  # type: ignore[attr-defined]  # noqa: B018


def test_who_imports_taut_pays_for_no_pass() -> None:
    program = (
        "import sys, taut; from taut.compiler import VERSION;"
        "heavy = {'taut.compiler.pipeline', 'taut.compiler.schedule', 'llvmlite'};"
        "loaded = heavy & {*sys.modules};"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert isinstance(taut.compiler.GraphBuilder("f").input("x", "f32[]"), Value)
