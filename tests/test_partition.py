"""What is kept between a compiled forward pass and a backward pass outside: the fewest bytes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn
from taut.compiler import dtypes
from taut.compiler.autodiff import cotangents
from taut.compiler.autodiff.partition import partition
from taut.compiler.aval import Aval, symbol
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph, Value
from taut.compiler.primitives import elementwise as E
from taut.compiler.primitives.create import full_like, graph_input
from taut.compiler.primitives.linalg import matmul
from taut.compiler.primitives.movement import broadcast
from taut.compiler.primitives.reduce import reduce_sum
from taut.compiler.verify import verify
from taut.frontend.testing import random_graph, random_inputs


def joined(outputs: tuple[Value, ...], inputs: tuple[Value, ...]) -> tuple[Graph, Graph]:
    """A forward graph, and its backward graph from the inputs and cotangents."""
    forward = Graph("f", inputs, outputs)
    seeds = {o: graph_input(len(inputs) + i, o.aval) for i, o in enumerate(outputs)}
    floating = [v for v in inputs if v.aval.dtype.is_floating_point]
    found = cotangents(seeds, floating)
    grads = tuple(found.get(v) or full_like(v, 0) for v in floating)
    return forward, Graph("f_backward", (*inputs, *seeds.values()), grads)


def names(values: tuple[Value, ...]) -> Counter[str]:
    return Counter(v.node.prim.name for v in values)


def mats(*shapes: tuple[Any, ...]) -> tuple[Value, ...]:
    return tuple(graph_input(i, Aval(dtypes.f32, shape)) for i, shape in enumerate(shapes))


@pytest.mark.parametrize("rows", [128, symbol("B")])
def test_a_product_is_kept_and_what_is_elementwise_is_not(rows: Any) -> None:
    x, w = mats((rows, 64), (64, 64))
    hidden = matmul(x, w)
    y = E.mul(E.sin(E.exp(hidden)), E.tanh(hidden))
    split = partition(*joined((matmul(y, w),), (x, w)))
    assert names(split.residuals) == {"input": 2, "matmul": 1}
    assert hidden in split.residuals
    assert names(tuple(n.results[0] for n in split.backward.nodes))["matmul"] == 4


def test_a_small_result_is_kept_in_place_of_a_large_one() -> None:
    x, b = mats((256, 256), (256,))
    wide = broadcast(E.exp(b), dims=(1,), shape=(256, 256))
    split = partition(*joined((E.mul(x, E.mul(wide, wide)),), (x, b)))
    assert names(split.residuals) == {"input": 2}
    total = reduce_sum(E.exp(x), dims=(1,))
    y = E.mul(E.exp(total), E.exp(total))
    split = partition(*joined((y,), (x,)))
    assert names(split.residuals) == {"input": 1, "reduce_sum": 1}


def test_an_output_is_free_and_nothing_is_read_that_is_not_needed() -> None:
    (x,) = mats((64, 64))
    y = E.exp(reduce_sum(x, dims=(0,)))
    assert partition(*joined((y,), (x,))).residuals == (y,)
    assert partition(*joined((E.add(x, x),), (x,))).residuals == ()


SMOOTH: tuple[str, ...] = (
    "add",
    "mul",
    "sin",
    "tanh",
    "exp",
    "select",
    "broadcast",
    "reshape",
    "transpose",
)
SMOOTH += ("slice", "set_slice", "concat", "take", "scatter_add", "reduce_sum", "matmul", "cast")


@pytest.mark.parametrize("seed", range(60))
def test_the_split_program_computes_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = random_graph(rng, 25, primitives=SMOOTH)
    outputs = tuple(
        dict.fromkeys(o for o in made.outputs if o.aval.dtype.is_floating_point and not o.is_input)
    )
    forward, backward = joined(outputs, made.inputs)
    split = partition(forward, backward)
    verify(split.backward)
    arrays = random_inputs(rng, forward)
    results = evaluate(forward, arrays)
    cts = [np.asarray(rng.normal(size=r.shape), r.dtype) for r in results]
    kept = evaluate(Graph("kept", forward.inputs, split.residuals), arrays)
    got = evaluate(split.backward, [*kept, *cts])
    for a, b in zip(got, evaluate(backward, [*arrays, *cts]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_backward_pass_outside_computes_no_product_twice() -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    f = taut.compile(lambda x: net(x).square().sum())
    x = taut.randn(4, 8)
    f(x).backward()
    got = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    backward = f.specialisations[0]._split.backward
    assert names(tuple(n.results[0] for n in backward.nodes))["matmul"] == 5  # 3 + 2: none again
    net.zero_grad()
    net(x).square().sum().backward()
    for a, p in zip(got, net.parameters(), strict=True):
        assert p.grad is not None
        np.testing.assert_allclose(a, p.grad, rtol=1e-4, atol=1e-5)  # f32 sums of some ten terms


def test_one_pair_of_programs_serves_every_size() -> None:
    def f(x: Any, w: Any) -> Any:
        return (x.reshape(-1) * 2).tanh().reshape(x.shape) @ w

    g = taut.compile(f, dynamic=True)
    for size in (3, 5, 2):
        x = taut.rand(size, 4, dtype=taut.float64, requires_grad=True)
        w = taut.rand(4, 2, dtype=taut.float64, requires_grad=True)
        got = taut.autograd.grad((g(x, w) ** 2).sum(), [x, w], create_graph=True)
        want = taut.autograd.grad((f(x, w) ** 2).sum(), [x, w], create_graph=True)
        again = [
            taut.autograd.grad((d * d).sum(), [x, w]) for (d, _) in (got, want) if d is not None
        ]
        for a, b in zip((*got, *again[0]), (*want, *again[1]), strict=True):
            assert a is not None
            assert b is not None
            np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-12)  # a few roundings


def test_dropout_is_drawn_once() -> None:
    f = taut.compile(lambda x: nn.functional.dropout(x, 0.5) * x)
    x = taut.ones(1000, requires_grad=True)
    y = f(x)
    y.sum().backward()
    assert x.grad is not None
    assert taut.equal(x.grad, 2 * y.detach())
    after = taut.rand(1)
    assert not taut.equal(after, taut.rand(1))
