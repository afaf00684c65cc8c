"""Schedules: programs mean what their graphs mean, to the bit, fused or not; they are made fast."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taut.compiler import dtypes
from taut.compiler.aval import Aval, Dim, Shape, size_of, symbol
from taut.compiler.evaluate import apply_reference
from taut.compiler.evaluate import interpret as walk
from taut.compiler.ir import Graph, Node, Value, solve_sizes
from taut.compiler.primitive import Matmul, Reduction, get
from taut.compiler.primitives.create import graph_input
from taut.compiler.schedule import schedule, schedule_stages
from taut.compiler.schedule.interpret import Points, interpret, reduce_rows
from taut.compiler.schedule.loops import Reduce
from taut.compiler.target import Target
from taut.frontend.testing import assert_same_bits, random_graph, random_inputs

Array = npt.NDArray[Any]
TARGET = Target("", "", "", "")
SEEDS = st.integers(0, 2**32 - 1)


# ---------------------------------------------------------------- what a graph means, to the bit


def exact(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a graph, where reductions add in the order that kernels promise.

    That is a function of each reduction's own shape: NumPy's order depends on strides too.
    """
    sizes = solve_sizes([v.aval for v in graph.inputs], [a.shape for a in inputs])
    with np.errstate(all="ignore"):
        value_of = walk(graph, inputs, lambda node, xs: _apply(node, xs, sizes))
    return [np.asarray(value_of(output)) for output in graph.outputs]


def _apply(node: Node, xs: list[Any], sizes: Mapping[str, int]) -> Sequence[Array]:
    lowering = node.prim.lowering
    contiguous = [np.array(x, order="C") for x in xs]
    if isinstance(lowering, Reduction) and lowering.combine != "argmax":
        return [_reduced(node, lowering.combine, contiguous[0])]
    if isinstance(lowering, Matmul):
        x, y = (a.reshape(-1, *a.shape[-2:]) if a.size else a for a in contiguous)
        if x.ndim == y.ndim == 3:
            return [np.matmul(x, y).reshape(*contiguous[0].shape[:-1], y.shape[-1])]
        return [np.matmul(*contiguous)]
    results = apply_reference(node, contiguous, sizes)
    pairs = zip(results, node.results, strict=True)
    return [np.asarray(r).astype(v.aval.dtype.numpy, copy=False) for r, v in pairs]


def _reduced(node: Node, combine: str, x: Array) -> Array:
    dims = node.params["dims"]
    kept = [axis for axis in range(x.ndim) if axis not in dims]
    rows = np.ascontiguousarray(x.transpose(*kept, *dims))
    last, axis = 1, x.ndim - 1
    while axis in dims:  # over lanes go the last dimensions only
        last, axis = last * x.shape[axis], axis - 1
    count, steps = (int(np.prod([x.shape[a] for a in some])) for some in (kept, dims))
    source, result = node.operands[0].aval.dtype, node.results[0].aval.dtype
    flat = reduce_rows(Reduce(0, combine, 0, source, result), rows.reshape(count, steps), last)
    return flat.reshape([x.shape[a] for a in kept])


def shuffled(count: int) -> list[list[int]]:
    """The points in a few groups, each of them here and there."""
    order: list[int] = np.random.default_rng(1).permutation(count).tolist()
    return [order[first::5] for first in range(min(5, count))]


ORDERS: tuple[Points | None, ...] = (None, shuffled)


def assert_means_the_same(graph: Graph, inputs: Sequence[Array]) -> None:
    """Fused and unfused, in lockstep and point by point, all equal to the graph."""
    expected = exact(graph, inputs)
    for fuse in (True, False):
        program = schedule(graph, TARGET, fuse=fuse)
        for points in ORDERS:
            assert_same_bits(interpret(program, inputs, points), expected)


# ---------------------------------------------------------------- random graphs


@given(seed=SEEDS, size=st.sampled_from([4, 12, 40]))
def test_random_graphs(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, size)
    assert_means_the_same(graph, random_inputs(rng, graph))


@given(seed=SEEDS, size=st.sampled_from([1, 2, 7]))
def test_random_graphs_with_a_symbolic_size(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 15, symbolic=True)
    assert_means_the_same(graph, random_inputs(rng, graph, {"B": size}))


def dense_graph(rng: np.random.Generator, size: int, shape: Shape) -> Graph:
    """Few shapes, many reductions and broadcasts: almost every edge could be fused."""
    shapes: list[Shape] = [shape, shape, shape[:1], shape[1:], shape[:-1], ()]
    inputs = [graph_input(i, Aval(dtypes.f32, s)) for i, s in enumerate(shapes)]
    values = list(inputs)
    for _ in range(size):
        recent = values[-4:] if rng.random() < 0.6 else values
        x = recent[int(rng.integers(len(recent)))]
        makers = [_unary, _unary, _binary, _binary, _reduction, _broadcast, _moved]
        values += makers[int(rng.integers(len(makers)))](rng, x, values, shape)
    more = [v for v in values[6:] if rng.random() < 0.1]
    graph = Graph("dense", tuple(inputs), (*values[-3:], *more))
    return graph.replace(donations=_donations(rng, graph))


Made = list[Value]


def _unary(rng: np.random.Generator, x: Value, values: Made, shape: Shape) -> Made:
    return [get(str(rng.choice(["exp", "tanh", "neg", "abs", "sin", "sigmoid"])))(x)]


def _binary(rng: np.random.Generator, x: Value, values: Made, shape: Shape) -> Made:
    same = [v for v in values if v.aval.shape == x.aval.shape]
    name = str(rng.choice(["add", "sub", "mul", "div", "maximum"]))
    return [get(name)(x, same[int(rng.integers(len(same)))])]


def _reduction(rng: np.random.Generator, x: Value, values: Made, shape: Shape) -> Made:
    dims = tuple(d for d in range(x.aval.ndim) if rng.random() < 0.5)
    return [get(str(rng.choice(["reduce_sum", "reduce_max", "reduce_sum"])))(x, dims=dims)]


def _broadcast(rng: np.random.Generator, x: Value, values: Made, shape: Shape) -> Made:
    sizes, dims = x.aval.shape, list[int]()
    for axis, size in enumerate(shape):
        if len(dims) < len(sizes) and size == sizes[len(dims)]:
            dims.append(axis)
    fits = len(dims) == len(sizes) < len(shape)
    return [get("broadcast")(x, dims=tuple(dims), shape=shape)] if fits else []


def _moved(rng: np.random.Generator, x: Value, values: Made, shape: Shape) -> Made:
    if rng.random() < 0.5:
        return [get("reshape")(x, shape=(size_of(x.aval.shape),))]
    if x.aval.size == size_of(shape):
        return [get("reshape")(x, shape=shape)]
    perm = tuple(map(int, rng.permutation(x.aval.ndim)))
    return [get("transpose")(x, perm=perm)]


def _donations(rng: np.random.Generator, graph: Graph) -> tuple[int | None, ...]:
    free = {i: v.aval for i, v in enumerate(graph.inputs)}
    found: list[int | None] = []
    for output in graph.outputs:
        fitting = [i for i, a in free.items() if a == output.aval and rng.random() < 0.5]
        found.append(fitting[0] if fitting else None)
        free.pop(fitting[0] if fitting else -1, None)
    return tuple(found)


@given(seed=SEEDS, size=st.sampled_from([8, 20, 60]))
def test_graphs_that_fuse_well(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, third = (int(rng.choice(s)) for s in ([1, 2, 5], [1, 3, 66, 128], [1, 2]))
    graph = dense_graph(rng, size, (first, second, third)[: int(rng.integers(2, 4))])
    assert_means_the_same(graph, random_inputs(rng, graph))


@pytest.mark.parametrize("size", [0, 1, 2, 7])
@given(seed=SEEDS)
def test_graphs_that_fuse_well_with_a_symbolic_size(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape: list[Dim] = [int(rng.choice([1, 3, 64])), int(rng.choice([1, 2]))]
    shape.insert(int(rng.integers(3)), symbol("B"))
    graph = dense_graph(rng, 20, tuple(shape))
    assert_means_the_same(graph, random_inputs(rng, graph, {"B": size}))


# ---------------------------------------------------------------- text


def test_text_is_the_same_in_every_process() -> None:
    """No addresses, no order of sets: caches and golden files rely on it."""
    code = (
        "import numpy as np\n"
        "from taut.frontend.testing import random_graph\n"
        "from taut.compiler.schedule import schedule_stages\n"
        "from taut.compiler.target import Target\n"
        "for seed in range(6):\n"
        "    graph = random_graph(np.random.default_rng(seed), 40, symbolic=bool(seed % 2))\n"
        "    found = schedule_stages(graph, Target('', '', '', ''))\n"
        "    print(*(found.text(s) for s in ('fused', 'memory', 'kernel')), sep='')\n"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert "kernel" in texts.pop()


def test_unknown_stages_are_refused() -> None:
    x = graph_input(0, Aval(dtypes.f32, (3,)))
    found = schedule_stages(Graph("f", (x,), (get("exp")(x),)), TARGET)
    with pytest.raises(ValueError, match="no such stage of a schedule: 'asm'"):
        found.text("asm")


# ---------------------------------------------------------------- time


def calls(graph: Graph) -> int:
    """Calls of functions while a graph is scheduled: a clock that no other process slows down."""
    graph.nodes  # noqa: B018  # kept by the graph
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        schedule(graph, TARGET)
    finally:
        sys.setprofile(None)
    return count


def chain(length: int) -> Graph:
    x = y = graph_input(0, Aval(dtypes.f32, (1000,)))
    for i in range(length):
        y = get(("exp", "neg", "sin")[i % 3])(y)
    return Graph("chain", (x,), (y,))


def ladder(length: int) -> Graph:
    """Products that cannot be fused, and a sum that grows along them."""
    x = y = total = graph_input(0, Aval(dtypes.f32, (8, 8)))
    for _ in range(length // 3):
        y = get("matmul")(y, x)
        total = get("add")(total, get("tanh")(y))
    return Graph("ladder", (x,), (total,))


def updates(length: int) -> Graph:
    """Independent updates of all sizes, which join, and the sums of their squares."""
    inputs, outputs = list[Value](), list[Value]()
    for i in range(length // 4):
        aval = Aval(dtypes.f32, (i % 50 + 1, 7))
        w, g = graph_input(2 * i, aval), graph_input(2 * i + 1, aval)
        inputs += [w, g]
        outputs.append(get("sub")(get("tanh")(w), g))
        outputs.append(get("reduce_sum")(get("mul")(g, g), dims=(0, 1)))
    return Graph("updates", tuple(inputs), tuple(outputs))


@pytest.mark.slow
@pytest.mark.parametrize("make", [chain, ladder, updates])
def test_work_is_linear_in_the_size_of_the_graph(make: Callable[[int], Graph]) -> None:
    """8 times the nodes take 8 times the work; a quadratic pass would take 64 times."""
    calls(make(100))  # what is done once
    assert calls(make(8000)) <= 9 * calls(make(1000))
