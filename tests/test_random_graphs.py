"""Random graphs through the whole compiler: native programs compute what the references say.

Chains of functions amplify rounding without limit, so a program is not compared with `evaluate` at
its end but node by node: one that gives every intermediate value back is run, and each node's
result must be what its reference makes of the very operands that the program computed, within that
primitive's own bound.  All other programs of the graph must then give the same bits: fused, of
static sizes, at other optimisation levels.  (test_passes.py and test_schedule.py show the same of
the stages before, without machine code.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from taut.compiler import dtypes
from taut.compiler.autodiff.vjp import cotangents
from taut.compiler.aval import Aval
from taut.compiler.codegen.vector_math import ULP
from taut.compiler.errors import IRError
from taut.compiler.evaluate import apply_reference, interpret
from taut.compiler.ir import Graph, Node, Value, bind_sizes, solve_sizes
from taut.compiler.pipeline import PASSES, run_passes
from taut.compiler.primitive import all_primitives, get
from taut.compiler.primitives.create import full_like, graph_input
from taut.compiler.schedule import schedule
from taut.compiler.text import parse_graph, print_graph
from taut.compiler.verify import verify
from taut.frontend.testing import assert_same_bits, random_graph, random_inputs
from taut.runtime.compile import compile_graph, compile_program
from taut.runtime.host import host_target
from taut.runtime.options import default_options

Array = npt.NDArray[Any]
Run = Callable[[Sequence[Array]], list[Array]]

IS_LLVM = default_options().emitter == "llvm"
SIZES = (0, 1, 2, 7)
"""Of the symbolic dimension; 0 only in graphs of primitives that are defined there."""
UNDEFINED_AT_0 = ("argmax", "take", "scatter", "scatter_add", "input")
DEFINED_AT_0 = [p.name for p in all_primitives() if p.name not in UNDEFINED_AT_0]


# --- graphs ---------------------------------------------------------------------------------------


def draw(seed: int, halves: bool = True) -> tuple[Graph, list[list[Array]]]:
    """A graph and arguments for each of several sizes; odd seeds have a symbolic dimension.

    Args:
        seed: where the choices come from.
        halves: whether there may be f16, which Numba does not have.
    """
    rng = np.random.default_rng(seed)
    symbolic, empty = seed % 2 == 1, seed % 4 == 3
    while True:
        primitives = DEFINED_AT_0 if empty else None
        graph = random_graph(rng, symbolic=symbolic, primitives=primitives)
        values = [v for n in graph.nodes for v in (*n.operands, *n.results)]
        if halves or not any(v.aval.dtype is dtypes.f16 for v in values):
            break
    sizes = (SIZES if empty else SIZES[1:]) if symbolic else (3,)
    return graph, [random_inputs(rng, graph, {"B": size}) for size in sizes]


def joint(graph: Graph) -> Graph:
    """The graph and what backward makes of it: cotangents of its floating inputs."""
    floating = [v for v in graph.inputs if v.aval.dtype.is_floating_point]
    seeds = {o: full_like(o, 1) for o in graph.outputs if o.aval.dtype.is_floating_point}
    grads = tuple(cotangents(seeds, floating).values())
    donations = (*graph.donations, *(None for _ in grads))
    return graph.replace(outputs=(*graph.outputs, *grads), donations=donations)


def exposed(graph: Graph) -> Graph:
    """The graph with every value that it computes among its outputs."""
    every = tuple(r for node in graph.nodes for r in node.results)
    return graph.replace(outputs=every, donations=(None,) * len(every))


# --- programs -------------------------------------------------------------------------------------


def static(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The graph with its symbolic sizes replaced by numbers."""
    avals = [v.aval.with_shape(bind_sizes(v.aval.shape, sizes)) for v in graph.inputs]
    inputs = tuple(graph_input(i, aval) for i, aval in enumerate(avals))

    def bind(node: Node, operands: list[Value]) -> Sequence[Value]:
        return node.prim.bind(*operands, **bind_sizes_of(node, sizes))

    value_of = interpret(graph, inputs, bind)
    checks = tuple(replace(c, condition=value_of(c.condition)) for c in graph.checks)
    outputs = tuple(map(value_of, graph.outputs))
    return Graph(graph.name, inputs, outputs, graph.donations, checks)


def bind_sizes_of(node: Node, sizes: Mapping[str, int]) -> dict[str, Any]:
    return {key: bind_sizes(value, sizes) for key, value in node.params.items()}


def compiled(graph: Graph, *, fuse: bool = True, **options: Any) -> Run:
    program = schedule(graph, host_target(), fuse=fuse)
    return compile_program(program, default_options().replace(**options))


def require(graph: Graph, arguments: Sequence[list[Array]], **options: Any) -> None:
    """Each node of the unfused program is near its reference; other programs give its bits."""
    every = exposed(graph)
    whole, fused = compiled(every, fuse=False, **options), compiled(graph, **options)
    for arrays in arguments:
        sizes = solve_sizes([v.aval for v in graph.inputs], [a.shape for a in arrays])
        values = dict(zip(graph.inputs, arrays, strict=True))
        values |= zip(every.outputs, whole(arrays), strict=True)
        for node in graph.nodes:
            require_node(node, values, sizes)
        assert_same_bits(fused(arrays), [values[v] for v in graph.outputs])
    if sizes:
        assert_same_bits(compiled(static(graph, sizes), **options)(arrays), fused(arrays))


# --- one node against its reference ---------------------------------------------------------------

SUMS = ("reduce_sum", "matmul", "fma")
FUNCTIONS = tuple(name for (name, dtype), ulps in ULP.items() if ulps > 0.5 and dtype == "f32")
SIGNLESS = ("maximum", "minimum", "reduce_max", "reduce_min")
NORMALS = ("normal", "normal_scaled")
WIDER = {2: np.float64, 4: np.float64, 8: np.longdouble}
REFERENCE_ULPS = 4
"""What NumPy allows its own vector functions."""


def require_node(node: Node, values: Mapping[Value, Array], sizes: Mapping[str, int]) -> None:
    operands, got = [values[o] for o in node.operands], [values[r] for r in node.results]
    with np.errstate(all="ignore"):
        if node.prim.name == "solve":
            require_solution(*operands, *got)
            return
        expected = [np.asarray(r) for r in apply_reference(node, operands, sizes)]
        if got[0].dtype.kind == "f" and node.prim.name in BOUNDS:
            exact, bound = BOUNDS[node.prim.name](node, operands, expected[0])
            require_within(node, got.pop(0), exact, bound)
            del expected[0]
        assert_same_bits(got, expected)


def require_within(node: Node, got: Array, exact: Array, bound: Array) -> None:
    """Equal, nan both, or no farther apart than `bound`; nan there for no promise at all."""
    assert got.shape == exact.shape
    same = (got == exact.astype(got.dtype)) | (np.isnan(got) & np.isnan(exact))
    assert np.all(same | ~(np.abs(got - exact) > bound) & np.isfinite(got) | np.isnan(bound)), node


def of_function(node: Node, operands: Sequence[Array], expected: Array) -> tuple[Array, Array]:
    """The emitted function's stated bound and NumPy's; a f16 is computed as f32 and rounded."""
    ulps = ULP.get((node.prim.name, node.results[0].aval.dtype.name), 0) + REFERENCE_ULPS
    return expected, ulps * np.spacing(np.abs(expected))


def of_sum(node: Node, operands: Sequence[Array], expected: Array) -> tuple[Array, Array]:
    """A rounding of the sum of magnitudes for each term, whatever the order."""
    wide = [np.asarray(o, WIDER[o.dtype.itemsize]) for o in operands]
    exact, scale = (
        np.asarray(apply_reference(node, xs, {})[0]) for xs in (wide, [abs(x) for x in wide])
    )
    terms = operands[0].shape[-1] if node.prim.name == "matmul" else max(2, operands[0].size)
    info = np.finfo(expected.dtype)
    bound = (terms + 1) * info.eps * scale + info.smallest_subnormal
    return exact, np.where(scale <= info.max, bound, np.where(np.isfinite(scale), np.nan, 0))


def of_product(node: Node, operands: Sequence[Array], expected: Array) -> tuple[Array, Array]:
    """A rounding for each factor, unless some order of them leaves the range of normal numbers."""
    wide = np.asarray(operands[0], WIDER[expected.dtype.itemsize])
    info = np.finfo(expected.dtype)
    exact, large, small = (
        np.asarray(apply_reference(node, [x], {})[0])
        for x in (wide, np.maximum(abs(wide), 1), np.minimum(abs(wide), 1))
    )
    ordinary = (large <= info.max) & (small >= info.smallest_normal)
    zero = (small == 0) & np.isfinite(large)
    bound = np.where(ordinary, (wide.size + 1) * info.eps * abs(exact), np.nan)
    return exact, np.where(zero & (large <= info.max), 0, bound)


def but_for_zeros(node: Node, operands: Sequence[Array], expected: Array) -> tuple[Array, Array]:
    """Exact, but for the sign of a zero.

    Which of two zeros is the larger depends in NumPy on the dtype and the machine.
    """
    return expected, np.zeros(expected.shape, expected.dtype)


def of_normal(node: Node, operands: Sequence[Array], expected: Array) -> tuple[Array, Array]:
    """Some ulps of the number and of what was added to it."""
    mean = abs(node.params.get("mean", 0.0))
    return expected, 2 * REFERENCE_ULPS * np.spacing(np.abs(expected) + expected.dtype.type(mean))


BOUNDS = {
    **dict.fromkeys(FUNCTIONS, of_function),
    **dict.fromkeys(SUMS, of_sum),
    **dict.fromkeys(SIGNLESS, but_for_zeros),
    **dict.fromkeys(NORMALS, of_normal),
    "reduce_prod": of_product,
}
"""Floating results that are not defined to the bit."""


def require_solution(a: Array, b: Array, x: Array, regular: Array) -> None:
    """Elimination with pivots is backward stable: a small residual, however bad the matrix."""
    np.testing.assert_array_equal(regular, get("solve").reference(a, b)[1])
    for i in np.ndindex(regular.shape):
        if regular[i] and np.isfinite(x[i]).all():
            scale = abs(a[i]).max(initial=0) * abs(x[i]).max(initial=0) + abs(b[i]).max(initial=0)
            assert np.all(abs(a[i] @ x[i] - b[i]) <= 100 * np.finfo(x.dtype).eps * scale)


# --- tests ----------------------------------------------------------------------------------------


MANY = range(50 if IS_LLVM else 4)
"""Numba takes a second for each graph."""
QUICK = [pytest.param(seed, marks=pytest.mark.quick) for seed in MANY[:2]]


def test_every_primitive_and_dtype_is_drawn_and_small_sizes_are() -> None:
    """Of the graphs that `test_native_code` runs; `input` is what the others read."""
    drawn = [draw(seed) for seed in range(50)]
    nodes = [node for graph, _ in drawn for node in graph.nodes]
    assert {n.prim.name for n in nodes} == {p.name for p in all_primitives()} - {"input"}
    assert {r.aval.dtype for n in nodes for r in n.results} == set(dtypes.ALL)
    shapes = [array.shape for _, arguments in drawn for arrays in arguments for array in arrays]
    assert {0, 1} < {size for shape in shapes for size in shape}
    # What picks an element, or a row, has none to pick where there are none.
    assert set(UNDEFINED_AT_0) == {"argmax", "take", "scatter", "scatter_add", "input"}


@pytest.mark.parametrize("seed", [*QUICK, *MANY[2:]])
def test_native_code(seed: int) -> None:
    graph, arguments = draw(seed, halves=IS_LLVM)
    require(run_passes(graph), arguments)


@pytest.mark.parametrize("seed", MANY[::4])
def test_native_gradients(seed: int) -> None:
    graph, arguments = draw(seed, halves=IS_LLVM)
    require(run_passes(joint(graph)), arguments)


@pytest.mark.parametrize("seed", MANY[1::4])
def test_the_option_that_fuses_nothing(seed: int) -> None:
    """It reaches the schedule, and changes no bit."""
    graph, arguments = draw(seed, halves=IS_LLVM)
    options = default_options().replace(cache=False)
    fused, unfused = (compile_graph(joint(graph), options.replace(fuse=f)) for f in (True, False))
    assert unfused.spec.source.count("kernel") > fused.spec.source.count("kernel")
    for arrays in arguments:
        assert_same_bits(unfused(arrays), fused(arrays))


@pytest.mark.skipif(not IS_LLVM, reason="Numba has its own levels")
@pytest.mark.parametrize("seed", MANY[::10])
def test_optimisation_levels(seed: int) -> None:
    graph, arguments = draw(seed, halves=IS_LLVM)
    results = [compiled(graph, opt_level=level)(arguments[0]) for level in (0, 1, 3)]
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("seed", range(40))
def test_python_kernels(seed: int) -> None:
    graph, arguments = draw(seed, halves=False)
    require(run_passes(graph), arguments, kernels="python")


@pytest.mark.parametrize("seed", range(150))
def test_text_of_every_stage_reads_back(seed: int) -> None:
    graph, _ = draw(seed)
    stages = [graph, joint(graph)]
    run_passes(stages[1], observe=lambda _, stage: stages.append(stage))
    assert len(stages) == 2 + len(PASSES)
    for stage in stages:
        text = print_graph(stage)
        assert parse_graph(text) == stage
        assert print_graph(parse_graph(text)) == text


def test_verify_notices_a_wrong_type() -> None:
    x = graph_input(0, Aval(dtypes.f32, (3,)))
    for wrong in (Aval(dtypes.f64, (3,)), Aval(dtypes.f32, (4,))):
        node = Node((get("exp"), ()), (x,), {}, (wrong,))
        with pytest.raises(IRError, match=r"should have type f32\[3\]"):
            verify(Graph("f", (x,), node.results))
