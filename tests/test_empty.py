"""Dimensions of size 0: compiled functions and their gradients equal eager ones, on each back end.

An empty space has no points, but it may have rows: softmax over (2, 0) has two maxima, though
nothing to divide by them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import taut
import taut.nn.functional as F
from taut import nn
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph
from taut.compiler.schedule import schedule
from taut.compiler.schedule.loops import Kernel, Load
from taut.compiler.schedule.program import RunKernel
from taut.compiler.text import parse_graph
from taut.frontend.testing import assert_same_bits
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target
from taut.runtime.options import default_options

Function = Callable[..., Any]

ROWS: dict[str, Function] = {
    "sum": lambda x, d: x.sum(d),
    "prod": lambda x, d: x.prod(d),
    "mean": lambda x, d: x.mean(d),
    "var": lambda x, d: x.var(d, correction=0),
    "logsumexp": lambda x, d: x.logsumexp(d),
    "softmax": lambda x, d: x.softmax(d),
    "log_softmax": lambda x, d: x.log_softmax(d),
}
WHOLE: dict[str, Function] = {
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "cross_entropy": lambda x: F.cross_entropy(x, taut.zeros(x.shape[0], dtype=taut.int64)),
    "chain": lambda x: ((x.softmax(-1) * x).sum(0) + 1).softmax(-1),
    "moved": lambda x: x.softmax(1).flip(0).t().sum(1),
}
SHAPES = [(2, 0), (0, 2), (1, 0), (0, 1), (0, 0), (7, 0)]


def with_gradient(function: Function) -> Function:
    """The function, followed by the gradient of its sum."""

    def both(x: Any) -> tuple[Any, Any]:
        x.requires_grad_()
        result = function(x)
        (gradient,) = taut.autograd.grad(result.sum(), [x])
        return result.detach(), gradient

    return both


def numbers(shape: tuple[int, ...]) -> Any:
    return taut.from_numpy(np.random.default_rng(1).normal(size=shape).astype(np.float32))


def require(function: Function, shape: tuple[int, ...], dynamic: bool = False) -> None:
    """Compiled as a user does it, and its trace with kernels as Python, results are as eager."""
    compiled = taut.compile(with_gradient(function), dynamic=dynamic)
    pairs = zip(compiled(numbers(shape)), with_gradient(function)(numbers(shape)), strict=True)
    close([(one.numpy(), other.numpy()) for one, other in pairs])
    graph, inputs = parse_graph(compiled.ir("trace")), [numbers(shape).numpy()]
    close(zip(run(graph, inputs, kernels="python"), evaluate(graph, inputs), strict=True))


def close(pairs: Iterable[tuple[Any, Any]]) -> None:
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)  # exp and log: some ulps


def run(graph: Graph, inputs: list[Any], **options: Any) -> list[Any]:
    program = schedule(graph, host_target())
    return compile_program(program, default_options().replace(**options))(inputs)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str, dim: int) -> None:
    for shape in SHAPES:
        require(lambda x: ROWS[name](x, dim), shape)


@pytest.mark.parametrize("name", WHOLE)
def test_several_passes(name: str) -> None:
    for shape in SHAPES:
        if name != "cross_entropy" or shape[1]:  # without classes there is no class 0
            require(WHOLE[name], shape)


@pytest.mark.parametrize("name", [*WHOLE, "softmax"])
def test_sizes_that_are_not_known(name: str) -> None:
    function = WHOLE.get(name, lambda x: x.softmax(0))
    for columns, rows in itertools.product((2, 0), (0, 1, 2, 7)):
        if columns or name != "cross_entropy":
            require(function, (rows, columns), dynamic=True)


def test_three_dimensions() -> None:
    for shape in [(2, 0, 3), (2, 3, 0), (0, 2, 3), (0, 3, 0)]:
        for dim in range(3):
            require(lambda x, d=dim: x.softmax(d), shape)
            require(lambda x, d=dim: x.transpose(0, d).logsumexp(1), shape)


@pytest.mark.parametrize("options", [{}, {"kernels": "python"}])
def test_nothing_is_read_where_there_is_no_point(options: dict[str, Any]) -> None:
    """The position of the row is the same at each of the no points; it was read before the loop."""
    graph = parse_graph("""
    taut-ir 1
    func @f(%i: i64[0], %w: f32[5,3], %m: bool[0]) -> (f32[]) {
      %0: f32[0,3] = take %w, %i
      %1: bool[0,3] = broadcast %m {dims = [0]}
      %2: f32[0,3] = full {value = 0.0}
      %3: f32[0,3] = select %1, %2, %0
      %4: f32[] = reduce_sum %3 {dims = [0, 1]}
      return %4
    }""")
    inputs = [np.zeros(0, np.int64), np.ones((5, 3), np.float32), np.zeros(0, bool)]
    loads = [it for k in kernels(graph) for s in k.stages for it in s.body if isinstance(it, Load)]
    assert not loads
    assert_same_bits(run(graph, inputs, **options), evaluate(graph, inputs))


def kernels(graph: Graph) -> list[Kernel]:
    return [s.kernel for s in schedule(graph, host_target()).steps if isinstance(s, RunKernel)]


@pytest.mark.parametrize("padding", [None, 0])
def test_an_embedding_of_nothing(padding: int | None) -> None:
    table = nn.Embedding(5, 3, padding_idx=padding)

    @taut.compile
    def step(index: Any) -> Any:
        loss = (table(index) ** 2).sum()
        loss.backward()
        return loss

    assert step(taut.zeros(0, dtype=taut.int64)).item() == 0
    assert table.weight.grad is not None
    assert not table.weight.grad.numpy().any()


@pytest.mark.parametrize("options", [{}, {"kernels": "python"}])
def test_a_matrix_is_singular_without_anything_to_solve_for(options: dict[str, Any]) -> None:
    graph = parse_graph("""
    taut-ir 1
    func @f(%a: f64[3,2,2], %b: f64[3,2,0]) -> (f64[3,2,0], bool[3]) {
      %0: f64[3,2,0], %1: bool[3] = solve %a, %b
      return %0, %1
    }""")
    inputs = [np.array([np.zeros((2, 2)), np.eye(2), np.ones((2, 2))]), np.zeros((3, 2, 0))]
    results = run(graph, inputs, **options)
    assert results[1].tolist() == [False, True, False]
    assert_same_bits(results, evaluate(graph, inputs))
