"""`compile`: state found and updated, one native call, gradients, guards, conventions, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn, optim
from taut.runtime.options import default_options

pytestmark = pytest.mark.quick
Optimizer = Callable[[Any], Any]

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "dampening": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


class Trainer:
    """A small network with its optimizer and a step."""

    def __init__(self, optimizer: Optimizer, zero_grad: bool = True) -> None:
        taut.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.optimizer = optimizer(self.net.parameters())
        self.criterion = nn.MSELoss()
        self.zero_grad = zero_grad

    def step(self, x: Any, y: Any) -> Any:
        """One step of training."""
        if self.zero_grad:
            self.optimizer.zero_grad()
        loss = self.criterion(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def state(self) -> list[Any]:
        """All parameters and optimizer state, as arrays."""
        kept = [p.detach().numpy().copy() for p in self.net.parameters()]
        for entry in self.optimizer.state.values():
            kept += [v.numpy().copy() for v in entry.values() if isinstance(v, taut.Tensor)]
        return kept


def data(n: int = 5) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = taut.from_numpy(rng.normal(size=(n, 4)).astype(np.float32))
    y = taut.from_numpy(rng.normal(size=(n, 2)).astype(np.float32))
    return x, y


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("zero_grad", [True, False], ids=["zeroed", "accumulated"])
def test_a_hundred_steps_equal_eager(name: str, zero_grad: bool) -> None:
    eager, compiled = (Trainer(OPTIMIZERS[name], zero_grad) for _ in range(2))
    step = taut.compile(compiled.step)
    x, y = data()
    steps = 100 if zero_grad else 10  # accumulated gradients amplify rounding
    for _ in range(steps):
        want, got = eager.step(x, y), step(x, y)
        # float32: a few roundings a step, through 100 contracting steps.
        np.testing.assert_allclose(got.item(), want.item(), rtol=2e-4, atol=1e-6)
    for got, want in zip(compiled.state(), eager.state(), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-6)


def test_a_step_is_one_graph_and_one_native_call() -> None:
    trainer = Trainer(OPTIMIZERS["adam"])
    step = taut.compile(trainer.step)
    x, y = data()
    for _ in range(7):
        step(x, y)
    assert step.stats() == {"traces": 1, "calls": 7, "native_calls": 7}


@pytest.mark.skipif(
    default_options().kernels == "python", reason="kernels that Python runs are made of NumPy"
)
def test_no_numpy_function_runs_during_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(OPTIMIZERS["adamw"])
    step = taut.compile(trainer.step)
    x, y = data()
    for _ in range(2):
        step(x, y)
    before = trainer.state()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("NumPy was called during a compiled step")

    import scipy.linalg
    import scipy.linalg.blas
    import scipy.special

    allowed = {"empty", "ndarray"}  # memory for results, no computation
    with monkeypatch.context() as patch:
        for module in (np, np.linalg, scipy.linalg, scipy.linalg.blas, scipy.special):
            for name in dir(module):
                function = getattr(module, name)
                if callable(function) and not isinstance(function, type) and name not in allowed:
                    patch.setattr(module, name, refuse)
        loss = step(x, y)
    assert np.isfinite(loss.item())
    assert any((a != b).any() for a, b in zip(before, trainer.state(), strict=True))


def test_a_schedule_does_not_retrace() -> None:
    trainer, reference = Trainer(OPTIMIZERS["sgd"]), Trainer(OPTIMIZERS["sgd"])
    step = taut.compile(trainer.step)
    x, y = data()
    for number in range(5):
        for each in (trainer, reference):
            each.optimizer.param_groups[0]["lr"] = 0.1 / (number + 1)
        step(x, y)
        reference.step(x, y)
    assert step.stats()["traces"] == 1
    for got, want in zip(trainer.state(), reference.state(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_gradients_that_were_looked_at_never_change() -> None:
    trainer = Trainer(OPTIMIZERS["sgd"])
    step = taut.compile(trainer.step)
    x, y = data()
    step(x, y)
    weight = next(iter(trainer.net.parameters()))
    kept = weight.grad
    assert kept is not None
    values = kept.numpy().copy()
    step(x, y)
    step(x, y)
    np.testing.assert_array_equal(kept.numpy(), values)
    assert weight.grad is not None
    assert weight.grad is not kept
    assert (weight.grad.numpy() != values).any()


def test_results_of_earlier_calls_never_change() -> None:
    trainer = Trainer(OPTIMIZERS["sgd"])
    step = taut.compile(trainer.step)
    losses = [step(*data()) for _ in range(5)]
    values = [loss.item() for loss in losses]
    for _ in range(2000):  # past any block of results
        step(*data())
    assert [loss.item() for loss in losses] == values
    assert len(set(values)) == 5


def test_eager_and_compiled_steps_mix() -> None:
    mixed, eager = Trainer(OPTIMIZERS["momentum"]), Trainer(OPTIMIZERS["momentum"])
    step = taut.compile(mixed.step)
    x, y = data()
    for number in range(9):
        (mixed.step if number % 3 == 2 else step)(x, y)
        eager.step(x, y)
    for got, want in zip(mixed.state(), eager.state(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_a_replaced_parameter_is_noticed() -> None:
    net = nn.Linear(3, 1)
    forward = taut.compile(lambda x: net(x).sum())
    x = taut.ones(2, 3)
    with taut.no_grad():
        forward(x)
        net.weight = nn.Parameter(taut.zeros(1, 3))
        net.bias = nn.Parameter(taut.ones(1))
        assert forward(x).item() == 2.0
        net.weight.data = taut.ones(1, 3)
        assert forward(x).item() == 8.0


def test_training_mode_is_noticed() -> None:
    net = nn.Sequential(nn.Dropout(0.5))
    forward = taut.compile(lambda x: net(x))  # noqa: PLW0108  # a function that reads the module
    x = taut.ones(1000)
    assert 300 < (forward(x) == 0).sum().item() < 700
    net.eval()
    assert (forward(x) == 0).sum().item() == 0
    net.train()
    assert (forward(x) == 0).sum().item() > 0


def test_random_numbers_are_those_of_eager_mode() -> None:
    def draw(x: Any) -> Any:
        return x + taut.rand(5) * taut.randn(20)[:5]

    compiled = taut.compile(draw)
    x = taut.zeros(5)
    taut.manual_seed(7)
    want = [draw(x).tolist() for _ in range(3)]
    taut.manual_seed(7)
    got = [compiled(x).tolist() for _ in range(3)]
    np.testing.assert_allclose(got, want, rtol=1e-6)


scale = 2.0


def test_a_changed_global_is_noticed() -> None:
    compiled = taut.compile(lambda x: x * scale)
    assert compiled(taut.ones(2)).tolist() == [2.0, 2.0]
    globals().update(scale=3.0)
    try:
        assert compiled(taut.ones(2)).tolist() == [3.0, 3.0]
    finally:
        globals().update(scale=2.0)


def test_a_changed_closure_variable_is_noticed() -> None:
    offset = 1

    def add(x: Any) -> Any:
        return x + offset

    compiled = taut.compile(add)
    assert compiled(taut.zeros(1)).item() == 1
    offset = 5
    assert compiled(taut.zeros(1)).item() == 5


def test_types_of_arguments_specialise() -> None:
    compiled = taut.compile(lambda x: x * 2)
    assert compiled(taut.ones(2)).dtype is taut.float32
    assert compiled(taut.ones(2, dtype=taut.float64)).dtype is taut.float64
    assert compiled(taut.ones(3)).shape == (3,)
    assert compiled(taut.ones(2)).tolist() == [2, 2]
    assert compiled.stats()["traces"] == 3


def test_views_of_results_and_equal_results_carry_gradients() -> None:
    weight = taut.ones(2, 3, requires_grad=True)
    x = taut.arange(8.0).reshape(4, 2)

    def function() -> Any:
        return x @ weight, (x @ weight)[::2].t(), x @ weight

    gradients: list[Any] = []
    for called in (function, taut.compile(function)):
        first, view, last = called()
        (first.sum() + view[1].sum() * 2 + last[0].sum() * 3).backward()
        gradients.append(weight.grad)
        weight.grad = None
    assert gradients[0].tolist() == gradients[1].tolist()


def test_dynamic_serves_every_size_with_one_program() -> None:
    compiled = taut.compile(lambda x: (x * x).sum(1), dynamic=True)
    for size in (3, 0, 1, 2, 7, 32, 1000):
        x = taut.arange(size * 2.0).reshape(size, 2)
        assert compiled(x).tolist() == (x * x).sum(1).tolist()
    assert compiled.stats()["traces"] == 1


def test_floats_are_run_time_scalars() -> None:
    compiled = taut.compile(lambda x, s: x * s)
    assert compiled(taut.ones(2), 2.0).tolist() == [2, 2]
    assert compiled(taut.ones(2), 3.5).tolist() == [3.5, 3.5]
    assert compiled.stats()["traces"] == 1


def test_a_float_that_steers_specialises() -> None:
    compiled = taut.compile(lambda x, s: x * s if s > 1 else x - s)
    assert compiled(taut.ones(2), 2.0).tolist() == [2, 2]
    assert compiled(taut.ones(2), 0.5).tolist() == [0.5, 0.5]
    assert compiled(taut.ones(2), 2.0).tolist() == [2, 2]


def test_nested_arguments_and_results() -> None:
    def function(batch: dict[str, Any], pair: tuple[Any, Any], *, flag: bool = False) -> Any:
        total = batch["a"] + pair[0] * pair[1]
        return {"total": total, "parts": [batch["a"], (total, flag)]}

    compiled = taut.compile(function)
    a, b, c = taut.ones(2), taut.ones(2) * 2, taut.ones(2) * 3
    result = compiled({"a": a}, (b, c), flag=True)
    assert result["total"].tolist() == [7, 7]
    assert result["parts"][0] is a
    assert result["parts"][1][1] is True
    assert compiled({"a": a}, (b, c))["parts"][1][1] is False


def test_writes_in_place_reach_the_argument() -> None:
    def bump(x: Any) -> Any:
        x.add_(1)
        x[0] = 10
        return x.sum()

    compiled = taut.compile(bump)
    x = taut.zeros(3)
    assert compiled(x).item() == 12
    assert x.tolist() == [10, 1, 1]
    assert compiled(x).item() == 14


def test_a_captured_buffer_is_updated_through_a_view() -> None:
    table = taut.zeros(3, 2)

    @taut.compile
    def write(row: Any) -> Any:
        table[1].copy_(row)
        return table.sum()

    assert write(taut.tensor([1.0, 2.0])).item() == 3
    assert table.tolist() == [[0, 0], [1, 2], [0, 0]]


def test_slices_of_one_tensor_share_a_program() -> None:
    compiled = taut.compile(lambda x: x * 2)
    x = taut.arange(12.0).reshape(6, 2)
    for start in range(0, 6, 2):
        assert compiled(x[start : start + 2]).tolist() == (x[start : start + 2] * 2).tolist()
    assert compiled(x.t()[:, :2]).tolist() == (x.t()[:, :2] * 2).tolist()  # strided: copied
    assert compiled.stats()["traces"] <= 2


def test_backward_outside_a_compiled_forward() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    twin = copy.deepcopy(net)
    compiled = taut.compile(net)
    x, y = data()
    for model in (compiled, twin):
        nn.MSELoss()(model(x), y).backward()
    for got, want in zip(net.parameters(), twin.parameters(), strict=True):
        assert got.grad is not None
        assert want.grad is not None
        np.testing.assert_allclose(got.grad.numpy(), want.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_a_compiled_module_keeps_its_keys_and_its_class() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    compiled = taut.compile(net)
    assert list(compiled.state_dict()) == ["0.weight", "0.bias"]
    assert isinstance(compiled, nn.Sequential)
    assert compiled[0] is net[0]
    with taut.no_grad():
        np.testing.assert_allclose(
            compiled(taut.ones(1, 2)).numpy(), net(taut.ones(1, 2)).numpy(), rtol=1e-6
        )


def test_a_method_is_compiled_for_each_instance() -> None:
    class Scaler:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        @taut.compile
        def scale(self, x: Any) -> Any:
            return x * self.factor

    assert Scaler(2.0).scale(taut.ones(1)).item() == 2
    assert Scaler(3.0).scale(taut.ones(1)).item() == 3


def test_compiled_functions_nest() -> None:
    inner = taut.compile(lambda x: x * 2)
    outer = taut.compile(lambda x: inner(x) + 1)
    assert outer(taut.ones(1)).item() == 3
    assert inner.stats()["calls"] == 0


def test_conventions_of_torch_compile() -> None:
    def double(x: Any) -> Any:
        return x * 2

    x = taut.ones(1)
    assert taut.compile(double, fullgraph=True, mode="max-autotune")(x).item() == 2
    assert taut.compile(backend="inductor")(double)(x).item() == 2
    assert taut.compile(double, backend="eager")(x).item() == 2
    assert taut.compile(double, disable=True) is double
    with pytest.raises(ValueError, match="unknown backend 'lvm'; did you mean 'llvm'"):
        taut.compile(double, backend="lvm")
    with pytest.raises(TypeError, match="takes a function or a module, got int"):
        taut.compile(3)  # type: ignore[call-overload]  # the mistake that is refused


UNTRACEABLE: dict[str, Callable[[Any], Any]] = {
    "item": lambda x: x * x.sum().item(),
    "bool": lambda x: x if x.sum() > 0 else -x,
    "float": lambda x: float(x[0]),
    "numpy": lambda x: taut.from_numpy(x.numpy()),
    "tolist": lambda x: x.tolist(),
    "format": lambda x: f"{x[0]:.2f}",
}


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_what_cannot_be_traced_raises_at_the_users_line(name: str) -> None:
    compiled = taut.compile(UNTRACEABLE[name])
    with pytest.raises(RuntimeError, match=r"not known while tracing \(test_compile\.py:\d+\)"):
        compiled(taut.ones(3))


def test_a_traced_call_that_raises_leaves_nothing_behind() -> None:
    trainer = Trainer(OPTIMIZERS["sgd"])
    x, y = data()

    def failing(x: Any, y: Any) -> Any:
        trainer.step(x, y)
        raise KeyError("stop")

    before = trainer.state()
    grads = [p.grad for p in trainer.net.parameters()]
    with pytest.raises(KeyError, match="stop"):
        taut.compile(failing)(x, y)
    assert [p.grad for p in trainer.net.parameters()] == grads
    for got, want in zip(trainer.state(), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_tensor_of_a_trace_does_not_outlive_it() -> None:
    kept: ContextVar[Any] = ContextVar("kept")

    @taut.compile
    def leak(x: Any) -> Any:
        kept.set(x * 2)
        return x

    leak(taut.ones(1))
    with pytest.raises(RuntimeError, match="used after the trace had ended"):
        _ = kept.get() + 1


def test_a_failing_check_leaves_the_state_untouched() -> None:
    embedding = nn.Embedding(4, 2)
    optimizer = optim.SGD(embedding.parameters(), lr=0.1)

    @taut.compile
    def step(index: Any) -> Any:
        optimizer.zero_grad()
        loss = embedding(index).sum()
        loss.backward()
        optimizer.step()
        return loss

    step(taut.tensor([1, 2]))
    before = embedding.weight.detach().numpy().copy()
    with pytest.raises(IndexError, match="index"):
        step(taut.tensor([1, 9]))
    np.testing.assert_array_equal(embedding.weight.detach().numpy(), before)
    step(taut.tensor([3, 0]))
    assert (embedding.weight.detach().numpy() != before).any()


def test_a_failing_check_of_a_compiled_forward_raises_as_eager_mode_does() -> None:
    embedding = taut.compile(nn.Embedding(4, 2))
    assert embedding(taut.tensor([1, 2])).shape == (2, 2)
    with pytest.raises(IndexError, match="index out of range"):
        embedding(taut.tensor([1, 9]))


def test_arguments_that_overlap_written_state_are_refused() -> None:
    table = taut.zeros(2)

    @taut.compile
    def add(x: Any) -> Any:
        table.add_(1)
        x.add_(1)
        return table + x

    add(taut.ones(2))
    with pytest.raises(RuntimeError, match="shares memory"):
        add(table)


def test_backward_outside_with_a_single_gradient() -> None:
    w = taut.ones(3, requires_grad=True)
    taut.compile(lambda x: x * w)(taut.ones(3) * 2).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [2.0, 2.0, 2.0]


def test_a_forward_may_write_a_leaf_and_be_differentiated() -> None:
    w = taut.ones(3, requires_grad=True)

    def forward(x: Any) -> Any:
        with taut.no_grad():
            w.mul_(2)
        return (x * w * w).sum()

    taut.compile(forward)(taut.ones(3)).backward()
    assert w.tolist() == [2.0, 2.0, 2.0]
    assert w.grad is not None
    assert w.grad.tolist() == [4.0, 4.0, 4.0]


def test_gradients_of_arguments() -> None:
    square = taut.compile(lambda x: (x * x).sum().backward())
    x = taut.ones(2, requires_grad=True)
    square(x)
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 2.0]
    square(x)
    assert x.grad.tolist() == [4.0, 4.0]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("adam", ["m0_bias_exp_avg", "m0_bias_exp_avg_sq", "m0_bias_step"]),
        ("dampening", ["m0_bias_fresh", "m0_bias_momentum_buffer"]),
    ],
)
def test_the_state_of_an_optimizer_is_named_after_its_tensor(name: str, wanted: list[str]) -> None:
    trainer = Trainer(OPTIMIZERS[name])
    graph = taut.compile(trainer.step).graph_for(*data()).graph
    names = [graph.names.get(value, "") for value in graph.inputs]
    assert all(names)
    assert sorted(n for n in names if n.startswith("m0_bias_")) == wanted


def test_a_gradient_may_be_forgotten_where_several_are_found() -> None:
    w, b = taut.ones(2, requires_grad=True), taut.zeros(2, requires_grad=True)

    @taut.compile
    def step(rate: float) -> Any:
        loss = (w * 3 + b).sum()
        loss.backward()
        with taut.no_grad():
            assert w.grad is not None
            assert b.grad is not None
            w.sub_(rate * w.grad)
            b.sub_(rate * b.grad)
        w.grad = None
        b.grad = None
        return loss

    for rate in (0.5, 0.25):
        step(rate)
    assert (w.tolist(), b.tolist()) == ([-1.25, -1.25], [-0.75, -0.75])
    assert (w.grad, b.grad) == (None, None)


@pytest.mark.parametrize("backward", [False, True], ids=["plain", "differentiable"])
def test_state_whose_memory_is_not_in_order(backward: bool) -> None:
    numbers = np.arange(12, dtype=np.float32)
    turned = taut.arange(6.0).reshape(2, 3).t().clone()
    fortran = taut.from_numpy(np.asfortranarray(numbers.reshape(3, 4)[:, :2]))
    spread = taut.from_numpy(numbers[::2].reshape(3, 2))
    assert not any(t.is_contiguous() for t in (turned, fortran))
    w = nn.Parameter(turned.clone(), requires_grad=backward)

    def step(x: Any) -> Any:
        fortran.add_(x)
        spread.mul_(2)
        return turned * x + fortran + spread * w

    x = taut.ones(3, 2)
    want, kept = step(x).tolist(), (fortran.tolist(), spread.tolist())
    fortran.sub_(x)
    spread.div_(2)
    compiled = taut.compile(step)
    assert compiled(x).tolist() == want
    assert (fortran.tolist(), spread.tolist()) == kept
    again = compiled(x)
    assert again.requires_grad is backward
    assert fortran.tolist() == (taut.tensor(kept[0]) + 1).tolist()
    if backward:
        again.sum().backward()
        assert repr(w.grad) == repr(spread)


def test_a_detached_argument_is_a_result_without_history() -> None:
    x = taut.ones(2, 3, requires_grad=True)

    def function(x: Any) -> Any:
        return x, x.detach(), x.detach()[0], x[0], (x * 2).detach()

    for results in (function(x), taut.compile(function)(x)):
        assert results[0] is x
        assert [r.requires_grad for r in results] == [True, False, False, True, False]
        assert all(r.data_ptr() == x.data_ptr() for r in results[:4])


def test_a_literal_may_be_a_result_and_an_operand() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    @taut.compile
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = net(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    first, second = step(taut.ones(1, 3)), step(taut.ones(1, 3))
    assert second.item() < first.item()
    bias = list(net.parameters())[-1]
    assert bias.grad is not None
    assert bias.grad.tolist() == [1.0]


def test_the_sign_of_a_constant_zero_counts() -> None:
    zeros = taut.compile(lambda x: (x.sum(), taut.full((2,), 0.0), taut.full((2,), -0.0)))
    _, plus, minus = zeros(taut.ones(2))
    assert not np.signbit(plus.numpy()).any()
    assert np.signbit(minus.numpy()).all()


def test_a_buffer_that_counts_in_place() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", taut.zeros(()))

        def forward(self, x: Any) -> Any:
            """x plus the number of calls so far."""
            self.count += 1
            return x + self.count

    counter = Counter()
    forward = taut.compile(counter)
    assert [forward(taut.zeros(1)).item() for _ in range(3)] == [1.0, 2.0, 3.0]
    assert counter.count.item() == 3.0


def test_a_singular_matrix_raises_one_class_of_error() -> None:
    matrix = taut.tensor([[1.0, 2.0], [2.0, 4.0]])
    for solve in (taut.linalg.solve, taut.compile(taut.linalg.solve)):
        with pytest.raises(taut.linalg.LinAlgError):
            solve(matrix, taut.ones(2, 1))


def test_results_without_a_gradient_need_none() -> None:
    w = taut.ones(2, requires_grad=True)
    double, plain = taut.compile(lambda x: (x * w, x + 1))(taut.ones(2))
    assert double.requires_grad
    assert not plain.requires_grad


def test_what_a_differentiable_result_prints_as() -> None:
    w = nn.Parameter(taut.ones(2))
    result = taut.compile(lambda x: w * x)(taut.ones(2))
    assert repr(result) == "tensor([1., 1.], grad_fn=<CompiledFunctionBackward>)"


# --- tracing at length --------------------------------------------------------------------------


def test_variables_of_one_name_are_numbered_in_order() -> None:
    def function(x: Any) -> Any:
        y_2 = x * 2
        for _ in range(3):
            y = y_2 + x
            y = y * y  # the last value of a call has its variable's name
            y_2 = y
        return y_2

    compiled = taut.compile(function)
    compiled(taut.ones(2))
    names = list(compiled.recording().graph.names.values())
    assert names == ["x", "y_2", "y", "y_3", "y_4", "y_5", "y_6", "y_7"]


def test_names_that_are_free_again_are_given_again() -> None:
    from taut.frontend.trace import Trace

    trace = Trace("f")
    assert [trace._unique("a") for _ in range(3)] == ["a", "a_2", "a_3"]
    trace._free("a_2")
    assert [trace._unique(name) for name in ("a", "a", "a_2")] == ["a_2", "a_4", "a_2_2"]
    trace._free("a")
    assert trace._unique("a") == "a"


def test_the_collector_is_paused_only_while_compiling() -> None:
    import gc

    seen: ContextVar[bool] = ContextVar("seen")

    def function(x: Any) -> Any:
        seen.set(gc.isenabled())
        if x.shape[0] == 3:
            raise ValueError("a mistake")
        return x + 1

    compiled = taut.compile(function)
    compiled(taut.ones(2))
    assert seen.get() is False
    seen.set(True)
    with pytest.raises(ValueError, match="a mistake"):
        compiled(taut.ones(3))
    assert seen.get() is False
    assert gc.isenabled()
    gc.disable()
    try:
        compiled(taut.ones(4))
        assert not gc.isenabled()  # as it was
    finally:
        gc.enable()
