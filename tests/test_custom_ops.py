"""`custom_op`: functions of arrays that users write, called natively from programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

import taut
from taut.compiler.errors import CompileError
from taut.compiler.evaluate import evaluate
from taut.compiler.pipeline import run_passes
from taut.compiler.schedule import schedule
from taut.compiler.schedule.interpret import interpret
from taut.compiler.text import parse_graph
from taut.frontend.testing import assert_same_bits
from taut.func import grad
from taut.runtime.compile import compile_graph
from taut.runtime.host import host_target
from taut.runtime.options import default_options

OPTIONS = default_options()


@taut.custom_op
@numba.njit
def running_max(x: Any) -> Any:
    y = x.copy()
    for i in range(1, y.size):
        y[i] = max(y[i], y[i - 1])
    return y


@running_max.register_fake
def _(x: Any) -> Any:
    return taut.empty_like(x)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs, output)


def _backward(ctx: Any, ct: Any) -> Any:
    x, y = ctx.saved_tensors
    return ct * (x == y)  # of numbers that rise and fall, those that are a new maximum


running_max.register_autograd(_backward, setup_context=_keep)


@taut.custom_op
def turned(x: Any, rows: Any) -> Any:
    if x.size == 0:
        raise ValueError("nothing to turn")
    return x[::-1].copy(), rows.sum(), rows.T.copy()


@turned.register_fake
def _(x: Any, rows: Any) -> Any:
    return taut.empty_like(x), rows.new_empty(()), rows.new_empty((rows.shape[1], rows.shape[0]))


X = [1.0, 3.0, 2.0, 5.0, 4.0]


@pytest.mark.quick
def test_a_program_calls_it_between_its_kernels() -> None:
    @taut.compile
    def step(x: Any) -> Any:
        return running_max(x * 2).sum() + running_max(x)

    x = taut.tensor(X)
    expected = np.maximum.accumulate(np.array(X, np.float32) * 2).sum() + np.maximum.accumulate(X)
    assert step(x).tolist() == expected.tolist()
    assert step.stats() == {"traces": 1, "calls": 1, "native_calls": 1}
    assert "call running_max_" in step.ir("memory")
    assert f'"test_custom_ops.py":{running_max._plain.__code__.co_firstlineno}:1' in step.ir("opt")


@pytest.mark.parametrize(
    "dtype",
    [taut.bool, taut.uint8, taut.int64, taut.float64],
    ids=str,
)
@pytest.mark.parametrize("size", [0, 1, 9])
def test_values_are_those_of_numpy(dtype: Any, size: int) -> None:
    values = np.random.default_rng(size).integers(0, 100, size)
    x = taut.tensor(values).to(dtype)
    expected = np.maximum.accumulate(np.asarray(x))
    results = [np.asarray(f(x)) for f in (running_max, taut.compile(running_max))]
    assert_same_bits(results, [expected] * 2)


def test_several_results_of_other_shapes() -> None:
    x, rows = taut.tensor(X), taut.arange(6.0).reshape(2, 3)
    transposed = rows.t()  # its memory is not in order: the function is given a copy
    for f in (turned, taut.compile(turned)):
        a, b, c = f(x, transposed.t())
        assert a.tolist() == X[::-1]
        assert b.item() == 15
        assert c.tolist() == np.asarray(rows).T.tolist()
        assert f(x, transposed)[2].tolist() == np.asarray(rows).tolist()


def test_one_program_serves_all_sizes() -> None:
    @taut.compile(dynamic=True)
    def doubled(x: Any, rows: Any) -> Any:
        first, _, last = turned(x * 2, rows)
        return first, last + 1

    for size in (3, 8, 2):
        first, last = doubled(taut.arange(float(size)), taut.ones(size, 2))
        assert first.tolist() == list(range(0, 2 * size, 2))[::-1]
        assert last.tolist() == [[2.0] * size] * 2
    assert doubled.stats()["traces"] == 1


def test_its_gradient_is_what_the_user_says() -> None:
    def loss(x: Any) -> Any:
        return (running_max(x * 3) * taut.arange(5)).sum()

    x = taut.tensor(X)
    expected = [0.0, 3.0, 0.0, 9.0, 0.0]
    assert grad(loss)(x).tolist() == expected
    assert taut.compile(grad(loss))(x).tolist() == expected
    x.requires_grad = True
    loss(x).backward()
    assert x.grad is not None
    assert x.grad.tolist() == expected


def test_neither_fusion_nor_the_back_end_matters() -> None:
    @taut.compile
    def around(x: Any, rows: Any) -> Any:
        a, b, c = turned(running_max(x * 2) - 1, rows / 3)
        return a + b, c.sum(1)

    x, rows = taut.tensor(X), taut.ones(4, 5)
    first = [np.asarray(r) for r in around(x, rows)]
    graph, inputs = around.graph(), [np.asarray(x), np.asarray(rows)]
    assert_same_bits(compile_graph(graph, OPTIONS.replace(fuse=False))(inputs), first)
    other = "numba" if OPTIONS.backend == "llvm" else "llvm"
    for options in (OPTIONS.replace(backend=other), OPTIONS.replace(kernels="python")):
        for got, expected in zip(compile_graph(graph, options)(inputs), first, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6)  # sums in another order
    scheduled = schedule(run_passes(graph, check=True), host_target())
    for got, expected in zip(interpret(scheduled, inputs), evaluate(graph, inputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)  # as above


def test_state_is_as_before_where_it_fails() -> None:
    total = taut.zeros(2)

    @taut.compile
    def add(x: Any) -> Any:
        total.add_(1)
        return turned(x, taut.ones(1, 1))[0]

    add(taut.ones(2))
    assert total.tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match=r"turned \(test_custom_ops.py:\d+\) raised an excep"):
        add(taut.ones(0))
    assert total.tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="nothing to turn"):  # eager mode has the exception itself
        turned(taut.ones(0), taut.ones(1, 1))


def test_a_result_that_is_not_like_the_fake_is_refused() -> None:
    @taut.custom_op
    def shorter(x: Any) -> Any:
        return x[1:].copy()

    shorter.register_fake(taut.empty_like)
    for f in (shorter, taut.compile(shorter)):
        with pytest.raises(RuntimeError, match="results have not its fake's shapes"):
            f(taut.ones(3))
    shorter.register_fake(lambda x: x.new_empty(x.shape[0] - 1))
    for f in (shorter, taut.compile(shorter, dynamic=True)):
        assert f(taut.arange(3)).tolist() == [1, 2]


SHIFT = 1.0


@taut.custom_op
def shifted(x: Any) -> Any:
    return x + SHIFT


shifted.register_fake(lambda x: taut.empty_like(x).double())


def test_a_change_of_a_global_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = taut.compile(shifted)
    x = taut.ones(2, dtype=taut.float64)
    for value in (1.0, 5.0, 1.0):
        monkeypatch.setitem(globals(), "SHIFT", value)
        assert shifted(x).tolist() == compiled(x).tolist() == [1 + value] * 2


def test_refusals_say_what_to_do() -> None:
    table = np.ones(3)

    @taut.custom_op
    def unfinished(x: Any) -> Any:
        return x + 1

    @taut.custom_op
    def reading(x: Any) -> Any:
        return x * table

    @taut.custom_op
    def unknown(x: Any) -> Any:
        return x.mode()

    reading.register_fake(taut.empty_like)
    unknown.register_fake(taut.empty_like)
    x = taut.ones(3)
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: unfinished(x), RuntimeError, "put @unfinished.register_fake above a function"),
        (lambda: reading(x), TypeError, "reading reads table, a ndarray, which could change"),
        (lambda: unknown(x), CompileError, "Unknown attribute 'mode' of type"),
        (lambda: running_max(1.0), TypeError, "argument 1 must be Tensor, not float"),
        (lambda: taut.custom_op(3), TypeError, "custom_op takes a function, not 3"),  # type: ignore[arg-type]  # the test
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            call()
        assert "test_custom_ops.py:" in str(caught.value)
        assert "\n" not in str(caught.value)
    x.requires_grad = True
    unfinished.register_fake(taut.empty_like)
    with pytest.raises(RuntimeError, match=r"give it one with unfinished.register_autograd"):
        unfinished(x).sum().backward()


def test_text_parses_where_the_function_is_known() -> None:
    compiled = taut.compile(lambda x: running_max(x) + 1)
    compiled(taut.tensor(X))
    text = compiled.ir("trace")
    assert "{dtypes = [f32], shapes = [[5]]}" in text
    assert str(parse_graph(text)) == text


def test_numbers_are_arrays_without_dimensions() -> None:
    @taut.custom_op
    def powers(x: Any, y: Any) -> Any:
        return x.item() ** np.arange(3) * y

    powers.register_fake(lambda x, y: y.new_empty(3))
    x, y = taut.tensor(2.0, dtype=taut.float64), taut.ones(3, dtype=taut.float64)
    assert powers(x, y).tolist() == taut.compile(powers)(x, y).tolist() == [1.0, 2.0, 4.0]
