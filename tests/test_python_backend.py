"""Generated Python, compiled by Numba and run as it stands, against NumPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from taut.compiler import primitives
from taut.compiler.aval import Aval, Dim, evaluate_dim, symbol
from taut.compiler.codegen.python import emit_python
from taut.compiler.codegen.python_text import Names, dim_text
from taut.compiler.dtypes import DType, boolean, f16, f32, f64, i8, i32, i64, u8, u32
from taut.compiler.errors import CheckFailed, CompileError
from taut.compiler.ir import Loc
from taut.compiler.primitive import Elementwise, Primitive, get
from taut.compiler.primitives import mt19937
from taut.compiler.schedule.loops import (
    Compute,
    Const,
    Index,
    Instruction,
    Kernel,
    KernelBuffer,
    Load,
    Position,
    Reduce,
    Stage,
    Store,
)
from taut.compiler.schedule.program import (
    Buffer,
    MatrixView,
    Program,
    RunCall,
    RunCheck,
    RunCopy,
    RunKernel,
    RunMatmul,
    Step,
)
from taut.runtime.compile import compile_program
from taut.runtime.executable import Executable
from taut.runtime.options import Options
from taut.runtime.python_module import NAMES, load_module

Array = npt.NDArray[Any]
Load_ = Callable[[Program], Executable]
B = symbol("B")
MODES = {"numba": Options(backend="numba"), "python": Options(kernels="python")}


@pytest.fixture(params=MODES)
def load(request: pytest.FixtureRequest) -> Load_:
    return lambda program: compile_program(program, MODES[request.param])


def at(*coefficients: Dim, offset: Dim = 0) -> Index:
    return Index(offset, coefficients)


def aval(dtype: DType, *shape: Dim) -> Aval:
    return Aval(dtype, shape)


def program(
    inputs: Sequence[Aval],
    outputs: Sequence[Aval],
    steps: Sequence[Step],
    *,
    temps: Sequence[Aval] = (),
    donations: Sequence[int | None] = (),
    checks: Sequence[str] = (),
    names: Sequence[str] = (),
) -> Program:
    """Buffers are the inputs, then the outputs, then one arena slot for each of `temps`."""
    kinds: list[tuple[Any, Sequence[Aval]]] = [
        ("input", inputs),
        ("output", outputs),
        ("temp", temps),
    ]
    buffers = [Buffer("", a, kind, place) for kind, all_ in kinds for place, a in enumerate(all_)]
    labels = [*names, *"abcdefghijklmnopqrstuvwxyz"[len(names) :]]
    found = {s for a in inputs for s in a.symbols}
    return Program(
        name="step",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        donations=tuple(donations) or (None,) * len(outputs),
        buffers=tuple(
            Buffer(labels[i % 26], b.aval, b.kind, b.position) for i, b in enumerate(buffers)
        ),
        slots=tuple(a.nbytes for a in temps),
        steps=tuple(steps),
        checks=tuple(checks),
        symbols=tuple(sorted(found)),
    )


def kernel(
    buffers: Sequence[tuple[DType, bool]],
    extents: Sequence[Dim],
    *stages: Stage,
    name: str = "work",
    symbols: Sequence[str] = (),
) -> Kernel:
    params = tuple(KernelBuffer(f"p{n}", dtype, out) for n, (dtype, out) in enumerate(buffers))
    loc = (Loc("train.py", 3, 5),)
    return Kernel(name, params, tuple(extents), stages, "none", tuple(symbols), loc)


def straight(*body: Instruction) -> Stage:
    return Stage((), body)


def softmax() -> Program:
    rows = at(10, 1)
    stages = (
        Stage((10,), (Load(0, 0, rows, f32), Reduce(1, "max", 0, f32, f32))),
        Stage(
            (10,),
            (
                Load(2, 0, rows, f32),
                Compute(3, "sub", (2, 1), f32, f32),
                Compute(4, "exp", (3,), f32, f32),
                Reduce(5, "add", 4, f32, f32),
            ),
        ),
        Stage(
            (10,),
            (
                Load(6, 0, rows, f32),
                Compute(7, "sub", (6, 1), f32, f32),
                Compute(8, "exp", (7,), f32, f32),
                Compute(9, "div", (8, 5), f32, f32),
                Store(1, rows, 9, f32),
            ),
        ),
    )
    work = kernel([(f32, False), (f32, True)], [B], *stages, name="softmax", symbols=["B"])
    x = aval(f32, B, 10)
    return program([x], [x], [RunKernel(work, (0, 1))])


def test_softmax_in_three_stages_of_a_symbolic_size(load: Load_) -> None:
    run = load(softmax())
    for rows in (0, 1, 2, 7):
        x = np.random.default_rng(rows).standard_normal((rows, 10)).astype(np.float32)
        (y,) = run([x])
        powers = np.exp(x - x.max(1, keepdims=True, initial=-np.inf))
        # the sum of 10 terms is in another order than NumPy's, and exp may be another: a few ulps
        np.testing.assert_allclose(y, powers / powers.sum(1, keepdims=True), rtol=4e-6)


# --- elementwise ----------------------------------------------------------------------------------

UNITS = {"exp", "log", "log1p", "expm1", "sigmoid", "erf", "tanh", "sin", "cos", "pow", "rem"}
"""Functions of two libraries: within a few ulps; all the others are exact."""


def applies(primitive: Primitive, dtype: DType) -> bool:
    operand = Aval(dtype, (3,))
    arity = 2 if "{1}" in python_of(primitive) else 1
    try:
        primitive.infer((operand,) * arity, {})
    except ValueError:
        return False
    return True


def python_of(primitive: Primitive) -> str:
    assert isinstance(primitive.lowering, Elementwise)
    return primitive.lowering.python


def elementwise_primitives(dtype: DType) -> list[Primitive]:
    candidates = [
        p
        for p in primitives.elementwise.__dict__.values()
        if isinstance(p, Primitive) and isinstance(p.lowering, Elementwise)
    ]
    return [p for p in candidates if p.name not in ("select", "cast") and applies(p, dtype)]


def sample(dtype: DType) -> tuple[Array, Array]:
    """Operands with the cases that go wrong: signs, ends of the range, zeros, infinities, nan."""
    if dtype is boolean:
        return np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    if dtype.is_floating_point:
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.5, 3.5, 1e-30, -7.0]
    else:
        ends = np.iinfo(str(dtype.numpy))
        special = [0, 1, 2, 7, 5, int(ends.max), int(ends.min), int(ends.max) - 3]
    x, y = np.meshgrid(np.array(special, dtype.numpy), np.array(special, dtype.numpy))
    return x.ravel(), y.ravel()


def all_of(chosen: Sequence[Primitive], dtype: DType, count: int) -> Program:
    """One kernel that applies every primitive to (x, y), each result an output of its own."""
    body: list[Instruction] = [Load(0, 0, at(1), dtype), Load(1, 1, at(1), dtype)]
    results: list[DType] = []
    for number, primitive in enumerate(chosen):
        arity = 2 if "{1}" in python_of(primitive) else 1
        (result,) = primitive.infer((Aval(dtype, (count,)),) * arity, {})
        register = 2 + number
        body.append(Compute(register, primitive.name, tuple(range(arity)), dtype, result.dtype))
        body.append(Store(2 + number, at(1), register, result.dtype))
        results.append(result.dtype)
    params = [(dtype, False), (dtype, False), *((r, True) for r in results)]
    work = kernel(params, [count], straight(*body))
    outputs = [aval(r, count) for r in results]
    steps = [RunKernel(work, tuple(range(2 + len(chosen))))]
    return program([aval(dtype, count)] * 2, outputs, steps)


@pytest.mark.parametrize("dtype", [f32, f64, i8, i32, i64, u8, u32, boolean], ids=str)
def test_every_elementwise_primitive_equals_its_reference(load: Load_, dtype: DType) -> None:
    chosen = elementwise_primitives(dtype)
    if not dtype.is_floating_point:
        chosen = [p for p in chosen if p.name != "pow"]  # below, with exponents that it allows
    x, y = sample(dtype)
    results = load(all_of(chosen, dtype, len(x)))([x, y])
    for primitive, result in zip(chosen, results, strict=True):
        arity = 2 if "{1}" in python_of(primitive) else 1
        with np.errstate(all="ignore"):
            expected = np.asarray(primitive.reference(*[x, y][:arity]))
        assert result.dtype == expected.dtype, primitive
        if primitive.name in UNITS and dtype.is_floating_point:
            tolerance = 8 * float(np.finfo(str(dtype.numpy)).eps)
            np.testing.assert_allclose(result, expected, tolerance, err_msg=primitive.name)
        else:
            np.testing.assert_array_equal(result, expected, err_msg=primitive.name)


@pytest.mark.parametrize("dtype", [i32, i64, u8], ids=str)
def test_integer_powers(load: Load_, dtype: DType) -> None:
    x, y = np.array([0, 2, 3, 7], dtype.numpy), np.array([0, 5, 4, 1], dtype.numpy)
    (result,) = load(all_of([get("pow")], dtype, 4))([x, y])
    np.testing.assert_array_equal(result, x**y)


CASTS = [(f32, i32), (f64, f32), (i64, i32), (i32, u8), (boolean, f32), (f32, boolean), (u8, i64)]


def test_casts_cut_and_wrap_as_numpy_does(load: Load_) -> None:
    body: list[Instruction] = []
    for n, (source, target) in enumerate(CASTS):
        body += [
            Load(2 * n, n, at(1), source),
            Compute(2 * n + 1, "cast", (2 * n,), source, target),
        ]
        body += [Store(len(CASTS) + n, at(1), 2 * n + 1, target)]
    params = [*((s, False) for s, _ in CASTS), *((t, True) for _, t in CASTS)]
    work = kernel(params, [4], straight(*body))
    run = load(
        program(
            [aval(s, 4) for s, _ in CASTS],
            [aval(t, 4) for _, t in CASTS],
            [RunKernel(work, tuple(range(2 * len(CASTS))))],
        )
    )
    values = np.array([0, 1.75, -2.5, 300])
    inputs = [(values if s.is_signed else np.abs(values)).astype(s.numpy) for s, _ in CASTS]
    for result, x, (source, target) in zip(run(inputs), inputs, CASTS, strict=True):
        expected = x.astype(target.numpy)
        np.testing.assert_array_equal(result, expected, err_msg=f"{source} to {target}")


def test_select_constants_and_positions(load: Load_) -> None:
    body = (
        Load(0, 0, at(1), boolean),
        Position(1, at(2, offset=1), f32),
        Const(2, float("-inf"), f32),
        Compute(3, "select", (0, 1, 2), f32, f32),
        Store(1, at(1), 3, f32),
        Const(4, float("nan"), f32),
        Store(2, at(1), 4, f32),
    )
    work = kernel([(boolean, False), (f32, True), (f32, True)], [3], straight(*body))
    outputs = [aval(f32, 3), aval(f32, 3)]
    run = load(program([aval(boolean, 3)], outputs, [RunKernel(work, (0, 1, 2))]))
    chosen, nans = run([np.array([True, False, True])])
    np.testing.assert_array_equal(chosen, np.array([1, -np.inf, 5], np.float32))
    assert np.isnan(nans).all()


# --- reductions -----------------------------------------------------------------------------------


def reductions(dtype: DType, columns: int) -> Program:
    """sum, product, max, min and argmax of each row; sums and products of integers are i64."""
    wide = dtype if dtype.is_floating_point else i64
    results = [wide, wide, dtype, dtype, i64]
    names = ["add", "mul", "max", "min", "argmax"]
    body = [Load(0, 0, at(columns, 1), dtype)]
    reduces = [Reduce(1 + n, c, 0, dtype, results[n]) for n, c in enumerate(names)]
    stores = [Store(1 + n, at(1), 1 + n, r) for n, r in enumerate(results)]
    work = kernel(
        [(dtype, False), *((r, True) for r in results)],
        [4],
        Stage((columns,), (*body, *reduces)),
        straight(*stores),
    )
    outputs = [aval(r, 4) for r in results]
    return program([aval(dtype, 4, columns)], outputs, [RunKernel(work, tuple(range(6)))])


@pytest.mark.parametrize("dtype", [f16, f32, f64, i32, u8, boolean], ids=str)
def test_reductions(load: Load_, dtype: DType) -> None:
    columns = 5
    x = np.random.default_rng(0).integers(0, 9, (4, columns)).astype(dtype.numpy)
    if dtype.is_floating_point:
        x[1] = -np.inf
        x[2, 3] = np.nan
    total, product, largest, smallest, where = load(reductions(dtype, columns))([x])
    # small whole numbers: every order of summation gives the same
    np.testing.assert_array_equal(total, x.sum(1))
    np.testing.assert_array_equal(product, x.prod(1))
    np.testing.assert_array_equal(largest, x.max(1))
    np.testing.assert_array_equal(smallest, x.min(1))
    np.testing.assert_array_equal(where, x.argmax(1))


def test_empty_reductions_give_the_identity(load: Load_) -> None:
    total, product, largest, smallest, _ = load(reductions(f32, 0))([np.empty((4, 0), np.float32)])
    assert (total[0], product[0], largest[0], smallest[0]) == (0, 1, -np.inf, np.inf)


# --- products -------------------------------------------------------------------------------------


def product_of(
    views: tuple[MatrixView, MatrixView, MatrixView],
    sizes: tuple[int, int, int, int],
    dtype: DType = f32,
    counts: Sequence[int] = (60, 60, 60),
) -> Program:
    """`sizes` are those of the batch, rows, columns and the inner dimension."""
    step = RunMatmul(*views, (sizes[0],), *sizes[1:], dtype)
    given = [aval(dtype, counts[0]), aval(dtype, counts[1])]
    return program(given, [aval(dtype, counts[2])], [step])


def view(flat: Array, matrix: MatrixView, batch: int, rows: int, columns: int) -> Array:
    strides = [*matrix.batch, matrix.leading, 1]
    if matrix.transposed:
        strides = [*matrix.batch, 1, matrix.leading]
    return np.lib.stride_tricks.as_strided(
        flat[matrix.offset :], (batch, rows, columns), [int(s) * flat.itemsize for s in strides]
    )


PRODUCTS = {
    "row-major": (
        MatrixView(0, 0, 4, (12,)),
        MatrixView(1, 0, 5, (20,)),
        MatrixView(2, 0, 5, (15,)),
    ),
    "transposed": (
        MatrixView(0, 3, 3, (12,), True),
        MatrixView(1, 2, 4, (20,), True),
        MatrixView(2, 1, 5, (15,)),
    ),
    "strided": (MatrixView(0, 1, 6, (24,)), MatrixView(1, 0, 7, (0,)), MatrixView(2, 3, 9, (27,))),
    "transposed result": (
        MatrixView(0, 0, 4, (12,)),
        MatrixView(1, 0, 5, (20,)),
        MatrixView(2, 0, 3, (15,), True),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("dtype", [f16, f32, i32], ids=str)
def test_matrix_products(load: Load_, name: str, dtype: DType) -> None:
    x, y, out = PRODUCTS[name]
    a, b = np.arange(60).astype(dtype.numpy), (np.arange(60) % 7 - 3).astype(dtype.numpy)
    (flat,) = load(product_of((x, y, out), (2, 3, 5, 4), dtype))([a, b])
    # small whole numbers: exact in every order
    expected = view(a, x, 2, 3, 4) @ view(b, y, 2, 4, 5)
    np.testing.assert_array_equal(view(flat, out, 2, 3, 5), expected)


def test_products_of_symbolic_size(load: Load_) -> None:
    x, y, out = MatrixView(0, 0, 4, ()), MatrixView(1, 0, 4, (), True), MatrixView(2, 0, B, ())
    given = [aval(f32, B, 4), aval(f32, B * 4)]
    step = RunMatmul(x, y, out, (), B, B, 4, f32)
    run = load(program(given, [aval(f32, B, B)], [step]))
    for rows in (0, 1, 2, 7):
        a = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
        np.testing.assert_array_equal(run([a, a.ravel()])[0], a @ a.T)


def test_a_product_over_nothing_is_zero(load: Load_) -> None:
    views = MatrixView(0, 0, 0, (0,)), MatrixView(1, 0, 2, (0,)), MatrixView(2, 0, 2, (0,))
    run = load(product_of(views, (1, 3, 2, 0), f32, (0, 0, 6)))
    np.testing.assert_array_equal(run([np.empty(0, np.float32)] * 2)[0], np.zeros(6))


# --- data-dependent positions ---------------------------------------------------------------------


@pytest.mark.parametrize("position", [i64, i32, u8], ids=str)
def test_rows_are_gathered(load: Load_, position: DType) -> None:
    body = (
        Load(0, 0, at(1, 0), position),
        Load(1, 1, Index(0, (0, 1), ((0, 100),)), f32),
        Store(2, at(100, 1), 1, f32),
    )
    work = kernel([(position, False), (f32, False), (f32, True)], [3, 100], straight(*body))
    given = [aval(position, 3), aval(f32, 9, 100)]
    run = load(program(given, [aval(f32, 3, 100)], [RunKernel(work, (0, 1, 2))]))
    table = np.arange(900, dtype=np.float32).reshape(9, 100)
    rows = np.array([8, 0, 3], position.numpy)
    np.testing.assert_array_equal(run([rows, table])[0], table[rows])


def test_rows_are_scattered_and_added(load: Load_) -> None:
    body = (
        Load(0, 1, at(1, 0), i64),
        Load(1, 2, at(4, 1), f32),
        Store(0, Index(0, (0, 1), ((0, 4),)), 1, f32, "add"),
    )
    work = kernel([(f32, True), (i64, False), (f32, False)], [3, 4], straight(*body))
    given = [aval(f32, 5, 4), aval(i64, 3), aval(f32, 3, 4)]
    run = load(program(given, [aval(f32, 5, 4)], [RunCopy(0, 3), RunKernel(work, (3, 1, 2))]))
    base, update = np.ones((5, 4), np.float32), np.arange(12, dtype=np.float32).reshape(3, 4)
    rows = np.array([1, 4, 1])
    expected = base.copy()
    np.add.at(expected, rows, update)
    np.testing.assert_array_equal(run([base, rows, update])[0], expected)
    np.testing.assert_array_equal(base, np.ones((5, 4)))


# --- steps of a program ---------------------------------------------------------------------------


def doubled(dtype: DType, count: Dim, *, source: int = 0, target: int = 1) -> RunKernel:
    body = (
        Load(0, 0, at(1), dtype),
        Compute(1, "add", (0, 0), dtype, dtype),
        Store(1, at(1), 1, dtype),
    )
    symbols = sorted(aval(dtype, count).symbols)
    work = kernel([(dtype, False), (dtype, True)], [count], straight(*body), symbols=symbols)
    return RunKernel(work, (source, target), locs=work.locs)


def test_temporaries_live_in_the_arena(load: Load_) -> None:
    steps = [doubled(f32, B, target=2), doubled(f32, B, source=2, target=1)]
    run = load(program([aval(f32, B)], [aval(f32, B)], steps, temps=[aval(f32, B)]))
    for count in (0, 3, 100):
        x = np.arange(count, dtype=np.float32)
        np.testing.assert_array_equal(run([x])[0], 4 * x)


def test_a_check_that_fails_says_so_and_a_donated_input_is_left_alone(load: Load_) -> None:
    steps: list[Step] = [RunCheck(1, 0), doubled(f32, 4, source=0, target=2)]
    inputs, output = [aval(f32, 4), aval(boolean)], aval(f32, 4)
    parts = program(inputs, [output], steps, donations=[0], checks=["index out\nof range"])
    run = load(parts)
    x = np.arange(4, dtype=np.float32)
    (y,) = run([x, np.array(True)])
    np.testing.assert_array_equal(y, 2 * np.arange(4))
    np.testing.assert_array_equal(x, np.arange(4))
    with pytest.raises(CheckFailed, match="index out\nof range"):
        run([x, np.array(False)])


def test_systems_are_solved_by_lapack(load: Load_) -> None:
    step = RunCall("solve", f64, (0, 1, 2, 3), (3, 4, 2))
    inputs = [aval(f64, 3, 4, 4), aval(f64, 3, 4, 2)]
    run = load(program(inputs, [aval(f64, 3, 4, 2), aval(boolean, 3)], [step]))
    random = np.random.default_rng(1)
    a, b = random.standard_normal((3, 4, 4)), random.standard_normal((3, 4, 2))
    a[1] = 1
    x, regular = run([a, b])
    assert regular.tolist() == [True, False, True]
    # backward stable: the error grows with the condition number, well below 100 for these
    np.testing.assert_allclose(x[[0, 2]], np.linalg.solve(a[[0, 2]], b[[0, 2]]), rtol=1e-12)
    np.testing.assert_array_equal(x[1], 0)


DRAWS: dict[str, tuple[RunCall, Callable[[Any], Any]]] = {
    "uniform": (RunCall("uniform", f32, (0, 1, 2), (50,)), lambda s: mt19937.uniform(s, (50,),
    f32)), "normal": (RunCall("normal", f64, (0, 1, 2), (50,)), lambda s: mt19937.normal(s, (50,),
    f64)), "integers": (RunCall("integers", i64, (0, 1, 2), (50, -3, 9)), lambda s:
    mt19937.integers(s, -3, 9, (50,), i64)), "bernoulli": (RunCall("bernoulli", boolean, (0, 1, 2),
    (50,), (0.3,)), lambda s: mt19937.bernoulli(s, 0.3, (50,))),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_draws_equal_the_reference(load: Load_, name: str) -> None:
    step, reference = DRAWS[name]
    state = mt19937.seed_state(7)
    words = aval(u32, len(state))
    run = load(program([words], [aval(step.dtype, 50), words], [step]))
    for result, expected in zip(run([state]), reference(state), strict=True):
        np.testing.assert_array_equal(result, expected)


# --- the text -------------------------------------------------------------------------------------


def test_the_text_reads_as_a_person_would_write_it() -> None:
    steps = [doubled(f32, B * 2)]
    text = emit_python(program([aval(f32, B, 2)], [aval(f32, B, 2)], steps)).source
    assert (
        text
        == '''\
"""step(f32[B,2]) -> (f32[B,2])

Generated by taut: kernels, and `program`, which runs them on memory that a table has the addresses
of.  Numba compiles this text (backend="numba"), or Python runs it (TAUT_KERNELS=python) and a
debugger can stop in it.  Imported from a file it is plain Python: call a kernel with flat arrays.
"""

import math

import numpy as np

if "kernel" not in globals():  # nobody chose how to run it
    from taut.runtime.python_module import array, bits, entry, half, kernel, matrix


@kernel
def work(p0, p1, B):
    """p0: f32 in, p1: f32 out"""
    for i0 in range(B*2):
        v0 = p0[i0]
        v1 = v0 + v0
        p1[i0] = v1


@entry
def program(table):
    words = array(table, 4, np.int64)
    words[0] += 1
    B = int(words[3])
    a = array(words[1], B*2, np.float32)  # f32[B,2], input 0
    b = array(words[2], B*2, np.float32)  # f32[B,2], output 0
    work(a, b, B)  # train.py:3
    return 0
'''
    )


def test_equal_kernels_are_one_function() -> None:
    steps = [doubled(f32, 4, target=2), doubled(f32, 4, source=2, target=1)]
    text = emit_python(program([aval(f32, 4)], [aval(f32, 4)], steps, temps=[aval(f32, 4)])).source
    assert text.count("@kernel") == 1
    assert text.count("work(") == 3


@pytest.mark.parametrize("names", [["np", "def"], ["range", "int"], ["array", "copy"]])
def test_names_that_python_or_the_module_needs_are_changed(load: Load_, names: list[str]) -> None:
    steps = [doubled(f32, 4)]
    parts = program([aval(f32, 4)], [aval(f32, 4)], steps, names=names)
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(load(parts)([x])[0], 2 * x)


def test_names_stay_apart() -> None:
    names = Names(["taken"])
    wanted = ["x", "x", "%3", "v1", "taken", "class", "words", "", "b1"]
    given = [names.fresh(name) for name in wanted]
    assert given == ["x", "x_2", "_3", "_v1", "taken_2", "_class", "words_2", "_", "b1"]


def test_sizes_print_as_expressions_that_evaluate_alike() -> None:
    sizes = {"B": 7, "S": 3}
    for dim in (B, B * 64 - 1, -B, (B + 1) // 2 * symbol("S") - B, 1 - B * B, (1 - B) // 4):
        text = dim_text(dim, {"B": "B", "S": "S"})
        assert eval(text, {}, sizes) == evaluate_dim(dim, sizes)  # noqa: S307 (our own text)


def test_tracebacks_and_debuggers_see_the_text() -> None:
    spec = emit_python(softmax())
    module = load_module(spec, NAMES)
    assert "v4 = np.exp(v3)" in inspect.getsource(module.softmax)


def test_what_is_not_elementwise_is_refused() -> None:
    body = (Load(0, 0, at(1), f32), Compute(1, "matmul", (0, 0), f32, f32), Store(1, at(1), 1, f32))
    work = kernel([(f32, False), (f32, True)], [4], straight(*body))
    steps = [RunKernel(work, (0, 1))]
    with pytest.raises(CompileError, match="matmul is not elementwise"):
        emit_python(program([aval(f32, 4)], [aval(f32, 4)], steps))


def test_half_precision_is_rounded_after_each_operation(load: Load_) -> None:
    body = (Load(0, 0, at(1), f16), Const(1, 1.0, f16), Compute(2, "add", (0, 1), f16, f16))
    after = (Const(3, -2048.0, f16), Compute(4, "add", (2, 3), f16, f16), Store(1, at(1), 4, f16))
    work = kernel([(f16, False), (f16, True)], [4], straight(*body, *after))
    run = load(program([aval(f16, 4)], [aval(f16, 4)], [RunKernel(work, (0, 1))]))
    x = np.array([2048, 2047, 65504, np.nan], np.float16)
    expected = x + np.float16(1) - np.float16(2048)
    np.testing.assert_array_equal(run([x])[0], expected)
    assert expected[0] == 0  # 2049 is no 16-bit float


def test_half_precision_is_added_up_in_single_precision(load: Load_) -> None:
    body = (Load(0, 0, at(0, 1), f16), Reduce(1, "add", 0, f16, f16))
    stages = Stage((4096,), body), straight(Store(1, at(0), 1, f16))
    work = kernel([(f16, False), (f16, True)], [1], *stages)
    run = load(program([aval(f16, 4096)], [aval(f16)], [RunKernel(work, (0, 1))]))
    assert run([np.ones(4096, np.float16)])[0] == 4096  # in 16 bits, 2048 + 1 is 2048


def test_half_precision_is_added_to_what_memory_holds(load: Load_) -> None:
    store = Store(0, Index(0, (0,), ((0, 1),)), 1, f16, "add")
    body = (Load(0, 1, at(1), i64), Load(1, 2, at(1), f16), store)
    work = kernel([(f16, True), (i64, False), (f16, False)], [3], straight(*body))
    given = [aval(f16, 2), aval(i64, 3), aval(f16, 3)]
    run = load(program(given, [aval(f16, 2)], [RunCopy(0, 3), RunKernel(work, (3, 1, 2))]))
    base, rows = np.array([1, 2], np.float16), np.array([0, 1, 0])
    assert run([base, rows, np.array([0.5, 3, 0.25], np.float16)])[0].tolist() == [1.75, 5]
