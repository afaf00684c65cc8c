"""`dynamic=True`: one program for many sizes, and a new trace where a guard on sizes fails."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import taut
import taut.nn.functional as F
from taut import nn, optim

SIZES = (7, 3, 0, 1, 2, 32, 1000, 3)


def rows(size: int, width: int = 4, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, size])
    return taut.from_numpy(rng.standard_normal((size, width)).astype(np.float32))


def function_of(source: str) -> Callable[..., Any]:
    """A function of x (n, 4), y (n, 4) and i (n,), positions below 4."""
    scope: dict[str, Any] = {"T": taut, "F": F, "math": math, "W": rows(8), "V": rows(1)}
    exec("def f(x, y, i):\n    " + source.replace("\n", "\n    "), scope)  # noqa: S102  # our own
    found: Callable[..., Any] = scope["f"]
    return found


def leaves(result: Any) -> list[Any]:
    return [x for r in result for x in leaves(r)] if type(result) in (tuple, list) else [result]


def outcome(function: Callable[..., Any], size: int) -> tuple[Any, Any]:
    """What a call gives, or the error it raises, and the first argument after it."""
    x, y = rows(size), rows(size, seed=1)
    index = taut.from_numpy(np.arange(size) % max(1, min(size, 4)))
    try:
        return leaves(function(x, y, index)), x
    except (RuntimeError, IndexError, ValueError, ArithmeticError) as error:
        return [(type(error), str(error).partition(" (")[0])], x


def require_equal(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(found, taut.Tensor):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        # Sums are in another order, and functions within a few ulps.
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), 2e-5, 2e-6)
    else:
        assert found == wanted


def traces_over(source: str, sizes: tuple[int, ...] = SIZES) -> int:
    """How many traces serve all sizes; results, errors and written arguments equal eager ones."""
    function = function_of(source)
    compiled = taut.compile(function, dynamic=True)
    for size in sizes:
        (found, x), (wanted, eager_x) = outcome(compiled, size), outcome(function, size)
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            require_equal(a, b)
        require_equal(x, eager_x)
    return compiled.stats()["traces"]


# --- results that view an argument ----------------------------------------------------------------

VIEWS = ["x[:, 1]", "x.reshape(-1)", "x[-1]", "x.unsqueeze(0)", "x.t()", "x[1:3]", "x[::2, 1:]"]
VIEWS += ["x[:, None].expand(-1, 3, -1)", "x.view(-1, 2)", "x.narrow(0, 1, 2)", "x[2:].flatten()"]


@pytest.mark.parametrize("source", VIEWS)
def test_views_of_an_argument_share_its_memory(source: str) -> None:
    function = function_of(f"return {source}")
    compiled = taut.compile(function, dynamic=True)
    for size in (5, 3, 32):
        x = rows(size)
        found, wanted = compiled(x, x, x).numpy(), function(x, x, x).numpy()
        assert (found.shape, found.strides) == (wanted.shape, wanted.strides)
        assert found.ctypes.data == wanted.ctypes.data
    assert compiled.stats()["traces"] == 1


def test_a_view_of_a_fresh_result_has_the_sizes_of_the_call() -> None:
    assert traces_over("z = x * 2\nreturn z.t(), z[:, None].expand(-1, 2, -1)") == 1


def test_views_are_differentiated_outside() -> None:
    weight = taut.ones(4, 3, requires_grad=True)
    compiled = taut.compile(lambda x: (x @ weight, (x @ weight)[::2].t()), dynamic=True)
    for size in (5, 2, 1):
        x = rows(size)
        whole, part = compiled(x)
        (whole.sum() + part.sum() * 2).backward()
        found, weight.grad = weight.grad, None
        ((x @ weight).sum() + (x @ weight)[::2].sum() * 2).backward()
        require_equal(found, weight.grad)
        weight.grad = None
    assert compiled.stats()["traces"] == 1


# --- training -------------------------------------------------------------------------------------


def classifier(**options: Any) -> tuple[Any, Any]:
    """A step of cross-entropy with Adam, and its network."""
    taut.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = optim.Adam(net.parameters(), lr=0.01)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return taut.compile(step, **options), net


def test_a_training_step_serves_every_batch() -> None:
    steps = [classifier(dynamic=True), classifier(), classifier(disable=True)]
    for size in (32, 7, 1, 2, 3, 1000, 32):
        x, y = rows(size, 8), taut.from_numpy(np.arange(size) % 4)
        dynamic, static, eager = [step(x, y) for step, _ in steps]
        assert dynamic.item() == static.item()
        require_equal(dynamic, eager)
        networks = [net.state_dict().values() for _, net in steps]
        for a, b, c in zip(*networks, strict=True):
            assert np.array_equal(a.numpy(), b.numpy())
            np.testing.assert_allclose(a.numpy(), c.numpy(), 2e-4, 2e-5)  # Adam divides by noise
    assert steps[0][0].stats() == {"traces": 1, "calls": 7, "native_calls": 7}
    (guard,) = steps[0][0].guards()
    assert guard.startswith("y_0 == x_0 (test_dynamic.py:")


def test_an_empty_batch_has_a_loss_that_is_nan() -> None:
    step, net = classifier(dynamic=True)
    step(rows(3, 8), taut.tensor([0, 1, 2]))
    assert math.isnan(step(rows(0, 8), taut.tensor([], dtype=taut.int64)).item())
    assert step.stats()["traces"] == 1
    other, eager = classifier(disable=True)
    other(rows(3, 8), taut.tensor([0, 1, 2]))
    other(rows(0, 8), taut.tensor([], dtype=taut.int64))
    for a, b in zip(net.parameters(), eager.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 2e-4, 2e-5)


def test_a_module_is_differentiated_outside_at_every_size() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
    compiled = taut.compile(net, dynamic=True)
    for size in (3, 1, 0, 7):
        x = rows(size)
        compiled(x).square().sum().backward()
        found = [p.grad for p in net.parameters()]
        net.zero_grad()
        net(x).square().sum().backward()
        for gradient, parameter in zip(found, net.parameters(), strict=True):
            require_equal(gradient, parameter.grad)
        net.zero_grad()


# --- equal sizes ----------------------------------------------------------------------------------

TOGETHER = ["x + y", "x * y.sum(1, keepdim=True)", "T.cat([x, y], 1)", "T.stack([x, y])"]
TOGETHER += ["x.t() @ y", "T.where(x > 0, x, y)", "x.view_as(y)", "F.mse_loss(x, y)"]
TOGETHER += ["F.cross_entropy(x, i)", "x.gather(1, i[:, None])", "T.einsum('bi,bj->ij', x, y)"]
TOGETHER += ["x.reshape(-1) + y.reshape(-1)", "F.cross_entropy(x @ y.t(), T.arange(x.shape[0]))"]
TOGETHER += ["x + 1 if x.shape == y.shape else x", "T.cat([x, y]) * T.cat([y, x])"]


@pytest.mark.parametrize("source", TOGETHER)
def test_equal_sizes_become_one(source: str) -> None:
    sizes = tuple(n for n in SIZES if n)  # a loss over nothing is checked above
    assert traces_over(f"return {source}", sizes) == 1


def test_sizes_that_are_no_longer_equal_are_traced_again() -> None:
    compiled = taut.compile(lambda x, y: x * y, dynamic=True)
    x = rows(5)
    for size in (5, 1, 5, 1):
        require_equal(compiled(x, rows(size)), x * rows(size))
    assert compiled.stats()["traces"] == 2
    with pytest.raises(RuntimeError, match=r"size of tensor a \(5\) must match .* tensor b \(3\)"):
        compiled(x, rows(3))


def test_a_size_that_must_be_a_number_becomes_it() -> None:
    compiled = taut.compile(lambda x: x.t() @ taut.ones(8, 2), dynamic=True)
    assert compiled(rows(8)).shape == (4, 2)
    (guard,) = compiled.guards()
    assert guard.startswith("x_0 == 8 (test_dynamic.py:")
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied \(4x7 and"):
        compiled(rows(7))


def test_a_size_of_one_that_broadcasts_becomes_one() -> None:
    compiled = taut.compile(lambda x: x + taut.zeros(8, 4), dynamic=True)
    assert [compiled(rows(n)).shape[0] for n in (1, 8, 1)] == [8, 8, 8]
    assert compiled.stats()["traces"] == 2


def test_learning_is_not_caught_by_the_traced_code() -> None:
    def function(x: Any, y: Any) -> Any:
        try:
            return x + y
        except Exception:  # noqa: BLE001  # the test's point
            return x

    compiled = taut.compile(function, dynamic=True)
    require_equal(compiled(rows(3), rows(3)), rows(3) * 2)


# --- sizes in expressions -------------------------------------------------------------------------

ONE_TRACE = ["x.flatten()", "x.view(-1, 2)", "x.reshape(x.shape[0] * 4)", "x.sum(0)", "x.mean(0)"]
ONE_TRACE += ["V.expand(x.shape[0], 4)", "T.arange(x.shape[0])", "T.arange(1, x.shape[0] + 3, 2)"]
ONE_TRACE += [
    "x[: x.shape[0] // 2]",
    "x[x.shape[0] // 2 :]",
    "x[::2]",
    "x.flip(0)",
    "T.eye(len(V))",
]
ONE_TRACE += ["x * (x.shape[0] / 2)", "x / x.shape[0]", "x.numel(), x.size(0) // 2, x.shape"]
ONE_TRACE += ["x.shape[0] * 1.5", "divmod(x.shape[0], 2)", "x * x.shape[0] ** 2", "i * x.shape[0]"]
ONE_TRACE += [
    "T.tril(T.ones(x.shape[0], x.shape[0]))",
    "x.repeat(2, 1)",
    "x.softmax(0)",
    "x[i[:0]]",
]
ONE_TRACE += ["T.eye(x.shape[0])", "x.new_zeros(x.size(0), 2)", "x.split([0, x.shape[0]])"]

FEW_TRACES = {
    "x[:2]": 2,
    "x[-3:]": 2,
    "x[1:-1]": 3,
    "x.roll(1, 0)": 2,
    "x.roll(2, 0)": 3,
    "x.roll(-1)": 2,
    "x.squeeze()": 2,
    "x[:, :1].squeeze()": 2,
    "x[0]": 1,
    "x.narrow(0, 0, 2)": 1,
    "x.amax(0)": 1,
    "x * 2 if x.shape[0] > 4 else x": 2,
    "x[: min(x.shape[0], 4)]": 2,
    "x if x.shape[0] else x + 1": 2,
    "x + T.zeros(7, 4)": 2,
    "x.view(7, 4) if x.shape[0] == 7 else x[:1]": 3,
}
"""Sources by the programs that `SIZES` need; eager errors need none."""

A_TRACE_EACH = ["x.split(2)", "x.chunk(2)", "x * len(x)", "x + hash(x.shape[0])", "x.unbind(0)"]
A_TRACE_EACH += ["x + len(f'{x.shape[0]}')", "x * math.sqrt(x.shape[0])", "T.tensor(x.shape[0])"]
A_TRACE_EACH += ["[k for k in range(x.shape[0])]", "{1: 2}.get(x.shape[0], 3)", "int(x.size(0))"]


@pytest.mark.parametrize("source", ONE_TRACE)
def test_one_trace_serves_every_size(source: str) -> None:
    assert traces_over(f"return {source}") == 1


@pytest.mark.parametrize("source", FEW_TRACES)
def test_questions_are_guards(source: str) -> None:
    assert traces_over(f"return {source}") == FEW_TRACES[source]


@pytest.mark.parametrize("source", A_TRACE_EACH)
def test_what_needs_the_number_is_traced_for_it(source: str) -> None:
    sizes = (7, 3, 1, 2, 7)
    assert traces_over(f"return {source}", sizes) == len(set(sizes))


WRITES = ["x.mul_(2)\nreturn x[:, 1:]", "x[:2].add_(1)\nreturn x", "x[:, 0] = y[:, 1]\nreturn x"]
WRITES += ["x += y\nreturn x.t()", "z = x.clone()\nz[-1:] = 0.0\nreturn z, x[1:]"]


@pytest.mark.parametrize("source", WRITES)
def test_arguments_are_written_at_every_size(source: str) -> None:
    assert traces_over(source) <= 2


RANDOM = ["T.randn_like(x)", "F.dropout(x, 0.5)", "T.rand(x.shape[0])", "T.bernoulli(x.sigmoid())"]


@pytest.mark.parametrize("source", RANDOM)
def test_random_numbers_are_the_eager_ones(source: str) -> None:
    assert traces_over(f"T.manual_seed(x.shape[1])\nreturn {source}", (7, 7)) == 1
    function = function_of(f"return {source}")
    compiled = taut.compile(function, dynamic=True)
    for size in (7, 0, 1, 32, 3):
        taut.manual_seed(size)
        found = compiled(rows(size), None, None)
        taut.manual_seed(size)
        require_equal(found, function(rows(size), None, None))
    assert compiled.stats()["traces"] == 1


def test_a_guard_names_the_line_that_asked() -> None:
    compiled = taut.compile(lambda x: x * 2 if x.shape[0] > 4 else x, dynamic=True)
    compiled(rows(7))
    assert [g.partition(" (test_dynamic.py:")[0] for g in compiled.guards()] == ["x_0 >= 5"]
    compiled(rows(4))
    assert [g.partition(" (test_dynamic.py:")[0] for g in compiled.guards()] == ["x_0 < 5"]


def test_an_error_speaks_of_the_sizes_of_the_call() -> None:
    compiled = taut.compile(lambda x: x[5], dynamic=True)
    require_equal(compiled(rows(6)), rows(6)[5])
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension 0 with size 3"):
        compiled(rows(3))


def test_a_size_outlives_no_trace() -> None:
    kept: ContextVar[Any] = ContextVar("kept")

    def keep(x: Any) -> Any:
        kept.set(x.shape[0])
        return x

    taut.compile(keep, dynamic=True)(rows(3))
    with pytest.raises(RuntimeError, match="used after the trace had ended"):
        int(kept.get())


def test_a_size_that_is_kept_is_a_number() -> None:
    kept: list[Any] = []

    @taut.compile(dynamic=True)
    def keep(x: Any) -> Any:
        kept.append(x.shape[0])
        return x

    keep(rows(3))
    keep(rows(5))
    assert kept == [3, 5]


def test_types_with_one_name_are_traced_with_it() -> None:
    size = taut.compiler.aval.symbol("B")
    x = taut.compiler.aval.Aval(taut.float32, (size, 8))
    y = taut.compiler.aval.Aval(taut.int64, (size,))
    step, _ = classifier()
    graph = step.graph_for(x, y).graph
    assert [str(v.aval) for v in graph.inputs[:2]] == ["f32[B,8]", "i64[B]"]


def test_names_of_types_are_not_equal() -> None:
    x, y = (taut.compiler.aval.Aval(taut.float32, (taut.compiler.aval.symbol(n),)) for n in "BN")
    with pytest.raises(RuntimeError, match=r"tensor a \(B\) must match .* tensor b \(N\)"):
        taut.compile(lambda x, y: x + y).graph_for(x, y)


def test_questions_about_types_are_checks_of_the_program() -> None:
    x = taut.compiler.aval.Aval(taut.float32, (taut.compiler.aval.symbol("B"),))
    graph = taut.compile(lambda x: x[:2] if x.shape[0] > 4 else x).graph_for(x).graph
    found = [check.message.partition(" (")[0] for check in graph.checks]
    assert found == [f"RuntimeError: traced for sizes with B >= {n}" for n in (5, 2)]


def test_a_value_asked_of_a_type_is_an_error() -> None:
    x = taut.compiler.aval.Aval(taut.float32, (taut.compiler.aval.symbol("B"),))
    with pytest.raises(RuntimeError, match=r"value of the size B is not known .*test_dynamic.py"):
        taut.compile(lambda x: x * len(x)).graph_for(x)


def test_sizes_alternate_without_a_trace() -> None:
    compiled = taut.compile(lambda x, y: (x * y).sum(0), dynamic=True)
    found = [compiled(rows(n), rows(n)) for n in (32, 7) * 3]
    for (a, b), (c, d) in pairwise(zip(found[::2], found[1::2], strict=True)):
        require_equal(a, c)
        require_equal(b, d)
    assert compiled.stats()["traces"] == 1
