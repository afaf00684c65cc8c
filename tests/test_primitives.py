"""A record for each primitive.

Its value is held against NumPy, compiled against evaluated, its gradients of first and second
order and its tangents against differences, and batched against a loop.  Each record is tried with
a static first dimension and with a named one, at sizes 0, 1, 2 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from taut.compiler import dtypes
from taut.compiler.autodiff import backward_graph, batch, cotangents, tangent_graph
from taut.compiler.aval import Aval, Dim, symbol
from taut.compiler.errors import CompileError
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph
from taut.compiler.primitive import all_primitives, get
from taut.compiler.primitives import mt19937
from taut.compiler.primitives.create import graph_input
from taut.compiler.verify import verify
from taut.runtime.compile import compile_graph
from taut.runtime.options import default_options

SIZES = (0, 1, 2, 7)
Shape = tuple[Any, ...]


@dataclass(frozen=True)
class Record:
    """How to try a primitive.

    Attributes:
        operands: shape of each operand; "B" stands for the first dimension under test.
        expect: the value, by NumPy or plain Python, from arrays (and the size of B).
        params: parameters, given the dimension B.
        kinds: what each operand holds: "f" floats, "p" positive floats, "i" small integers, "b"
            bools, "x" positions below 4, "s" a generator's state, "d" well-conditioned matrices.
        smooth: whether its gradient can be checked by differences.
        ulps: how far the compiled result may be from the evaluated one: the sum of both functions'
            stated bounds; 0 where both must round once, the same way.
        terms: products or sums of this many terms may differ by `terms` roundings in addition.
        fixed: B cannot be 0 or unnamed for this primitive; sizes tried instead.
    """

    operands: tuple[Shape, ...]
    expect: Callable[..., Any]
    params: Callable[[Dim], dict[str, Any]] = lambda b: {}
    kinds: str = ""
    smooth: bool = True
    ulps: int = 0
    terms: int = 0
    sizes: tuple[int, ...] = SIZES
    dtype: str = "f64"
    extra: dict[str, Any] = field(default_factory=dict)


def elementwise(
    expect: Callable[..., Any], kinds: str = "f", ulps: int = 0, smooth: bool = True
) -> Record:
    return Record((("B", 3),) * len(kinds), expect, kinds=kinds, ulps=ulps, smooth=smooth)


def scalar(function: Callable[[float], float]) -> Callable[..., Any]:
    """A function of one Python float, applied to each element."""
    return lambda x: np.array([function(v) for v in x.ravel()], x.dtype).reshape(x.shape)


def rows_added(x: Any, index: Any, rows: Any) -> Any:
    out = x.copy()
    for position, row in zip(index, rows, strict=True):
        out[position] = out[position] + row
    return out


def rows_set(x: Any, index: Any, rows: Any) -> Any:
    out = x.copy()
    for position, row in zip(index, rows, strict=True):
        out[position] = row
    return out


def windowed(x: Any, y: Any) -> Any:
    out = x.copy()
    out[:, 1:4:2] = y
    return out


RECORDS: dict[str, Record] = {
    "neg": elementwise(lambda x: 0 - x),
    "abs": elementwise(lambda x: np.where(x < 0, -x, x)),
    "sign": elementwise(lambda x: (x > 0) * 1.0 - (x < 0) * 1.0),
    "add": elementwise(lambda x, y: x - (-y), "ff"),
    "sub": elementwise(lambda x, y: x + (-y), "ff"),
    "mul": elementwise(lambda x, y: np.multiply(y, x), "ff"),
    "div": elementwise(lambda x, y: x / y, "fp"),
    "floordiv": elementwise(lambda x, y: np.floor(x / y).astype(x.dtype), "ij", smooth=False),
    "rem": elementwise(lambda x, y: x - y * np.floor(x / y), "fp", ulps=4),
    "pow": elementwise(lambda x, y: np.exp(y * np.log(x)), "pf", ulps=4),
    "fma": Record((("B", 3),) * 3, lambda x, y, z: z + x * y, kinds="fff", terms=2),
    "maximum": elementwise(lambda x, y: np.where(x > y, x, y), "ff"),
    "minimum": elementwise(lambda x, y: np.where(x < y, x, y), "ff"),
    "floor": elementwise(scalar(math.floor)),
    "ceil": elementwise(scalar(math.ceil)),
    "trunc": elementwise(scalar(math.trunc)),
    "round": elementwise(scalar(round)),
    "exp": elementwise(scalar(math.exp), ulps=3),
    "expm1": elementwise(scalar(math.expm1), ulps=4),
    "log": elementwise(scalar(math.log), "p", ulps=3),
    "log1p": elementwise(scalar(math.log1p), "p", ulps=4),
    "sqrt": elementwise(scalar(math.sqrt), "p"),
    "sin": elementwise(scalar(math.sin), ulps=3),
    "cos": elementwise(scalar(math.cos), ulps=3),
    "tanh": elementwise(scalar(math.tanh), ulps=4),
    "sigmoid": elementwise(scalar(lambda v: 1 / (1 + math.exp(-v))), ulps=4),
    "erf": elementwise(scalar(math.erf), ulps=4),
    "eq": elementwise(lambda x, y: x == y, "ii", smooth=False),
    "ne": elementwise(lambda x, y: x != y, "ii", smooth=False),
    "lt": elementwise(lambda x, y: y > x, "ff", smooth=False),
    "le": elementwise(lambda x, y: y >= x, "ff", smooth=False),
    "and": elementwise(lambda x, y: x & y, "ii", smooth=False),
    "or": elementwise(lambda x, y: x | y, "bb", smooth=False),
    "xor": elementwise(lambda x, y: x ^ y, "ii", smooth=False),
    "not": elementwise(lambda x: ~x, "b", smooth=False),
    "stop_gradient": elementwise(lambda x: x * 1, smooth=False),
    "select": elementwise(lambda c, x, y: c * x + (1 - c) * y, "bff"),
    "cast": Record(
        (("B", 3),), lambda x: x.astype(np.float32), lambda b: {"dtype": dtypes.f32}, "f", False
    ),
    "full": Record(
        ((("B",)),),
        lambda x: np.full((x.shape[0], 2), 2.5),
        lambda b: {"value": 2.5, "dtype": dtypes.f64, "shape": (b, 2)},
        "f",
        False,
        extra={"drop": True},
    ),
    "size": Record(
        (("B",),),
        lambda x: np.asarray(x.shape[0] * 3),
        lambda b: {"value": b * 3},
        "f",
        False,
        extra={"drop": True},
    ),
    "iota": Record(
        (("B",),),
        lambda x: np.tile(np.arange(x.shape[0])[:, None], (1, 2)),
        lambda b: {"dim": 0, "dtype": dtypes.i64, "shape": (b, 2)},
        "f",
        False,
        extra={"drop": True},
    ),
    "reduce_sum": Record(
        (("B", 5, 3),), lambda x: x.sum(2).sum(0), lambda b: {"dims": (0, 2)}, "f", terms=21
    ),
    "reduce_prod": Record(
        (("B", 5),), lambda x: np.exp(np.log(x).sum(0)), lambda b: {"dims": (0,)}, "p", terms=7
    ),
    "reduce_max": Record(
        (("B", 5),), lambda x: np.sort(x, 1)[:, -1], lambda b: {"dims": (1,)}, "f"
    ),
    "reduce_min": Record((("B", 5),), lambda x: np.sort(x, 1)[:, 0], lambda b: {"dims": (1,)}, "f"),
    "argmax": Record(
        (("B", 5),),
        lambda x: np.argsort(x, 1)[:, -1],
        lambda b: {"dims": (1,)},
        "f",
        False,
    ),
    "broadcast": Record(
        (("B", 1),),
        lambda x: np.tile(x[None], (2, 1, 3)),
        lambda b: {"dims": (1, 2), "shape": (2, b, 3)},
        "f",
    ),
    "reshape": Record(
        (("B", 4, 3),), lambda x: x.reshape(-1, 12), lambda b: {"shape": (b, 12)}, "f"
    ),
    "transpose": Record(
        (("B", 4, 3),), lambda x: np.moveaxis(x, 0, 1), lambda b: {"perm": (1, 0, 2)}, "f"
    ),
    "slice": Record(
        (("B", 6),),
        lambda x: x[:, 1:6:2],
        lambda b: {"start": (0, 1), "stop": (b, 6), "step": (1, 2)},
        "f",
    ),
    "set_slice": Record(
        (("B", 6), ("B", 2)),
        windowed,
        lambda b: {"start": (0, 1), "step": (1, 2)},
        "ff",
    ),
    "flip": Record((("B", 4),), lambda x: x[::-1, ::-1], lambda b: {"dims": (0, 1)}, "f"),
    "concat": Record(
        (("B", 2), ("B", 3)),
        lambda x, y: np.hstack([x, y]),
        lambda b: {"dim": 1},
        "ff",
    ),
    "take": Record(((4, 3), ("B",)), lambda x, i: x[i], kinds="fx"),
    "scatter_add": Record(((4, 3), ("B",), ("B", 3)), rows_added, kinds="fxf", terms=7),
    "scatter": Record(((4, 3), ("B",), ("B", 3)), rows_set, kinds="fyf", sizes=(0, 1, 2, 4)),
    "matmul": Record(
        (("B", 4), (4, 3)),
        lambda x, y: np.array(
            [[sum(a * b for a, b in zip(r, c, strict=True)) for c in y.T] for r in x]
        ).reshape(-1, 3),
        kinds="ff",
        terms=4,
    ),
    "solve": Record(
        ((3, 3), (3, "B")),
        lambda a, b: (np.linalg.inv(a) @ b, np.array(True)),
        kinds="df",
        terms=1000,
    ),
    "uniform": Record(
        ((mt19937.STATE_WORDS,), ("B",)),
        lambda s, x: mt19937.uniform(s, x.shape, dtypes.f64),
        lambda b: {"dtype": dtypes.f64, "shape": (b,)},
        "sf",
        False,
        extra={"drop": 1},
    ),
    "normal": Record(
        ((mt19937.STATE_WORDS,), ("B",)),
        lambda s, x: mt19937.normal(s, x.shape, dtypes.f64),
        lambda b: {"dtype": dtypes.f64, "shape": (b,)},
        "sf",
        False,
        ulps=4,
        extra={"drop": 1},
    ),
    "uniform_between": Record(
        ((mt19937.STATE_WORDS,), ("B",)),
        lambda s, x: mt19937.uniform_between(s, -1.0, 3.0, x.shape, dtypes.f64),
        lambda b: {"low": -1.0, "high": 3.0, "dtype": dtypes.f64, "shape": (b,)},
        "sf",
        False,
        extra={"drop": 1},
    ),
    "normal_scaled": Record(
        ((mt19937.STATE_WORDS,), ("B",)),
        lambda s, x: mt19937.normal_scaled(s, 1.0, 2.0, x.shape, dtypes.f64),
        lambda b: {"mean": 1.0, "std": 2.0, "dtype": dtypes.f64, "shape": (b,)},
        "sf",
        False,
        ulps=4,
        extra={"drop": 1},
    ),
    "integers": Record(
        ((mt19937.STATE_WORDS,), ("B",)),
        lambda s, x: mt19937.integers(s, 3, 17, x.shape, dtypes.i64),
        lambda b: {"low": 3, "high": 17, "shape": (b,)},
        "sf",
        False,
        extra={"drop": 1},
    ),
    "bernoulli": Record(
        ((mt19937.STATE_WORDS,), ("B",)),
        lambda s, x: mt19937.bernoulli(s, 0.3, x.shape),
        lambda b: {"p": 0.3, "shape": (b,)},
        "sf",
        False,
        extra={"drop": 1},
    ),
}
NO_RECORD = {"input"}


def test_every_primitive_has_a_record() -> None:
    assert {p.name for p in all_primitives()} - NO_RECORD == set(RECORDS)


def sample(kind: str, shape: tuple[int, ...], seed: int) -> Any:
    rng = np.random.default_rng(seed)
    samples: dict[str, Callable[[], Any]] = {
        "f": lambda: rng.normal(size=shape) * 1.5,
        "p": lambda: rng.uniform(0.3, 3, size=shape),
        "i": lambda: rng.integers(-5, 6, size=shape),
        "j": lambda: rng.integers(1, 4, size=shape) * rng.choice([-1, 1], size=shape),
        "b": lambda: rng.random(shape) < 0.5,
        "x": lambda: rng.integers(0, 4, size=shape),
        "y": lambda: rng.permutation(4)[: shape[0]],
        "s": lambda: mt19937.seed_state(seed),
        "d": lambda: rng.normal(size=shape) * 0.3 + np.eye(3) * 2,
    }
    return samples[kind]()


def build(name: str, size: int, named: bool) -> tuple[Graph, list[Any]]:
    """A graph of the one primitive, and arguments for it."""
    record = RECORDS[name]
    dim: Dim = symbol("B") if named else size
    arrays = [
        sample(kind, tuple(size if s == "B" else s for s in shape), seed)
        for seed, (kind, shape) in enumerate(zip(record.kinds, record.operands, strict=True))
    ]
    inputs = [
        graph_input(
            i, Aval(dtypes.from_numpy(a.dtype), tuple(dim if s == "B" else s for s in shape))
        )
        for i, (a, shape) in enumerate(zip(arrays, record.operands, strict=True))
    ]
    operands = inputs
    if "drop" in record.extra:  # an input that only binds the size
        operands = inputs[: int(record.extra["drop"]) if record.extra["drop"] is not True else 0]
    results = get(name).bind(*operands, **record.params(dim))
    return verify(Graph(name, tuple(inputs), results)), arrays


def cases(smooth: bool = False) -> list[Any]:
    return [
        pytest.param(name, size, id=f"{name}-{size}")
        for name, record in RECORDS.items()
        for size in record.sizes
        if record.smooth or not smooth
    ]


def require_close(record: Record, got: list[Any], want: list[Any]) -> None:
    """Equal dtypes and shapes; values within the record's ulps, plus its number of roundings."""
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
            continue
        units = record.ulps + record.terms
        scale = np.abs(b) if record.terms == 0 else np.maximum(np.abs(b), np.abs(b).max(initial=0))
        assert np.all(np.abs(a - b) <= units * np.spacing(scale)) or np.array_equal(a, b)


@pytest.mark.parametrize(("name", "size"), cases())
def test_value_against_numpy(name: str, size: int) -> None:
    graph, arrays = build(name, size, named=False)
    expected = RECORDS[name].expect(*arrays)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for got, want in zip(evaluate(graph, arrays), expected, strict=True):
        # `expect` computes by another formula: a few roundings of the largest intermediate apart.
        np.testing.assert_allclose(got, np.asarray(want), rtol=1e-12, atol=1e-13)
        assert got.shape == np.shape(want)


@pytest.mark.parametrize(("name", "size"), cases())
def test_compiled_against_evaluated(name: str, size: int) -> None:
    graph, arrays = build(name, size, named=False)
    got = compile_graph(graph, default_options())(arrays)
    require_close(RECORDS[name], got, evaluate(graph, arrays))


@pytest.mark.parametrize("name", RECORDS)
def test_one_program_serves_every_size(name: str) -> None:
    record = RECORDS[name]
    program = None
    for size in record.sizes:
        graph, arrays = build(name, size, named=True)
        program = program or compile_graph(graph, default_options())
        require_close(record, program(arrays), evaluate(graph, arrays))


def of_floats(graph: Graph) -> Graph:
    """The graph with its floating outputs alone."""
    kept = tuple(o for o in graph.outputs if o.aval.dtype.is_floating_point)
    return graph.replace(outputs=kept, donations=())


def floating(graph: Graph) -> list[int]:
    """Positions of the floating inputs."""
    return [i for i, v in enumerate(graph.inputs) if v.aval.dtype.is_floating_point]


def pullback(name: str, size: int) -> tuple[Graph, list[Any]]:
    """A primitive's gradients as a graph of its operands and its results' cotangents."""
    graph, arrays = build(name, size, named=False)
    graph = of_floats(graph)
    base = len(graph.inputs)
    seeds = {o: graph_input(base + i, o.aval) for i, o in enumerate(graph.outputs)}
    found = cotangents(seeds, [graph.inputs[i] for i in floating(graph)])
    inputs = (*graph.inputs, *seeds.values())
    cts = [np.asarray(sample("f", o.shape, 99)) for o in evaluate(graph, arrays)]
    return verify(Graph("pullback", inputs, tuple(found.values()))), [*arrays, *cts]


def require_gradient(graph: Graph, arrays: list[Any]) -> None:
    """The gradients of a graph of floats equal central differences of its outputs."""
    cts = [np.asarray(sample("f", o.shape, 77)) for o in evaluate(graph, arrays)]
    positions = floating(graph)
    backward, residuals = backward_graph(graph, [graph.inputs[i] for i in positions])
    kept = evaluate(Graph("residuals", graph.inputs, residuals), arrays)
    grads = evaluate(verify(backward), [*kept, *cts])
    for position, grad in zip(positions, grads, strict=True):
        want = differences(graph, arrays, position, cts)
        # Central differences with step 1e-5 in f64: truncation 1e-10, cancellation 1e-11 over it.
        np.testing.assert_allclose(grad, want, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("name", "size"), cases(smooth=True))
def test_gradient_against_differences(name: str, size: int) -> None:
    graph, arrays = build(name, size, named=False)
    require_gradient(of_floats(graph), arrays)


@pytest.mark.parametrize(("name", "size"), cases(smooth=True))
def test_second_order_against_differences(name: str, size: int) -> None:
    require_gradient(*pullback(name, size))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("name", "size"), cases(smooth=True))
def test_tangents_against_differences(name: str, size: int, order: int) -> None:
    graph, arrays = build(name, size, named=False) if order == 1 else pullback(name, size)
    graph = of_floats(graph)
    positions = floating(graph)
    ways = [np.asarray(sample("f", arrays[i].shape, 55 + i)) for i in positions]
    forward, residuals = tangent_graph(graph, [graph.inputs[i] for i in positions])
    kept = evaluate(Graph("residuals", graph.inputs, residuals), arrays)
    got = evaluate(verify(forward), [*kept, *ways])
    step, sides = 1e-6, []
    for sign in (1, -1):
        moved_arrays = list(arrays)
        for i, way in zip(positions, ways, strict=True):
            moved_arrays[i] = arrays[i] + sign * step * way
        sides.append(evaluate(graph, moved_arrays))
    for tangent, high, low in zip(got, *sides, strict=True):
        # Step 1e-6 along a way of length 1: cancellation 1e-10 of values up to 100.
        np.testing.assert_allclose(tangent, (high - low) / (2 * step), rtol=1e-5, atol=1e-5)


# --- batching -------------------------------------------------------------------------------------


def batch_patterns(name: str) -> list[tuple[bool, ...]]:
    """Which operands are batched: each alone, and all."""
    count = len(RECORDS[name].operands)
    alone = [tuple(i == j for j in range(count)) for i in range(count)]
    return list(dict.fromkeys([*alone, (True,) * count]))


BATCHED = [
    pytest.param(name, pattern, id=f"{name}-{''.join('01'[b] for b in pattern)}")
    for name, record in RECORDS.items()
    if "drop" not in record.extra
    for pattern in batch_patterns(name)
]


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize(("name", "pattern"), BATCHED)
def test_batched_against_a_loop(name: str, pattern: tuple[bool, ...], size: int) -> None:
    graph, arrays = build(name, 2, named=False)
    columns = [
        [sample(kind, a.shape, 17 * i + 5) for i in range(size)] if b else a
        for kind, a, b in zip(RECORDS[name].kinds, arrays, pattern, strict=True)
    ]
    made, flags = batch(graph, size, pattern)
    stacked = [
        np.array(c).reshape(size, *a.shape).astype(a.dtype) if b else c
        for c, a, b in zip(columns, arrays, pattern, strict=True)
    ]
    got = evaluate(verify(made), stacked)
    assert all(flags)
    loop = [
        evaluate(graph, [c[i] if b else c for c, b in zip(stacked, pattern, strict=True)])
        for i in range(size)
    ]
    for number, result in enumerate(got):
        want = np.array([one[number] for one in loop]).reshape(result.shape)
        assert result.dtype == graph.outputs[number].aval.dtype.numpy
        # A product of larger matrices may add up in another order.
        np.testing.assert_allclose(result, want, rtol=1e-12, atol=1e-13)


DRAWS = [name for name, record in RECORDS.items() if record.kinds == "sf"]


@pytest.mark.parametrize("name", DRAWS)
def test_random_primitives_in_a_batch(name: str) -> None:
    graph, arrays = build(name, 20, named=False)
    with pytest.raises(CompileError, match=f"{name} draws random numbers; say randomness="):
        batch(graph, 3, (False, True))
    same, flags = batch(graph, 3, (False, True), "same")
    assert flags == (False, False)
    found, once = evaluate(same, [arrays[0], np.zeros((3, 20))]), evaluate(graph, arrays)
    assert all(np.array_equal(a, b) for a, b in zip(found, once, strict=True))
    made, flags = batch(graph, 3, (False, True), "different")
    assert flags == (True, False)
    sample_, state = evaluate(made, [arrays[0], np.zeros((3, 20))])
    params = {**RECORDS[name].params(20), "shape": (3, 20)}
    want, after = get(name).reference(arrays[0], **params)
    np.testing.assert_array_equal(sample_, want)
    np.testing.assert_array_equal(state, after)
    assert len(np.unique(sample_[:, :8], axis=0)) == 3  # 8 draws alike: 1 in 256 for bernoulli
    with pytest.raises(CompileError, match="generator that is batched"):
        batch(graph, 3, (True, False), "different")


def test_every_primitive_with_operands_has_a_batching_rule() -> None:
    without = {p.name for p in all_primitives() if p.batch is None}
    assert without == {"input", "full", "iota", "size"}


def differences(graph: Graph, arrays: list[Any], position: int, cts: list[Any]) -> Any:
    """The gradient of sum(ct * output) by central differences."""

    def total(x: Any) -> float:
        outputs = evaluate(graph, [*arrays[:position], x, *arrays[position + 1 :]])
        return float(sum((c * o).sum() for c, o in zip(cts, outputs, strict=True)))

    x, step = arrays[position], 1e-5
    grad = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        low, high = x.copy(), x.copy()
        low[place] -= step
        high[place] += step
        grad[place] = (total(high) - total(low)) / (2 * step)
    return grad
