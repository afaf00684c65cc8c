"""IR text: what is printed, that it reads back equal, what is refused and where, and the hash."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taut.compiler import dtypes, primitive
from taut.compiler.aval import Aval, symbol
from taut.compiler.errors import IRError, ParseError
from taut.compiler.ir import Check, Graph, Loc, Value
from taut.compiler.primitive import Primitive, all_primitives, no_gradient
from taut.compiler.primitives.create import full, graph_input
from taut.compiler.primitives.elementwise import add, lt, maximum, mul, neg, not_
from taut.compiler.primitives.linalg import matmul
from taut.compiler.primitives.movement import broadcast
from taut.compiler.primitives.random import STATE, uniform
from taut.compiler.primitives.reduce import reduce_sum
from taut.compiler.text import canonical_text, graph_hash, parse_graph, print_graph
from taut.compiler.verify import verify
from taut.frontend.testing import random_graph

B = symbol("B")
SEEDS = st.integers(0, 2**32 - 1)


def f32(*shape: Any) -> Aval:
    return Aval(dtypes.f32, shape)


def layer() -> Graph:
    """The example of the design: a layer with its bias, for every batch size."""
    x, w, b = graph_input(0, f32(B, 8)), graph_input(1, f32(8, 16)), graph_input(2, f32(16))
    z = matmul(x, w)
    wide = broadcast(b, dims=(1,), shape=(B, 16))
    h = add(z, wide)
    names = {x: "x", w: "w1", b: "b1", z: "z", wide: "b2", h: "h"}
    locs = {v.node: (Loc("mlp.py", 12, 9),) for v in (z, wide, h)}
    return Graph("step", (x, w, b), (h,), names=names, locs=locs)


LAYER = """\
taut-ir 1
func @step<B>(%x: f32[B,8], %w1: f32[8,16], %b1: f32[16]) -> (f32[B,16]) {
  %z: f32[B,16] = matmul %x, %w1                loc("mlp.py":12:9)
  %b2: f32[B,16] = broadcast %b1 {dims = [1]}   loc("mlp.py":12:9)
  %h: f32[B,16] = add %z, %b2                   loc("mlp.py":12:9)
  return %h
}
"""


def round_trip(graph: Graph) -> str:
    text = print_graph(graph)
    again = parse_graph(text)
    assert again == graph
    assert print_graph(again) == text
    return text


# ---------------------------------------------------------------- printing


def test_example_of_the_design() -> None:
    assert round_trip(layer()) == LAYER
    assert str(layer()) == LAYER


def test_one_long_line_does_not_push_locations_out_of_sight() -> None:
    graph = layer()
    long = graph.replace(names={graph.outputs[0]: "h" * 90})
    first, _, last = print_graph(long).splitlines()[2:5]
    assert first.index("loc(") == 2 + 80 + 3
    assert last.endswith('add %3, %4   loc("mlp.py":12:9)')


def test_names_locations_checks_and_donations() -> None:
    x, w, state = graph_input(0, f32()), graph_input(1, f32(2)), graph_input(2, STATE)
    small = lt(x, full(value=float("inf"), dtype=dtypes.f32, shape=()))
    noise, after = uniform.bind(state, dtype=dtypes.f32, shape=(2,))
    total = add(w, noise)
    graph = Graph(
        "<lambda>",
        (x, w, state),
        (total, small, after),
        (1, None, 2),
        (Check(small, 'not "finite"', Loc("a.py", 1, 2, grad=True)), Check(small, "again\n")),
        {x: "x", w: "layers.0.weight", noise: "a b", after: "0", total: "α"},
        {
            total.node: (Loc("b.py", 3, 4, grad=True), Loc("a.py", 1, 2), Loc("a.py", 1, 2)),
            noise.node: (Loc("a.py", 7, 1),),
        },
    )
    assert (
        round_trip(graph)
        == """\
taut-ir 1
func @"<lambda>"(%x: f32[], %layers.0.weight: f32[2], %0: u32[630]) -> (f32[2], bool[], u32[630]) {
  %1: f32[] = full {value = inf}
  %2: bool[] = lt %x, %1
  check %2 "not \\"finite\\""                     loc(grad "a.py":1:2)
  check %2 "again\\n"
  %"a b": f32[2], %"0": u32[630] = uniform %0   loc("a.py":7:1)
  %α: f32[2] = add %layers.0.weight, %"a b"     loc("a.py":1:2, grad "b.py":3:4)
  return %α -> %layers.0.weight, %2, %"0" -> %0
}
"""
    )


def test_checks_keep_their_order() -> None:
    x = graph_input(0, f32())
    small = lt(x, x)
    large = not_(small)
    graph = Graph("f", (x,), (), (), (Check(large, "first"), Check(small, "second")))
    assert round_trip(graph).splitlines()[2:] == [
        "  %1: bool[] = lt %0, %0",
        "  %2: bool[] = not %1",
        '  check %2 "first"',
        '  check %1 "second"',
        "  return",
        "}",
    ]


def test_sizes_steps_and_weak_types() -> None:
    text = """\
taut-ir 1
func <B, S>(%0: f32[B,S*2], %1: ~f64[]) -> (f32[(B+1)//2,S*2-1], ~f64[]) {
  %2: f32[(B+1)//2,S*2-1] = slice %0 {start = [0, 1], step = [2, 1], stop = [B, S*2]}
  %3: ~f64[] = neg %1
  return %2, %3
}
"""
    text = text.replace("func <", "func<")
    assert round_trip(parse_graph(text)) == text


def test_long_lists_go_one_item_a_line() -> None:
    inputs = tuple(graph_input(i, f32(128, 128)) for i in range(9))
    graph = Graph("f", inputs, tuple(map(neg, inputs)), tuple(range(9)))
    lines = round_trip(graph).splitlines()
    assert lines[1:4] == ["func @f(", "    %0: f32[128,128],", "    %1: f32[128,128],"]
    assert lines[10:13] == ["    %8: f32[128,128]", ") -> (", "    f32[128,128],"]
    assert lines[20:23] == ["    f32[128,128]", ") {", "  %9: f32[128,128] = neg %0"]
    assert lines[31:34] == ["  return", "      %9 -> %0,", "      %10 -> %1,"]
    assert lines[40:] == ["      %17 -> %8", "}"]


def test_a_graph_without_inputs_and_outputs() -> None:
    assert round_trip(Graph("", (), ())) == "taut-ir 1\nfunc() -> () {\n  return\n}\n"


def test_an_ill_formed_graph_still_prints() -> None:
    stray = neg(graph_input(3, f32()))
    assert "neg %?" in print_graph(Graph("f", (), (stray,)))
    x = graph_input(0, f32())
    y = neg(x)
    assert "%x.2: f32[] = neg %x" in print_graph(Graph("f", (x,), (y,), names={x: "x", y: "x"}))


def test_equal_graphs_print_alike_whatever_the_order_of_their_locations() -> None:
    graph = layer()
    node = graph.nodes[0]
    one, two = Loc("a.py", 1, 1), Loc("b.py", 1, 1)
    first, second = graph.replace(locs={node: (one, two)}), graph.replace(locs={node: (two, one)})
    assert first == second
    assert print_graph(first) == print_graph(second)


# ---------------------------------------------------------------- literals and regions


@pytest.fixture
def scratch() -> Iterator[Primitive]:
    """A primitive of this test's own that takes any parameter, a region too."""

    def type_rule(x: Aval, *, value: Any, other: Any = None) -> Aval:
        return x

    made = Primitive("scratch", type_rule, lambda x, **_: x, no_gradient, None, "for this test")
    primitive.register(made)
    yield made
    del primitive._registry["scratch"]


LITERALS = {
    "true": True,
    "none": None,
    "-7": -7,
    "1.0": 1.0,
    "-0.0": -0.0,
    "1e-45": 1e-45,
    "1e+16": 1e16,
    "0.1": 0.1,
    "0.12345678901234568": 0.12345678901234568,
    "2.5e-07": 2.5e-7,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
    '"a\\n\\"b\\"\\\\ é"': 'a\n"b"\\ é',
    "[]": (),
    "[1, [2.5, false], f32]": (1, (2.5, False), dtypes.f32),
    "B*B*3-1": B * B * 3 - 1,
    "[((B+1)//2)*B, -B]": (((B + 1) // 2) * B, -B),
}


@pytest.mark.parametrize("text", LITERALS)
def test_literals(scratch: Primitive, text: str) -> None:
    x = graph_input(0, f32(B))
    graph = Graph("f", (x,), (scratch(x, value=LITERALS[text], other=0),))
    assert f"{{other = 0, value = {text}}}" in round_trip(graph)


def test_a_float_of_numpy_prints_as_a_number(scratch: Primitive) -> None:
    x = graph_input(0, f32())
    graph = Graph("f", (x,), (scratch(x, value=np.float64(0.25)),))
    assert "{value = 0.25}" in print_graph(graph)


def test_a_parameter_that_text_cannot_hold_is_refused(scratch: Primitive) -> None:
    x = graph_input(0, f32())
    graph = Graph("f", (x,), (scratch(x, value=1j),))
    with pytest.raises(IRError, match="a parameter of type complex has no text form: 1j"):
        print_graph(graph)


def test_regions(scratch: Primitive) -> None:
    x, y = graph_input(0, f32(B)), graph_input(0, f32())
    body = Graph("body", (y,), (neg(y),), names={y: "y"}, locs={neg(y).node: (Loc("a.py", 1, 1),)})
    empty = Graph("", (), ())
    inner = scratch(x, value=body, other=(empty, empty))
    graph = Graph("f", (x,), (neg(inner),), locs={inner.node: (Loc("a.py", 2, 2),)})
    assert (
        round_trip(graph)
        == """\
taut-ir 1
func @f<B>(%0: f32[B]) -> (f32[B]) {
  %1: f32[B] = scratch %0 {other = [func() -> () {
      return
    }, func() -> () {
      return
    }], value = func @body(%y: f32[]) -> (f32[]) {
      %0: f32[] = neg %y   loc("a.py":1:1)
      return %0
    }}   loc("a.py":2:2)
  %2: f32[B] = neg %1
  return %2
}
"""
    )
    assert graph_hash(graph) == graph_hash(parse_graph(canonical_text(graph)))
    assert "body" not in canonical_text(graph)


# ---------------------------------------------------------------- round trips


@given(SEEDS, st.booleans())
def test_random_graphs_round_trip(seed: int, symbolic: bool) -> None:
    graph = random_graph(np.random.default_rng(seed), symbolic=symbolic)
    verify(graph)
    round_trip(graph)
    assert graph_hash(parse_graph(canonical_text(graph))) == graph_hash(graph)


def test_random_graphs_hold_every_primitive() -> None:
    rng = np.random.default_rng(0)
    for known in all_primitives():
        if known.name != "input":
            graph = random_graph(rng, 1, primitives=[known.name])
            assert known in {node.prim for node in graph.nodes}


def test_space_comments_and_unused_values_mean_nothing() -> None:
    dense = LAYER.replace("  %z", "  %unused: f32[B,16] = matmul %x, %w1 // dropped\n%z", 1)
    spaced = re.sub(r"([,(){}=:])", r" // comment\n \1 ", dense).replace("- >", "->")
    graph = parse_graph(spaced)
    assert canonical_text(graph) == canonical_text(layer())


def test_equal_nodes_are_one_with_the_first_name_and_both_lines() -> None:
    graph = parse_graph(
        """taut-ir 1
        func @f(%x: f32[]) -> (f32[]) {
          %a: f32[] = neg %x loc("a.py":1:1)
          %b: f32[] = neg %x loc("a.py":2:1)
          %c: f32[] = mul %a, %b
          return %c
        }"""
    )
    assert print_graph(graph).splitlines()[2:4] == [
        '  %a: f32[] = neg %x   loc("a.py":1:1, "a.py":2:1)',
        "  %c: f32[] = mul %a, %a",
    ]


# ---------------------------------------------------------------- errors

HEAD = "taut-ir 1\nfunc @f<B>(%x: f32[B,4], %y: f32[4,2], %k: i64[3]) -> (f32[B,2]) {\n"
GOOD = HEAD + "  %z: f32[B,2] = matmul %x, %y\n  return %z\n}\n"


def with_line(line: str) -> str:
    """The good text with a line in front of its return."""
    return GOOD.replace("  return", f"  {line}\n  return")


WRONG: dict[str, tuple[str, int, int, str]] = {
    "no version": ("func @f() -> () { return }", 1, 1, "expected 'taut-ir', found func"),
    "future version": (
        GOOD.replace("ir 1", "ir 2"),
        1,
        9,
        "version 2 of the text form is not known, only 1 is",
    ),
    "empty": ("", 1, 1, "expected 'taut-ir', found the end of the text"),
    "unknown primitive": (
        with_line("%a: f32[B,2] = matmull %x, %y"),
        4,
        18,
        "unknown primitive 'matmull'; did you mean 'matmul'?",
    ),
    "input in the body": (
        with_line("%a: f32[] = input {position = 0}"),
        4,
        15,
        "inputs stand in the function's first line",
    ),
    "undefined value": (
        with_line("%a: f32[B,2] = add %z, %w"),
        4,
        26,
        "%w is not defined",
    ),
    "undefined value, nearly": (
        GOOD.replace("%x: f32", "%input: f32").replace("matmul %x", "matmul %inputs"),
        3,
        25,
        "%inputs is not defined; did you mean '%input'?",
    ),
    "defined twice": (
        with_line("%x: f32[B,2] = neg %z"),
        4,
        3,
        "%x is defined already, in line 2",
    ),
    "type rule": (
        with_line("%a: f32[B,2] = matmul %y, %x"),
        4,
        18,
        "matmul: f32[4,2] and f32[B,4] cannot be multiplied",
    ),
    "number of operands": (
        with_line("%a: f32[B,2] = add %z"),
        4,
        18,
        "add: expected 2 operands, got 1",
    ),
    "another type": (
        with_line("%a: f32[B,4] = neg %z"),
        4,
        7,
        "%a is declared f32[B,4], but neg gives f32[B,2]",
    ),
    "another dtype": (
        with_line("%a: f64[B,2] = neg %z"),
        4,
        7,
        "%a is declared f64[B,2], but neg gives f32[B,2]",
    ),
    "not weak": (
        with_line("%a: ~f32[] = full {value = 1.0}"),
        4,
        7,
        "%a is declared ~f32[], but full gives f32[]",
    ),
    "number of results": (
        with_line("%a: f32[B,2], %b: f32[B,2] = neg %z"),
        4,
        3,
        "wrong number of results: names for 2, but neg has 1",
    ),
    "shape of a broadcast": (
        with_line("%a: f32[3,5] = broadcast %y {dims = [0, 1]}"),
        4,
        18,
        "broadcast: f32[4,2] does not broadcast to [3,5] along dims [0, 1]",
    ),
    "unknown dtype": (
        with_line("%a: f23[] = full {value = 1.0}"),
        4,
        7,
        "unknown dtype 'f23'; did you mean 'f32'?",
    ),
    "unknown size": (
        with_line("%a: f32[N] = full {value = 1.0}"),
        4,
        11,
        "the size 'N' is not declared",
    ),
    "negative size": (
        with_line("%a: f32[2,-3] = full {value = 1.0}"),
        4,
        13,
        "a size cannot be negative, got -3",
    ),
    "division by zero": (
        with_line("%a: f32[B//0] = full {value = 1.0}"),
        4,
        14,
        "a size cannot be divided by 0",
    ),
    "unbound size": (
        GOOD.replace("<B>", "<B, N>"),
        2,
        12,
        "no input has the size 'N'",
    ),
    "size declared twice": (
        GOOD.replace("<B>", "<B, B>"),
        2,
        12,
        "the size 'B' is declared twice",
    ),
    "size with the name of a dtype": (
        GOOD.replace("<B>", "<f32>"),
        2,
        9,
        "a size cannot be called 'f32'",
    ),
    "unknown attribute": (
        with_line("%a: f32[2] = reduce_sum %z {dim = [0]}"),
        4,
        31,
        "reduce_sum has no attribute 'dim'; did you mean 'dims'?",
    ),
    "implied attribute": (
        with_line("%a: f64[B,2] = cast %z {dtype = f64}"),
        4,
        27,
        "the type before '=' implies 'dtype' of cast",
    ),
    "missing attribute": (
        with_line("%a: f32[2] = reduce_sum %z"),
        4,
        16,
        "reduce_sum needs the attribute 'dims'",
    ),
    "attribute given twice": (
        with_line("%a: f32[2] = reduce_sum %z {dims = [0], dims = [0]}"),
        4,
        43,
        "the attribute 'dims' is given twice",
    ),
    "unknown word": (
        with_line("%a: bool[] = full {value = tru}"),  # codespell:ignore tru
        4,
        30,
        "unknown word 'tru'; did you mean 'true'?",
    ),
    "no value": (
        with_line("%a: f32[] = full {value = }"),
        4,
        29,
        "expected a value, found }",
    ),
    "no colon": (
        with_line("%a f32[] = full {value = 1.0}"),
        4,
        6,
        "expected ':', found f32",
    ),
    "no comma": (
        with_line("%a: f32[] = full {value = [1 2]}"),
        4,
        32,
        "expected ',' or ']', found 2",
    ),
    "no statement": (with_line("neg %z"), 4, 3, "expected a statement or 'return', found neg"),
    "no end": (GOOD[:-2], 5, 1, "expected ',', found the end of the text"),
    "text after the end": (GOOD + "x", 6, 1, "expected the end of the text, found x"),
    "stray character": (with_line("%a: f32[] = $"), 4, 15, "unexpected character '$'"),
    "open string": (with_line('check %z "a'), 4, 12, "this string has no closing quote"),
    "check of floats": (
        with_line('check %z "small"'),
        4,
        9,
        "a check needs a bool[], %z is f32[B,2]",
    ),
    "location of a check": (
        with_line('%c: bool[] = full {value = true} check %c "c" loc("a":1:1, "b":2:2)'),
        4,
        49,
        "a check has one location",
    ),
    "column": (
        with_line('%a: f32[B,2] = neg %z loc("a.py":1)'),
        4,
        37,
        "expected ':', found )",
    ),
    "results declared": (
        GOOD.replace("(f32[B,2])", "(f32[B,2], f32[])"),
        4,
        3,
        "2 results are declared, 1 returned",
    ),
    "type of a result": (
        GOOD.replace("(f32[B,2])", "(f32[2,B])"),
        2,
        56,
        "this result is declared f32[2,B], but f32[B,2] is returned",
    ),
    "donation of no input": (
        GOOD.replace("return %z", "return %z -> %z"),
        4,
        16,
        "%z is no input, so %z cannot replace it",
    ),
    "donation of another type": (
        GOOD.replace("return %z", "return %z -> %y"),
        4,
        16,
        "%z of type f32[B,2] cannot replace %y of type f32[4,2]",
    ),
    "donated twice": (
        GOOD.replace("(f32[B,2]) {", "(f32[4,2], f32[4,2]) {").replace(
            "return %z", "return %y -> %y, %y -> %y"
        ),
        4,
        26,
        "%y is replaced already",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_texts_are_refused_at_their_place(case: str) -> None:
    text, line, column, message = WRONG[case]
    with pytest.raises(ParseError) as caught:
        parse_graph(text, "f.ir")
    error = caught.value
    assert (error.line, error.column, error.message) == (line, column, message)
    assert str(error) == f"f.ir:{line}:{column}: {message}"


def test_the_good_text_is_good() -> None:
    assert print_graph(parse_graph(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('taut-ir 1 func @"\\q"() -> () { return }', '"\\q" is not a string as JSON writes one'),
        (f"taut-ir {'9' * 5000}", "this number is too long"),
        (with_line(f"%a: f32[{'(' * 9999}B] = neg %z"), "nested too deeply"),
    ],
)
def test_odd_texts_are_refused_too(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=re.escape(message)):
        parse_graph(text)


@given(SEEDS)
def test_mangled_text_is_refused_or_well_formed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = print_graph(random_graph(rng, 5, symbolic=bool(seed % 2)))
    tokens = re.findall(r'\s+|%"[^"]*"|"[^"]*"|[%@]?\w+|\S', text)
    here, there = (int(i) for i in rng.integers(0, len(tokens), 2))
    tokens[here] = ("", tokens[there], tokens[there] + tokens[here])[int(rng.integers(3))]
    try:
        graph = parse_graph("".join(tokens))
    except ParseError:
        return
    round_trip(verify(graph))


# ---------------------------------------------------------------- hash


def test_the_hash_knows_no_names_and_no_lines() -> None:
    graph = layer()
    bare = Graph("other", graph.inputs, graph.outputs)
    assert graph != bare
    assert canonical_text(graph) == canonical_text(bare) == print_graph(bare.replace(name=""))
    assert graph_hash(graph) == graph_hash(bare)


def test_the_hash_knows_all_else() -> None:
    x, y = graph_input(0, f32(2)), graph_input(1, f32(2))
    condition: Value = full(value=True, dtype=dtypes.boolean, shape=())
    base = Graph("f", (x, y), (add(x, y),))
    others = [
        base.replace(outputs=(mul(x, y),)),
        base.replace(outputs=(add(y, x),)),
        base.replace(donations=(1,)),
        base.replace(checks=(Check(condition, "a"),)),
        base.replace(checks=(Check(condition, "b"),)),
        Graph("f", (x, y), (maximum(x, full(value=0.0, dtype=dtypes.f32, shape=(2,))),)),
        Graph("f", (x, y), (maximum(x, full(value=-0.0, dtype=dtypes.f32, shape=(2,))),)),
        Graph("f", (x, y), (reduce_sum(x, dims=(0,)),)),
    ]
    hashes = {graph_hash(graph) for graph in (base, *others)}
    assert len(hashes) == len(others) + 1
    moved = base.replace(checks=(Check(condition, "a", Loc("a.py", 1, 1)),))
    assert graph_hash(moved) == graph_hash(others[3])


def test_the_hash_is_the_same_in_every_process() -> None:
    program = (
        "import numpy as np\n"
        "from taut.compiler.text import graph_hash\n"
        "from taut.frontend.testing import random_graph\n"
        "rng = np.random.default_rng(7)\n"
        "print([graph_hash(random_graph(rng, symbolic=i % 2 == 1)) for i in range(6)])\n"
    )
    command = [sys.executable, "-c", program]
    printed = {
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    rng = np.random.default_rng(7)
    here = [graph_hash(random_graph(rng, symbolic=i % 2 == 1)) for i in range(6)]
    assert printed == {f"{here}\n"}
