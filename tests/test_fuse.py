"""Fusion: how many kernels known programs take, and why the rest of their edges stay cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import dedent

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taut.compiler import dtypes
from taut.compiler.autodiff import cotangents
from taut.compiler.aval import Aval, Dim, size_of, symbol
from taut.compiler.ir import Graph, Node, Value
from taut.compiler.primitive import get
from taut.compiler.primitives.create import full_like, graph_input, iota
from taut.compiler.schedule import FusionPlan, print_plan
from taut.compiler.schedule.clusters import Cluster, Clusters
from taut.compiler.schedule.fuse import MAX_NODES, fuse
from taut.compiler.text import parse_graph
from taut.frontend.testing import random_graph

B = symbol("B")
ROW = (64, 96)


def tensor(position: int, *shape: Dim) -> Value:
    return graph_input(position, Aval(dtypes.f32, shape))


def op(name: str, *operands: Value | float) -> Value:
    """An elementwise primitive; numbers become constants like the first tensor."""
    like = next(o for o in operands if isinstance(o, Value))
    values = (o if isinstance(o, Value) else full_like(like, o) for o in operands)
    return get(name)(*values)


def along(x: Value, dims: Sequence[int], like: Value) -> Value:
    return get("broadcast")(x, dims=tuple(dims), shape=like.aval.shape)


def over(x: Value, like: Value) -> Value:
    """A value of each row, repeated along the last dimension."""
    return along(x, range(like.aval.ndim - 1), like)


def reduce(name: str, x: Value, *dims: int) -> Value:
    return get(f"reduce_{name}")(x, dims=dims or (x.aval.ndim - 1,))


def mean(x: Value) -> Value:
    total = reduce("sum", x, *range(x.aval.ndim))
    return op("div", total, float(size_of(x.aval.shape)))


def gelu_tanh(x: Value) -> Value:
    cubic = op("add", x, op("mul", op("mul", op("mul", x, x), x), 0.044715))
    inside = op("mul", cubic, math.sqrt(2 / math.pi))
    return op("mul", op("mul", x, 0.5), op("add", op("tanh", inside), 1.0))


def gelu_erf(x: Value) -> Value:
    return op("mul", op("mul", x, 0.5), op("add", op("erf", op("mul", x, math.sqrt(0.5))), 1.0))


def softmax(x: Value) -> Value:
    e = op("exp", op("sub", x, over(reduce("max", x), x)))
    return op("div", e, over(reduce("sum", e), x))


def log_softmax(x: Value) -> Value:
    shifted = op("sub", x, over(reduce("max", x), x))
    return op("sub", shifted, over(op("log", reduce("sum", op("exp", shifted))), x))


def logsumexp(x: Value) -> Value:
    top = reduce("max", x)
    return op("add", op("log", reduce("sum", op("exp", op("sub", x, over(top, x))))), top)


def variance(x: Value) -> Value:
    count = float(x.aval.shape[-1])
    apart = op("sub", x, over(op("div", reduce("sum", x), count), x))
    return op("div", reduce("sum", op("mul", apart, apart)), count)


def layer_norm(x: Value, w: Value, b: Value) -> Value:
    count, last = float(x.aval.shape[-1]), (x.aval.ndim - 1,)
    apart = op("sub", x, over(op("div", reduce("sum", x), count), x))
    var = op("div", reduce("sum", op("mul", apart, apart)), count)
    scale = op("div", full_like(var, 1.0), op("sqrt", op("add", var, 1e-5)))
    normal = op("mul", apart, over(scale, x))
    return op("add", op("mul", normal, along(w, last, x)), along(b, last, x))


def linear(x: Value, w: Value, b: Value) -> Value:
    product = get("matmul")(x, get("transpose")(w, perm=(1, 0)))
    return op("add", product, along(b, (1,), product))


def plan(inputs: Sequence[Value], *outputs: Value, enabled: bool = True) -> FusionPlan:
    return fuse(Graph("f", tuple(inputs), outputs), enabled=enabled)


def kernels(inputs: Sequence[Value], *outputs: Value) -> int:
    return len(plan(inputs, *outputs).kernels)


def of_text(text: str) -> tuple[Graph, FusionPlan, dict[str, Value]]:
    graph = parse_graph("taut-ir 1\n" + dedent(text))
    return graph, fuse(graph), {name: value for value, name in graph.names.items()}


# ---------------------------------------------------------------- one kernel

X, CT, Y = tensor(0, *ROW), tensor(1, *ROW), tensor(1, *ROW)
W, BIAS = tensor(1, 96), tensor(2, 96)

ONE_KERNEL: dict[str, tuple[list[Value], list[Value]]] = {
    "gelu tanh": ([X], [gelu_tanh(X)]),
    "gelu erf": ([X], [gelu_erf(X)]),
    "softmax": ([X], [softmax(X)]),
    "softmax of batches": ([tensor(0, B, 12, 96)], [softmax(tensor(0, B, 12, 96))]),
    "log softmax": ([X], [log_softmax(X)]),
    "logsumexp": ([X], [logsumexp(X)]),
    "variance": ([X], [variance(X)]),
    "layer norm": ([X, W, BIAS], [layer_norm(X, W, BIAS)]),
    "mean squared error": ([X, Y], [mean(op("mul", op("sub", X, Y), op("sub", X, Y)))]),
    "layer norm after gelu": ([X, W, BIAS], [layer_norm(gelu_tanh(X), W, BIAS)]),
    "bias gradient": (
        [X, CT],
        [reduce("sum", get("select")(op("lt", full_like(X, 0.0), X), CT, full_like(X, 0.0)), 0)],
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", ONE_KERNEL)
def test_known_programs_are_one_kernel(name: str) -> None:
    inputs, outputs = ONE_KERNEL[name]
    found = plan(inputs, *outputs)
    assert [g.kind for g in found.groups] == ["kernel"]
    assert found.cuts == ()


@pytest.mark.parametrize("forward", [gelu_tanh, gelu_erf, softmax, log_softmax, logsumexp])
def test_forward_and_backward_together_are_one_kernel(forward: object) -> None:
    y = forward(X)  # type: ignore[operator]  # one of the functions above
    ct = graph_input(1, y.aval)
    assert kernels([X, ct], y, cotangents({y: ct}, [X])[X]) == 1


def test_layer_norm_forward_and_backward_are_one_kernel() -> None:
    """Reductions over rows, and over the batch for the gradients of weight and bias."""
    x, ct, w, b = X, CT, tensor(2, 96), tensor(3, 96)
    y = layer_norm(x, w, b)
    found = cotangents({y: ct}, [x, w, b])
    assert kernels([x, ct, w, b], y, found[x], found[w], found[b]) == 1


def test_sgd_with_momentum_and_weight_decay_is_one_kernel() -> None:
    p, g, momentum, lr = tensor(0, 64, 32), tensor(1, 64, 32), tensor(2, 64, 32), tensor(3)
    step = op("add", op("mul", momentum, 0.9), op("add", g, op("mul", p, 0.01)))
    new = op("sub", p, op("mul", step, along(lr, (), p)))
    graph = Graph("sgd", (p, g, momentum, lr), (new, step), (0, 2))
    assert len(fuse(graph).groups) == 1


def adam(p: Value, g: Value, m: Value, v: Value, size: Value, root: Value) -> list[Value]:
    first = op("add", op("mul", m, 0.9), op("mul", g, 0.1))
    second = op("add", op("mul", v, 0.999), op("mul", op("mul", g, g), 0.001))
    scale = op("add", op("div", op("sqrt", second), along(root, (), v)), 1e-8)
    return [op("sub", p, op("mul", along(size, (), p), op("div", first, scale))), first, second]


def test_adam_of_one_parameter_is_one_kernel() -> None:
    p, g, m, v = (tensor(i, 64, 32) for i in range(4))
    assert kernels([p, g, m, v, tensor(4), tensor(5)], *adam(p, g, m, v, tensor(4), tensor(5))) == 1


def test_bias_corrections_of_all_parameters_are_one_kernel_of_numbers() -> None:
    inputs: list[Value] = [tensor(0)]
    outputs: list[Value] = []
    for number in range(3):
        p, g, m, v = (tensor(len(inputs) + i, 8 + number, 4) for i in range(4))
        steps = tensor(len(inputs) + 4)
        inputs += [p, g, m, v, steps]
        count = op("add", steps, 1.0)
        size = op(
            "div",
            inputs[0],
            op("sub", full_like(count, 1.0), op("pow", full_like(count, 0.9), count)),
        )
        root = op(
            "sqrt", op("sub", full_like(count, 1.0), op("pow", full_like(count, 0.999), count))
        )
        outputs += [*adam(p, g, m, v, size, root), count]
    found = plan(inputs, *outputs)
    assert [g.shape for g in found.groups] == [(), (8, 4), (9, 4), (10, 4)]


# ---------------------------------------------------------------- programs of several steps


def test_cross_entropy_by_comparing_positions_is_one_kernel() -> None:
    """The mean over the rows comes after them."""
    x, y = tensor(0, *ROW), graph_input(1, Aval(dtypes.i64, ROW[:1]))
    hit = op("eq", iota(dim=1, dtype=dtypes.i64, shape=ROW), over(y, x))
    picked = reduce("sum", get("select")(hit, log_softmax(x), full_like(x, 0.0)))
    found = plan([x, y], mean(op("neg", picked)))
    (group,) = found.groups
    assert group.main.reduced == (1,)
    assert [part.shape for part in group.last] == [ROW[:1]]
    assert not found.cuts


def test_nll_by_gathering_is_one_kernel() -> None:
    """Elements that it needs of the rows are read when these are complete."""
    x, where = tensor(0, *ROW), graph_input(1, Aval(dtypes.i64, ROW[:1]))
    flat = get("reshape")(log_softmax(x), shape=(64 * 96,))
    loss = mean(op("neg", get("take")(flat, where)))
    found = plan([x, where], loss)
    assert [len(group.last) for group in found.groups] == [1]
    assert not found.cuts


def test_a_training_step_of_a_small_network() -> None:
    x, t, lr = tensor(0, 32, 8), tensor(1, 32, 4), tensor(6)
    w1, b1, w2, b2 = tensor(2, 16, 8), tensor(3, 16), tensor(4, 4, 16), tensor(5, 4)
    hidden = linear(x, w1, b1)
    hidden = get("select")(op("le", hidden, 0.0), full_like(hidden, 0.0), hidden)
    apart = op("sub", linear(hidden, w2, b2), t)
    loss = mean(op("mul", apart, apart))
    parameters = [w1, b1, w2, b2]
    found = cotangents({loss: full_like(loss, 1.0)}, parameters)
    new = [op("sub", p, op("mul", found[p], along(lr, (), p))) for p in parameters]
    graph = Graph("step", (x, t, *parameters, lr), (loss, *new), (None, 2, 3, 4, 5))
    result = fuse(graph)
    assert sorted(g.kind for g in result.groups) == ["kernel"] * 5 + ["matmul"] * 5


# ---------------------------------------------------------------- products and what follows them


def test_a_layer_is_one_step() -> None:
    x, w, b, skip = tensor(0, B, 8), tensor(1, 16, 8), tensor(2, 16), tensor(3, B, 16)
    found = plan([x, w, b, skip], op("add", gelu_tanh(linear(x, w, b)), skip))
    assert [g.kind for g in found.groups] == ["matmul"]
    assert found.cuts == ()


def test_attention_is_two_steps() -> None:
    q, k, v = (tensor(i, 2, 3, B, 16) for i in range(3))
    scores = op("mul", get("matmul")(q, get("transpose")(k, perm=(0, 1, 3, 2))), 0.25)
    mask = along(tensor(3, B, B), (2, 3), scores)
    weights = softmax(op("add", scores, mask))
    found = plan([q, k, v, tensor(3, B, B)], get("matmul")(weights, v))
    assert [g.kind for g in found.groups] == ["matmul", "matmul"]


def test_attention_with_heads_is_four_steps() -> None:
    """One product makes q, k and v; heads are read and written where the layers have them."""
    x, w, v = tensor(0, B, 10, 24), tensor(1, 24, 72), tensor(2, 24, 24)
    made = get("matmul")(get("reshape")(x, shape=(B * 10, 24)), w)
    made = get("reshape")(made, shape=(B, 10, 3, 4, 6))

    def heads(part: int, *perm: int) -> Value:
        start, stop = (0, 0, part, 0, 0), (B, 10, part + 1, 4, 6)
        found = get("slice")(made, start=start, stop=stop, step=(1,) * 5)
        return get("transpose")(get("reshape")(found, shape=(B, 10, 4, 6)), perm=perm)

    scores = get("matmul")(heads(0, 0, 2, 1, 3), heads(1, 0, 2, 3, 1))
    values = get("matmul")(softmax(op("mul", scores, 0.4)), heads(2, 0, 2, 1, 3))
    together = get("transpose")(values, perm=(0, 2, 1, 3))
    out = get("matmul")(get("reshape")(together, shape=(B * 10, 24)), v)
    found = plan([x, w, v], out)
    assert [g.kind for g in found.groups] == ["matmul"] * 4


def test_one_kernel_follows_one_product() -> None:
    """A gated layer: the second product waits for nothing, and the kernel reads the first whole."""
    x, w, v = tensor(0, 64, 8), tensor(1, 8, 16), tensor(2, 8, 16)
    gated = op("mul", get("matmul")(x, w), op("sigmoid", get("matmul")(x, v)))
    found = plan([x, w, v], gated)
    assert sorted(len(g.nodes) for g in found.groups) == [1, 3]
    assert [str(c.why) for c in found.cuts] == ["its kernel follows another product"]


FOLLOWING = """
    func @f(%x: f32[4,4], %w: f32[4,4]) -> ({type}) {{
      %m: f32[4,4] = matmul %x, %w
      {line}
      return %y
    }}"""


@pytest.mark.parametrize(
    ("kind", "line", "reason"),
    [
        ("f32[4]", "%y: f32[4] = reduce_sum %m {dims = [1]}", None),
        (
            "f32[4]",
            "%y: f32[4] = reduce_sum %m {dims = [0]}",
            "it reduces over the product's rows: they must be complete",
        ),
        (
            "f32[4,4]",
            "%t: f32[4,4] = transpose %m {perm = [1, 0]}\n%y: f32[4,4] = exp %t",
            "a transpose lies between: the product must be complete",
        ),
        ("f32[4,4]", "%y: f32[4,4] = matmul %m, %x", "matmul is a step of its own"),
    ],
)
def test_what_may_follow_a_product(kind: str, line: str, reason: str | None) -> None:
    text = FOLLOWING.format(type=kind, line=line)
    target = "y"
    assert why(text, "m", target) == reason


def test_a_kernel_that_overwrites_an_operand_waits_for_the_product() -> None:
    text = """
    func @f(%x: f32[4,4], %w: f32[4,4]) -> (f32[4,4]) {
      %m: f32[4,4] = matmul %x, %w
      %y: f32[4,4] = sub %w, %m
      return %y -> %w
    }"""
    assert why(text, "m", "y") == "its result takes the memory of the product's operand"


# ---------------------------------------------------------------- why not


def why(text: str, producer: str, consumer: str) -> str | None:
    _, found, values = of_text(text)
    return found.why_not(values[producer], values[consumer])


def test_why_not_spaces_differ() -> None:
    text = """
    func @f(%x: f32[3], %y: f32[4,3]) -> (f32[4,3]) {
      %a: f32[3] = exp %x
      %b: f32[4,3] = broadcast %a {dims = [1]}
      %c: f32[4,3] = mul %b, %y
      return %c
    }"""
    assert why(text, "a", "c") == "iteration spaces differ: (3,) against (4, 3)"


def test_why_not_reductions_differ() -> None:
    text = """
    func @f(%x: f32[4,3,2]) -> (f32[4,2], f32[3,2]) {
      %a: f32[4,3,2] = exp %x
      %r: f32[4,2] = reduce_sum %a {dims = [1]}
      %c: f32[3,2] = reduce_sum %a {dims = [0]}
      return %r, %c
    }"""
    reason = "reductions over different dimensions: (1,) of (4, 3, 2) against (0,) of (4, 3, 2)"
    assert why(text, "a", "r") is None
    assert why(text, "a", "c") == reason


def test_why_not_orders_of_reduction_differ() -> None:
    text = """
    func @f(%x: f32[8,1], %y: f32[8]) -> (f32[1], f32[]) {
      %a: f32[8,1] = exp %x
      %r: f32[1] = reduce_sum %a {dims = [0]}
      %v: f32[8] = reshape %a
      %c: f32[] = reduce_sum %v {dims = [0]}
      return %r, %c
    }"""
    assert why(text, "a", "c") == "reductions in different orders: one over lanes, one over rows"


def test_why_not_twice_reduced() -> None:
    text = """
    func @f(%x: f32[4,3]) -> (f32[2]) {
      %a: f32[4] = reduce_sum %x {dims = [1]}
      %b: f32[4] = exp %a
      %d: f32[2,2] = reshape %b
      %c: f32[2] = reduce_sum %d {dims = [1]}
      return %c
    }"""
    assert (
        why(text, "b", "c") == "it reduces what is reduced already: one kernel reduces once a row"
    )


def test_why_not_a_cycle() -> None:
    text = """
    func @f(%x: f32[4,4]) -> (f32[4,4]) {
      %a: f32[4,4] = exp %x
      %m: f32[4,4] = matmul %a, %x
      %c: f32[4,4] = add %a, %m
      return %c
    }"""
    cycle = "fusing would make a cycle: a step between them needs one and feeds the other"
    assert why(text, "a", "c") == cycle
    assert why(text, "a", "m") == "matmul reads its operands from memory"
    assert why(text, "m", "c") is None


def test_why_not_another_order() -> None:
    text = """
    func @f(%x: f32[4,3], %y: f32[3,4]) -> (f32[4,3], f32[3,4]) {
      %a: f32[4,3] = tanh %x
      %t: f32[3,4] = transpose %a {perm = [1, 0]}
      %c: f32[3,4] = mul %t, %y
      return %a, %c
    }"""
    others = "others read the value or its kernel's other results"
    assert why(text, "a", "c") == f"a transpose lies between, and {others}"


def test_why_not_the_rows_of_another_order() -> None:
    text = """
    func @f(%x: f32[4,3], %y: f32[3,4]) -> (f32[3,4]) {
      %s: f32[4] = reduce_sum %x {dims = [1]}
      %r: f32[4,3] = broadcast %s {dims = [0]}
      %b: f32[4,3] = mul %r, %x
      %a: f32[4,3] = tanh %b
      %t: f32[3,4] = transpose %a {perm = [1, 0]}
      %c: f32[3,4] = mul %t, %y
      return %c
    }"""
    order = "the producer's kernel has an order of its own"
    assert why(text, "a", "c") == f"a transpose lies between, and {order}"


def test_why_not_scatter_window_and_calls() -> None:
    text = """
    func @f(%x: f32[4,3], %i: i64[2], %s: u32[630]) -> (f32[2,3], u32[630]) {
      %a: f32[4,3] = exp %x
      %r: f32[2,3] = full {value = 1.0}
      %b: f32[4,3] = scatter_add %a, %i, %r
      %c: f32[4,3] = sqrt %b
      %d: f32[8,3] = concat %c, %c {dim = 0}
      %w: f32[2,3] = slice %d {start = [0, 0], step = [1, 1], stop = [2, 3]}
      %u: f32[2,3], %n: u32[630] = uniform %s
      %e: f32[2,3] = add %w, %u
      return %e, %n
    }"""
    assert why(text, "a", "b") == "scatter_add writes into a copy of its first operand"
    assert why(text, "b", "c") == "scatter_add must be complete before it is read"
    assert why(text, "d", "e") == "concat must be complete before it is read"
    assert why(text, "u", "e") == "uniform is a native call"
    assert why(text, "c", "d") is None


CHECKED = """
    func @f(%x: f32[5], %i: i64[3]) -> (f32[3]) {
      %0: i64[3] = full {value = 5}
      %1: i64[3] = floordiv %i, %0
      %2: i64[3] = floordiv %1, %0
      %a: i64[3] = floordiv %2, %0
      %b: bool[3] = lt %a, %0
      %ok: bool[] = reduce_min %b {dims = [0]}
      check %ok "position out of range"
      %y: f32[3] = take %x, %a
      return %y
    }"""


def test_why_not_across_a_check() -> None:
    """What a check guards must not run before it, not even beside what the check needs."""
    between = "a check comes between them: it must pass before rows are taken or written"
    assert why(CHECKED, "a", "y") == between
    assert why(CHECKED, "a", "b") is None
    assert why(CHECKED.replace('check %ok "position out of range"', ""), "a", "y") is None


def test_a_check_may_come_after_what_is_harmless() -> None:
    """Sums that do not need the positions to be in range are made beside the check of them."""
    harmless = """
    func @f(%x: f32[5], %i: i64[3]) -> (i64[], f32[]) {
      %0: i64[3] = full {value = 5}
      %a: i64[3] = add %i, %0
      %b: bool[3] = lt %a, %0
      %ok: bool[] = reduce_min %b {dims = [0]}
      check %ok "position out of range"
      %c: i64[] = reduce_sum %a {dims = [0]}
      %s: f32[] = reduce_sum %x {dims = [0]}
      return %c, %s
    }"""
    _, found, _ = of_text(harmless)
    assert [g.nodes[-1].prim.name for g in found.groups] == ["reduce_sum"] * 2
    assert why(harmless, "a", "c") is None


def test_why_not_before_a_state_changes() -> None:
    """A call that fails must not have written anything."""
    text = """
    func @f(%x: f32[3]) -> (f32[3]) {
      %0: f32[3] = full {value = 5.0}
      %a: f32[3] = tanh %x
      %b: bool[3] = lt %a, %0
      %ok: bool[] = reduce_min %b {dims = [0]}
      check %ok "too large"
      %y: f32[3] = add %a, %x
      return %y -> %x
    }"""
    between = "a check comes between them: it must pass before a state changes"
    assert why(text, "a", "y") == between


def test_why_not_two_points_at_once() -> None:
    text = """
    func @f(%x: f32[4,4]) -> (f32[4,4]) {
      %a: f32[4,4] = tanh %x
      %t: f32[4,4] = transpose %a {perm = [1, 0]}
      %y: f32[4,4] = add %a, %t
      return %y
    }"""
    assert why(text, "a", "y") == "its kernel would be needed at two points of the space at once"


def test_a_kernel_has_a_largest_size() -> None:
    y = x = tensor(0, 10)
    for _ in range(2 * MAX_NODES):
        y = op("sin", y)
    found = plan([x], y)
    assert [len(g.nodes) for g in found.groups] == [MAX_NODES] * 2
    assert [str(c.why) for c in found.cuts] == ["the kernel would have more than 200 operations"]


def test_without_fusion_each_node_is_a_group() -> None:
    found = plan([X], softmax(X), enabled=False)
    assert [[n.prim.name for n in g.nodes] for g in found.groups] == [
        [name] for name in ("reduce_max", "sub", "exp", "reduce_sum", "div")
    ]
    assert {str(c.why) for c in found.cuts} == {"fusion is off"}


# ---------------------------------------------------------------- moved, or computed again


def test_a_producer_for_one_reader_is_fused_through_a_transpose() -> None:
    x, z = tensor(0, 8, 6), tensor(1, 6, 8)
    moved = get("transpose")(op("tanh", op("neg", x)), perm=(1, 0))
    found = plan([x, z], op("mul", moved, z))
    (group,) = found.groups
    assert {n.prim.name for n in group.moved} == {"tanh", "neg"}
    assert found.cuts == ()


def test_reshapes_cut_nothing() -> None:
    x = tensor(0, B, 6, 4)
    flat = get("reshape")(op("exp", x), shape=(B * 6, 4))
    total = reduce("sum", op("sin", flat))
    back = get("reshape")(op("div", flat, over(total, flat)), shape=(B, 24))
    assert kernels([x], op("cos", back)) == 1


def test_a_cheap_mask_is_computed_again_rather_than_stored() -> None:
    """The backward pass reads x anyway, so it compares again; a matmul between keeps them apart."""
    x, w = tensor(0, 64, 64), tensor(1, 64, 64)
    mask = op("lt", x, full_like(x, 0.0))
    product = get("matmul")(get("select")(mask, op("tanh", x), x), w)
    found = plan([x, w], get("select")(mask, op("mul", product, x), product))
    assert [[n.prim.name for n in g.again] for g in found.groups] == [[], ["lt"]]
    assert mask not in found.stored
    assert all(c.producer is not mask for c in found.cuts)


def test_a_costly_value_is_stored() -> None:
    x, w = tensor(0, 64, 64), tensor(1, 64, 64)
    costly = op("tanh", x)
    product = get("matmul")(op("mul", costly, x), w)
    found = plan([x, w], op("mul", op("mul", product, costly), x))
    assert costly in found.stored
    assert not any(g.again for g in found.groups)


def test_a_value_that_is_computed_in_another_order_is_not_stored_for_others() -> None:
    """The cast could be done again from half the bytes, but nobody has those in their own order."""
    x, z = graph_input(0, Aval(dtypes.f16, (8, 8))), tensor(1, 8, 8)
    costly = op("tanh", x)
    wide = get("cast")(get("transpose")(costly, perm=(1, 0)), dtype=dtypes.f32)
    product = get("matmul")(op("sin", wide), z)
    found = plan([x, z], op("mul", product, wide))
    assert costly.node in found.groups[0].moved
    assert costly not in found.stored
    assert wide in found.stored


def test_kernels_over_one_input_run_side_by_side() -> None:
    x = tensor(0, 64, 96)
    assert kernels([x], op("exp", x), op("sin", x), reduce("sum", x, 0), reduce("max", x, 0)) == 2


# ---------------------------------------------------------------- laws of every plan


@given(seed=st.integers(0, 2**32 - 1), symbolic=st.booleans(), enabled=st.booleans())
def test_plans_are_complete_and_in_order(seed: int, symbolic: bool, enabled: bool) -> None:
    graph = random_graph(np.random.default_rng(seed), 25, symbolic=symbolic)
    found = fuse(graph, enabled=enabled)
    home: dict[Node, int] = {}
    for number, group in enumerate(found.groups):
        for node in group.nodes:
            assert node not in home, "a node in two groups"
            home[node] = number
    written: set[Value] = set(graph.inputs)
    for group in found.groups:
        reads = {o for n in (*group.nodes, *group.again) for o in n.operands}
        for value in reads & found.stored:
            assert value in written or value.node in group.members
        written |= set(group.stores)
    for cut in found.cuts:
        assert cut.why.reason
        assert home.get(cut.producer.node) != home.get(cut.consumer) or cut.consumer not in home


def test_the_plan_as_text() -> None:
    _, found, _ = of_text("""
    func @f<B>(%x: f32[B,3], %w: f32[3,3]) -> (f32[B,3]) {
      %a: f32[B,3] = exp %x
      %s: f32[B] = reduce_sum %a {dims = [1]}
      %r: f32[B,3] = broadcast %s {dims = [0]}
      %y: f32[B,3] = div %a, %r
      %z: f32[B,3] = matmul %y, %w
      return %z
    }""")
    assert print_plan(found) == dedent("""\
    fused @f: 2 groups, 1 edges cut

    group 0: kernel exp_sum_div over (B, 3) reducing (1)
             %a: f32[B,3] = exp %x
             %s: f32[B] = reduce_sum %a
      store  %y: f32[B,3] = div %a, %r

    group 1: matmul matmul
      store  %z: f32[B,3] = matmul %y, %w

    cut:
      %y -> %z: matmul reads its operands from memory
    """)


@given(st.integers(0, 2**32 - 1))
def test_groups_know_all_that_they_need(seed: int) -> None:
    """After any merges that close no cycle, `above` has a bit of each group on a way to it."""
    rng = np.random.default_rng(seed)
    nodes = [tensor(i).node for i in range(12)]
    needs = {n: [m for m in nodes[:i] if rng.random() < 0.2] for i, n in enumerate(nodes)}
    clusters = Clusters()
    for node in nodes:
        clusters.add(Cluster([node], 0, (), 1), needs[node])
    for _ in range(6):
        one, other = (nodes[i] for i in rng.choice(len(nodes), 2, replace=False))
        if clusters.of(one) is not clusters.of(other) and not clusters.between(one, other):
            clusters.merge(clusters.of(one), clusters.of(other))
            require_known_needs(clusters, needs)


def require_known_needs(clusters: Clusters, needs: dict[Node, list[Node]]) -> None:
    for cluster in clusters.all():
        found, stack = set[Cluster](), [clusters.of(m) for n in cluster.nodes for m in needs[n]]
        while stack:
            group = stack.pop()
            if group is not cluster and group not in found:
                found.add(group)
                stack += [clusters.of(m) for n in group.nodes for m in needs[n]]
        assert {group for group in clusters.all() if group.bits & cluster.above} == found
