"""`elementwise`: scalar functions that users write, compiled by Numba and fused like built-ins."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

import taut
from taut.compiler.errors import CompileError, ParseError
from taut.compiler.evaluate import evaluate
from taut.compiler.pipeline import run_passes
from taut.compiler.schedule import schedule
from taut.compiler.schedule.interpret import interpret
from taut.compiler.text import parse_graph
from taut.frontend.testing import assert_same_bits as assert_all_same_bits
from taut.func import grad, hessian, jvp, vmap
from taut.runtime.compile import compile_graph
from taut.runtime.host import host_target
from taut.runtime.options import default_options

OPTIONS = default_options()
DTYPES = (
    taut.bool,
    taut.uint8,
    taut.int8,
    taut.int16,
    taut.int32,
    taut.int64,
    taut.float16,
    taut.float32,
    taut.float64,
)


@taut.elementwise
def poly(x: float) -> float:
    return x * x + 1


@taut.elementwise
def leaky(x: float, slope: float = 0.5) -> float:
    return x if x > 0 else slope * x


@leaky.grad
def leaky_grad(x: float, slope: float) -> tuple[float, float]:
    return (1.0, 0.0) if x > 0 else (slope, x)


@leaky_grad.grad
def leaky_second(x: float, slope: float) -> Any:
    return ((0.0, 0.0), (0.0, 0.0)) if x > 0 else ((0.0, 1.0), (1.0, 0.0))


@taut.elementwise
def softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0)


@softplus.grad
def softplus_grad(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@softplus_grad.vjp
def _(ct: Any, out: Any, x: Any) -> Any:
    return ct * out * (1 - out)


COEFFICIENTS = (0.25, -1.5, 0.5, 3.0)


def evaluated(x: float, coefficients: tuple[float, ...]) -> float:
    total = coefficients[0] * x
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


@taut.elementwise
def horner(x: float) -> float:
    return evaluated(x, COEFFICIENTS)


@horner.vjp
def _(ct: Any, out: Any, x: Any) -> Any:
    return ct * (4 * 0.25 * x**3 - 2 * 1.5 * x + 0.5)


@taut.elementwise
def steps(x: int) -> int:
    count = 0
    while x != 1:  # without end for 0
        x = x // 2 if x % 2 == 0 else 3 * x + 1
        count += 1
    return count


@taut.elementwise
def less(x: float, y: float) -> bool:
    return x < y


def assert_same_bits(got: Any, expected: Any) -> None:
    assert_all_same_bits([np.asarray(got)], [np.asarray(expected)])


class Record(NamedTuple):
    """A function, what it is in NumPy, how far apart they may be in eps, whether it has gradients.

    Arithmetic is exact; of mathematics, each function's bound is about 1.5 ulp, and three are used.
    """

    function: Any
    reference: Callable[..., Any]
    eps: float = 0.0
    gradient: bool = True


def _softplus(x: Any) -> Any:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def _horner(x: Any) -> Any:
    c = [x.dtype.type(c) for c in COEFFICIENTS]
    return ((c[0] * x * x + c[1]) * x + c[2]) * x + c[3]


RECORDS = {
    "poly": Record(poly, lambda x: x * x + x.dtype.type(1), gradient=False),
    "leaky": Record(leaky, lambda x, y: np.where(x > 0, x, y * x)),
    "softplus": Record(softplus, _softplus, eps=8),
    "horner": Record(horner, _horner),
    "less": Record(less, np.less, gradient=False),
}


def operands(record: Record, dtype: Any, *shape: int) -> list[Any]:
    count = len(record.function._parameters)
    values = np.random.default_rng([count, *shape]).standard_normal((count, *shape))
    return [taut.tensor(v).to(dtype) for v in values]


def ways(graph: Any) -> list[Any]:
    """A graph compiled in each way that must not matter."""
    return [compile_graph(graph, o) for o in (OPTIONS, OPTIONS.replace(fuse=False))]


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 33)], ids=str)
@pytest.mark.parametrize("dtype", [taut.float32, taut.float64], ids=str)
@pytest.mark.parametrize("name", RECORDS)
def test_values_are_those_of_numpy(name: str, dtype: Any, shape: tuple[int, ...]) -> None:
    record = RECORDS[name]
    given = operands(record, dtype, *shape)
    arrays = [np.asarray(x) for x in given]
    expected = np.asarray(record.reference(*arrays))
    for function in (record.function, taut.compile(record.function)):
        result = np.asarray(function(*given))
        assert result.dtype == expected.dtype
        assert result.shape == expected.shape
        bound = record.eps * float(np.finfo(arrays[0].dtype).eps)
        np.testing.assert_allclose(result, expected, rtol=bound, atol=bound)


@pytest.mark.quick
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype: Any) -> None:
    x, y = taut.tensor([0, 1, 100]).to(dtype), taut.tensor([1, 2, 7]).to(dtype)

    @taut.elementwise
    def both(x: float, y: float) -> float:
        return x * y + 1 if x > 0 else y - x

    eager, compiled = both(x, y), taut.compile(both)(x, y)
    assert eager.dtype is compiled.dtype
    assert eager.dtype is (taut.int64 if dtype is taut.bool else dtype)  # True + 1 is a number
    array = np.asarray(x).astype(np.int64), np.asarray(y).astype(np.int64)
    expected = np.where(array[0] > 0, array[0] * array[1] + 1, array[1] - array[0])
    for result in (eager, compiled):
        assert_same_bits(np.asarray(result), expected.astype(np.asarray(result).dtype))
    assert less(x, y).dtype is taut.bool
    assert taut.compile(less)(x, y).dtype is taut.bool


def test_operands_come_together_as_those_of_built_in_operations() -> None:
    x = taut.arange(6).reshape(2, 3)
    for y in (2, 1.5, taut.ones(3), taut.tensor(2.5), taut.ones(2, 1, dtype=taut.float64), True):
        expected = taut.where(x > 0, x * 1, x * 1) * 0 + y * x  # promoted as x and y are
        result = leaky(x - 10, y)
        assert result.dtype is expected.dtype
        assert result.shape == expected.shape
    assert leaky(taut.ones(2)).tolist() == [1.0, 1.0]
    assert leaky(slope=0.25, x=-taut.ones(1)).tolist() == [-0.25]
    assert leaky(-2.0, 0.25) == -0.5  # numbers alone: the function as it is


def test_numbers_in_a_function_take_the_dtype_of_the_tensors() -> None:
    @taut.elementwise
    def tenth(x: float) -> float:
        return x * 0.1 + 1 / (x + 3) - math.pi * min(x, 2)

    x = taut.linspace(0, 3, 50)
    expected = x * 0.1 + 1 / (x + 3) - math.pi * taut.minimum(x, taut.tensor(2.0))
    assert_same_bits(tenth(x), expected)


def test_mathematics_is_that_of_built_in_operations() -> None:
    @taut.elementwise
    def several(x: float) -> float:
        return math.exp(x) + math.tanh(x) * math.log1p(x) - math.erf(x)

    @taut.compile
    def built_in(x: Any) -> Any:
        return taut.exp(x) + taut.tanh(x) * taut.log1p(x) - taut.erf(x)

    x = taut.linspace(0, 3, 70)
    if OPTIONS.emitter == "llvm":
        assert_same_bits(several(x), built_in(x))
        assert_same_bits(np.asarray(taut.compile(several)(x)), np.asarray(built_in(x)))
    np.testing.assert_allclose(several(x), built_in(x), rtol=1e-6)  # either is within 1.5 ulp


def test_lanes_that_do_not_exist_do_not_run_for_ever() -> None:
    for size in (1, 5, 17, 40):
        x = taut.arange(1, size + 1)
        expected = [steps.scalar_function(int(i)) for i in np.asarray(x)]
        assert steps(x).tolist() == taut.compile(steps)(x).tolist() == expected


def test_it_is_one_scalar_whatever_surrounds_it() -> None:
    """The bits of a value depend neither on fusion nor on the back end."""

    @taut.compile
    def around(x: Any, y: Any) -> Any:
        z = leaky(poly(x) - 2 * y, 0.3)
        return horner(z).sum(1), (z / 3).max(0).values

    x, y = taut.randn(9, 37), taut.randn(37)
    first = [np.asarray(r) for r in around(x, y)]
    graph = around.graph()
    inputs = [np.asarray(x), np.asarray(y)]
    for program in ways(graph):
        for a, b in zip(program(inputs), first, strict=True):
            assert_same_bits(a, b)
    optimised = run_passes(graph, check=True)
    scheduled = schedule(optimised, host_target())
    for a, b in zip(interpret(scheduled, inputs), evaluate(graph, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # sums in another order


def test_back_ends_agree_to_the_bit_on_arithmetic() -> None:
    if OPTIONS.kernels == "python":
        pytest.skip("Python's own arithmetic is compared where it is the same")

    @taut.compile
    def chain(x: Any) -> Any:
        return horner(leaky(poly(x), 0.3) - 2)

    x = taut.randn(100)
    chain(x)
    results = [
        compile_graph(chain.graph(), OPTIONS.replace(backend=b))([np.asarray(x)])[0]
        for b in ("llvm", "numba")
    ]
    assert_same_bits(*results)
    plain = compile_graph(chain.graph(), OPTIONS.replace(kernels="python"))([np.asarray(x)])[0]
    assert_same_bits(plain, results[0])


# --- fusion ---------------------------------------------------------------------------------------


def test_it_fuses_like_a_built_in_operation() -> None:
    @taut.compile
    def rows(x: Any) -> Any:
        y = leaky(x * 2, 0.1) + 1
        return softplus(y / y.sum(1, keepdim=True))

    rows(taut.ones(4, 20))
    (kernel,) = rows.kernels()
    assert kernel.name == "mul_leaky_add_sum_div_softplus"
    assert rows.stats()["native_calls"] == 1
    assert "loc(" in rows.ir("opt")
    assert (
        f'test_scalar_functions.py":{leaky.scalar_function.__code__.co_firstlineno}:1'
        in rows.ir("opt")
    )


def test_products_take_it_as_their_end() -> None:
    @taut.compile
    def layer(x: Any, w: Any) -> Any:
        return leaky(x @ w, 0.1)

    layer(taut.ones(4, 8), taut.ones(8, 16))
    assert "matmul matmul_leaky" in layer.ir("fused")


def test_training_steps_hold_its_gradient() -> None:
    w = taut.ones(8, requires_grad=True)

    @taut.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = softplus(x * w).sum()
        loss.backward()
        return loss

    x = taut.linspace(-2, 2, 8)
    step(x)
    assert_same_bits(w.grad, (x * softplus_grad(x * w)).detach())
    assert step.stats()["native_calls"] == 1
    assert len(step.kernels()) == 1


# --- derivatives ----------------------------------------------------------------------------------

DIFFERENTIABLE = [name for name, record in RECORDS.items() if record.gradient]


def numeric(function: Callable[[Any], Any], x: Any, h: float = 1e-5) -> Any:
    """Central differences; their error is about h**2, with rounding of 1e-16 / h."""
    return (np.asarray(function(x + h)) - np.asarray(function(x - h))) / (2 * h)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_numeric_ones_to_second_order(name: str) -> None:
    record = RECORDS[name]
    given = operands(record, taut.float64, 6)
    for position in range(len(given)):

        def along(
            x: Any, position: int = position, given: list[Any] = given, f: Any = record.function
        ) -> Any:
            return f(*given[:position], x, *given[position + 1 :])

        def first(x: Any, along: Any = along) -> Any:
            return grad(lambda x: along(x).sum())(x)

        def second(x: Any, first: Any = first) -> Any:
            return grad(lambda x: (first(x) ** 2).sum())(x)

        x = given[position]
        np.testing.assert_allclose(first(x), numeric(along, x), rtol=1e-6, atol=1e-6)
        expected = 2 * np.asarray(first(x)) * numeric(first, x)
        np.testing.assert_allclose(second(x), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(taut.compile(second)(x), second(x), rtol=1e-12, atol=1e-14)
        moved = jvp(along, (x,), (taut.ones_like(x),))[1]
        np.testing.assert_allclose(moved, first(x), rtol=1e-12)


def test_backward_equals_that_of_built_in_operations() -> None:
    x = taut.linspace(-2, 2, 9)
    slope = taut.tensor(0.1)
    functions: tuple[Any, Any] = leaky, lambda x, s: taut.where(x > 0, x, s * x)
    for function in functions:
        x.requires_grad, slope.requires_grad = True, True
        x.grad = slope.grad = None
        (function(x, slope) * taut.arange(9)).sum().backward()
        found = np.asarray(x.grad), np.asarray(slope.grad)
        if function is leaky:
            first = found
    for a, b in zip(first, found, strict=True):
        assert_same_bits(a, b)


def test_transforms_map_over_it() -> None:
    x = taut.randn(3, 4)
    assert_same_bits(np.asarray(vmap(softplus)(x)), np.asarray(softplus(x)))
    mapped = vmap(grad(lambda row: softplus(row).sum()))(x)
    assert_same_bits(np.asarray(mapped), np.asarray(softplus_grad(x)))
    diagonal = taut.diagonal(hessian(lambda row: softplus(row).sum())(x[0]))
    s = taut.sigmoid(x[0])
    np.testing.assert_allclose(diagonal, s * (1 - s), rtol=1e-5)


def test_one_program_serves_all_sizes() -> None:
    @taut.compile(dynamic=True)
    def rows(x: Any, y: Any) -> Any:
        return leaky(x - y, 0.5).sum(1)

    for size in (2, 3, 64, 1):
        x = taut.randn(size, 5)
        result = rows(x, taut.ones(size, 5))
        np.testing.assert_allclose(result, leaky(x - 1, 0.5).sum(1), rtol=1e-5, atol=1e-6)
    assert rows.stats()["traces"] == 1


def test_a_function_can_be_its_own_derivative() -> None:
    @taut.elementwise
    def power(x: float) -> float:
        return math.exp(x)

    power.grad(power)
    x = taut.linspace(0, 1, 5)
    third = grad(lambda x: grad(lambda x: grad(lambda x: power(x).sum())(x).sum())(x).sum())(x)
    assert_same_bits(np.asarray(third), np.asarray(power(x)))


# --- what a function reads ------------------------------------------------------------------------

SCALE = 2.0


@taut.elementwise
def scaled(x: float) -> float:
    return SCALE * x


@scaled.grad
def scaled_grad(x: float) -> float:
    return SCALE


def test_a_change_of_a_global_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = taut.compile(lambda x: scaled(x) + 1)
    gradient = taut.compile(grad(lambda x: scaled(x).sum()))
    x = taut.ones(2)
    for value in (2.0, 3.0, 2.0, math.nan, -0.0, 0.0, 7):
        monkeypatch.setitem(globals(), "SCALE", value)
        assert_same_bits(np.asarray(scaled(x)), np.float32(value) * np.ones(2, np.float32))
        assert_same_bits(compiled(x), scaled(x) + 1)
        assert_same_bits(np.asarray(gradient(x)), np.float32(value) * np.ones(2, np.float32))
        eager = grad(lambda x: scaled(x).sum())(x)
        assert_same_bits(np.asarray(eager), np.float32(value) * np.ones(2, np.float32))


def test_changes_behind_helpers_modules_and_cells_are_noticed() -> None:
    module = types.ModuleType("settings")
    module.shift = 1.0  # type: ignore[attr-defined]  # what is tested
    scope: dict[str, Any] = {"settings": module}
    exec("def helper(x): return x + settings.shift", scope)  # noqa: S102  # text of this file
    factor = 2.0

    @numba.njit
    def doubled(x: float) -> float:
        return x * factor

    source = {"helper": scope["helper"], "doubled": doubled}
    exec("def user(x): return doubled(helper(x))", source)  # noqa: S102  # as above
    user = taut.elementwise(source["user"])
    compiled = taut.compile(user)
    x = taut.ones(1)
    assert user(x).item() == compiled(x).item() == 4.0
    module.shift = 2.0  # type: ignore[attr-defined]  # as above
    assert user(x).item() == compiled(x).item() == 6.0
    factor = 3.0
    assert user(x).item() == compiled(x).item() == 9.0
    exec("def helper(x): return x", scope)  # noqa: S102  # as above
    source["helper"] = scope["helper"]
    assert user(x).item() == compiled(x).item() == 3.0


@pytest.mark.slow
def test_a_new_process_takes_no_program_of_another_function(tmp_path: Path) -> None:
    script = tmp_path / "user.py"
    text = (
        "import sys\nimport taut\nfrom setting import FACTOR\n\n@taut.elementwise\ndef f(x):\n"
        "    return x * FACTOR + {added}\n\n"
        "print(taut.compile(lambda x: f(x))(taut.ones(1)).item(), 'numba' in sys.modules)\n"
    )
    environment = os.environ | {"TAUT_CACHE_DIR": str(tmp_path / "cache")}

    def result(factor: float, added: float) -> str:
        (tmp_path / "setting.py").write_text(f"FACTOR = {factor}\n")
        script.write_text(text.format(added=added))
        command = [sys.executable, "-B", str(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert result(2.0, 1) == "3.0 True\n"
    assert result(3.0, 1) == "4.0 True\n"
    if OPTIONS.emitter == "llvm":
        assert result(2.0, 1) == "3.0 False\n"  # from the disk
    assert result(3.0, 5) == "8.0 True\n"


# --- refusals -------------------------------------------------------------------------------------

TABLE = [1.0, 2.0]
X = taut.ones(3)

REFUSED: dict[str, tuple[str, type[Exception], str]] = {
    "a list": ("return TABLE[0] * x", TypeError, "reads TABLE, a list, which could change"),
    "no number": ("return [x]", CompileError, "returns list"),
    "a tuple": ("return x, x", CompileError, "returns UniTuple"),
    "an unknown name": ("return unknown(x)", CompileError, "name 'unknown' is not defined"),
    "an attribute": ("return x.size", CompileError, "Unknown attribute 'size' of type float32"),
    "an operator": ("return x << 2", CompileError, "No implementation of function"),
    "an exception": (
        "if x < 0:\n        raise ValueError('no')\n    return x",
        CompileError,
        "may raise an exception",
    ),
    "chance": ("return x * np.random.rand()", CompileError, "does more than compute"),
    "itself": ("return f(x - 1) if x > 0 else x", CompileError, "f calls itself"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_refused_at_the_users_line(name: str) -> None:
    body, error, message = REFUSED[name]
    scope: dict[str, Any] = {"TABLE": TABLE, "np": np}
    exec(f"def f(x):\n    {body}\n", scope)  # noqa: S102  # as above
    function = taut.elementwise(scope["f"])
    for call in (function, taut.compile(function)):
        with pytest.raises(error, match=message) as caught:
            call(X)
        assert "test_scalar_functions.py:" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_arguments_that_do_not_fit_are_refused() -> None:
    for call, message in (
        (poly, r"poly\(\) missing a required argument: 'x'"),
        (lambda: poly(X, X), r"poly\(\) too many positional arguments"),
        (lambda: poly(X, y=X), "unexpected keyword argument 'y'"),
        (lambda: leaky(X, "a"), r"leaky\(\): argument 'slope' \(position 2\) must be Tensor"),
        (lambda: taut.elementwise(3), "elementwise takes a Python function"),  # type: ignore[arg-type]  # the test
        (lambda: taut.elementwise(lambda *x: x), "must have a fixed number of operands"),
        (lambda: taut.elementwise(lambda: 1), "must have a fixed number of operands"),
        (lambda: poly.grad(lambda x, y: x), "must take the same operands, x"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_without_a_derivative_differentiation_says_what_to_add() -> None:
    x = taut.ones(3, requires_grad=True)
    message = (
        r"poly \(test_scalar_functions.py:\d+\) has no derivative; give it one with @poly.grad"
    )
    y = poly(x)
    with pytest.raises(RuntimeError, match=message) as caught:
        y.sum().backward()
    assert str(caught.value).endswith(f"(test_scalar_functions.py:{line_of(caught)})")
    with pytest.raises(RuntimeError, match=message):
        taut.compile(lambda x: poly(x).sum())(x)
    with taut.no_grad():
        assert taut.compile(lambda x: poly(x).sum())(x).item() == 6.0
    assert not less(x, 2 * x).requires_grad


def line_of(caught: Any) -> int:
    """The line of this file that raised."""
    own = [entry for entry in caught.traceback if str(entry.path).endswith(Path(__file__).name)]
    return int(own[-1].lineno) + 1


def test_a_gradient_that_does_not_fit_is_refused() -> None:
    @taut.elementwise
    def twice(x: float) -> float:
        return x * 2

    x = taut.ones(3, requires_grad=True)
    outside = taut.ones(3)
    for rule, message in (
        (lambda ct, out, x: (ct, ct), "returned 2 cotangents for 1 operands"),
        (lambda ct, out, x: ct.sum(), "must be a tensor of the operand's shape"),
        (lambda ct, out, x: ct * outside, "reads a tensor that it is not given"),
    ):
        twice.vjp(rule)
        with pytest.raises(RuntimeError, match=message):
            twice(x).sum().backward()


# --- text -----------------------------------------------------------------------------------------


def test_text_names_the_function_and_parses_where_it_is_known() -> None:
    compiled = taut.compile(lambda x: poly(x) * 2)
    compiled(X)
    text = compiled.ir("trace")
    assert "= poly_" in text
    assert str(parse_graph(text)) == text
    with pytest.raises(ParseError, match="a function that a user wrote"):
        parse_graph(text.replace("poly_", "poly_0")[:-1].replace("poly_0", "other_", 1) + "\n")


def test_the_code_stands_in_the_llvm_text() -> None:
    if OPTIONS.emitter != "llvm":
        pytest.skip("the other back end calls the function")
    compiled = taut.compile(lambda x: poly(x) * 2)
    compiled(X)
    text = compiled.ir("llvm")
    line = poly.scalar_function.__code__.co_firstlineno
    assert f"; poly, test_scalar_functions.py:{line}" in text
    assert "fmul float %a0, %a0" in text
    assert not any(flag in text for flag in (" fast ", " contract ", " reassoc "))


def test_nothing_is_left_of_the_loop_over_lanes() -> None:
    if OPTIONS.emitter != "llvm":
        pytest.skip("of the code of the llvm back end")
    compiled = taut.compile(lambda x: leaky(softplus(x), 0.5))
    compiled(taut.ones(4096))
    assert "call" not in compiled.ir("asm").partition("kernel.")[2].partition("kernel.")[2]
