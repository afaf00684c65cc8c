"""Optimizers and schedules take PyTorch's steps, eager and compiled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn, optim
from taut.frontend.context import epoch
from taut.optim import lr_scheduler

SHAPES: tuple[tuple[int, ...], ...] = ((3, 4), (5,), (), (2, 1, 3))

OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "sgd": lambda o, p: o.SGD(p, lr=0.1),
    "sgd-decay": lambda o, p: o.SGD(p, lr=0.1, weight_decay=0.1),
    "sgd-momentum": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9),
    "sgd-nesterov": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "sgd-dampening": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "sgd-maximize": lambda o, p: o.SGD(p, lr=0.1, momentum=0.5, maximize=True),
    "adam": lambda o, p: o.Adam(p, lr=0.01),
    "adam-decay": lambda o, p: o.Adam(p, lr=0.01, weight_decay=0.1, maximize=True),
    "adam-amsgrad": lambda o, p: o.Adam(p, lr=0.01, amsgrad=True),
    "adam-betas": lambda o, p: o.Adam(p, lr=0.01, betas=(0.3, 0.5), eps=1e-3),
    "adamw": lambda o, p: o.AdamW(p, lr=0.01),
    "adamw-amsgrad": lambda o, p: o.AdamW(p, lr=0.01, weight_decay=0.2, amsgrad=True),
}
EVERY = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def starting_values(dtype: Any = np.float32) -> list[Any]:
    rng = np.random.default_rng(0)
    return [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]


def gradients(steps: int, dtype: Any = np.float32) -> list[list[Any]]:
    """Gradients that change sign and size, the same for all; one is missing now and then."""
    rng = np.random.default_rng(1)
    drawn: list[list[Any]] = [
        [np.asarray(rng.standard_normal(s) * 10.0 ** rng.integers(-3, 2), dtype) for s in SHAPES]
        for _ in range(steps)
    ]
    for number in range(5, steps, 7):
        drawn[number][1] = None
    return drawn


def parameters(dtype: Any = np.float32) -> list[nn.Parameter]:
    return [nn.Parameter(taut.from_numpy(v)) for v in starting_values(dtype)]


def take_steps(optimizer: Any, params: Sequence[Any], tensor: Any, grads: Sequence[Any]) -> None:
    for row in grads:
        for parameter, grad in zip(params, row, strict=True):
            parameter.grad = None if grad is None else tensor(grad.copy())
        optimizer.step()


def arrays(params: Sequence[Any]) -> list[Any]:
    return [p.detach().numpy().copy() for p in params]


def quadratic_run(optimizer: Any, parameter: Any, scales: Any, steps: int = 5) -> list[float]:
    """Minimises sum((p * scales)^2)."""
    for _ in range(steps):
        optimizer.zero_grad()
        ((parameter * scales) ** 2).sum().backward()
        optimizer.step()
    return parameter.tolist()  # type: ignore[no-any-return]  # a vector's


# --- numbers ----------------------------------------------------------------------------------

GOLDEN = [
    (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        [-0.4163600504398346, -0.0545133501291275, 0.9155855774879456],
    ),
    (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.5, dampening=0.25),
        [0.11501749604940414, -0.04744003340601921, 2.108721971511841],
    ),
    (
        lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
        [0.5079637169837952, -1.5029557943344116, 2.501779556274414],
    ),
    (
        lambda p: optim.AdamW(p, lr=0.1),
        [0.5040801763534546, -1.4940457344055176, 2.4878692626953125],
    ),
]


@pytest.mark.parametrize(("make", "expected"), GOLDEN)
def test_five_steps_give_pytorchs_numbers(make: Any, expected: list[float]) -> None:
    parameter = nn.Parameter(taut.tensor([1.0, -2.0, 3.0]))
    got = quadratic_run(make([parameter]), parameter, taut.tensor([1.0, 2.0, 0.5]))
    # 1e-6: PyTorch rounds once where it multiplies and adds, taut twice; five steps
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@EVERY
@pytest.mark.parametrize(
    # PyTorch fuses multiplication and addition, so that each step differs by a rounding of the
    # update: half an ulp of numbers of size 1, walking at random for 100 steps
    ("dtype", "tolerance"),
    [(np.float32, 2e-6), (np.float64, 4e-15)],
)
def test_a_hundred_steps_equal_torchs(make: Any, dtype: Any, tolerance: float) -> None:
    torch = pytest.importorskip("torch")
    mine = parameters(dtype)
    theirs = [torch.nn.Parameter(torch.from_numpy(v)) for v in starting_values(dtype)]
    optimizer, reference = make(optim, mine), make(torch.optim, theirs)
    take_steps(optimizer, mine, taut.from_numpy, gradients(100, dtype))
    take_steps(reference, theirs, torch.from_numpy, gradients(100, dtype))
    for got, expected in zip(arrays(mine), arrays(theirs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    for p, q in zip(mine, theirs, strict=True):
        assert optimizer.state[p].keys() == reference.state[q].keys()
        for key, value in reference.state[q].items():
            held = optimizer.state[p][key]
            assert held.numpy().dtype == value.numpy().dtype
            scale = float(value.abs().max()) + 1e-30
            np.testing.assert_allclose(held.numpy(), value.numpy(), rtol=0, atol=tolerance * scale)


@EVERY
def test_repr_and_state_dict_have_torchs_form(make: Any) -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = (
        parameters(),
        [torch.nn.Parameter(torch.from_numpy(v)) for v in starting_values()],
    )
    optimizer, reference = make(optim, mine), make(torch.optim, theirs)
    assert repr(optimizer) == repr(reference)
    take_steps(optimizer, mine, taut.from_numpy, gradients(1))
    take_steps(reference, theirs, torch.from_numpy, gradients(1))
    got, expected = optimizer.state_dict(), reference.state_dict()
    assert got["param_groups"] == expected["param_groups"]
    assert got["state"].keys() == expected["state"].keys()
    for number, values in expected["state"].items():
        assert {k: (tuple(v.shape), str(v.dtype)) for k, v in got["state"][number].items()} == {
            k: (tuple(v.shape), str(v.dtype)) for k, v in values.items()
        }


def test_momentum_starts_from_the_gradient_itself() -> None:
    """Signed zeros too: PyTorch's first velocity is a copy of the gradient, not 0 + gradient."""
    parameter = nn.Parameter(taut.zeros(2))
    optimizer = optim.SGD([parameter], lr=1.0, momentum=0.9, dampening=0.5)
    parameter.grad = taut.tensor([-0.0, 2.0])
    optimizer.step()
    buffer = optimizer.state[parameter]["momentum_buffer"]
    assert buffer.tolist() == [0.0, 2.0]
    assert np.signbit(buffer.numpy()[0])
    assert buffer is not parameter.grad
    assert parameter.grad.tolist() == [-0.0, 2.0]


def test_a_missing_gradient_leaves_parameter_and_state() -> None:
    a, b = nn.Parameter(taut.ones(1)), nn.Parameter(taut.ones(1))
    optimizer = optim.Adam([a, b])
    a.grad = taut.ones(1)
    optimizer.step()
    assert b.tolist() == [1.0]
    assert b not in optimizer.state
    assert a.tolist() != [1.0]


def test_steps_are_writes_in_place() -> None:
    parameter = nn.Parameter(taut.ones(2))
    optimizer = optim.SGD([parameter], lr=0.5)
    address, memory = parameter.data_ptr(), parameter.detach()
    loss = (parameter * parameter).sum()
    parameter.grad = taut.ones(2)
    optimizer.step()
    assert parameter.data_ptr() == address
    assert memory.tolist() == [0.5, 0.5]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_learning_rate_may_be_a_tensor_or_numpy_number() -> None:
    for rate in (taut.tensor(0.5), np.float64(0.5)):
        parameter = nn.Parameter(taut.ones(1))
        optimizer = optim.SGD([parameter], lr=rate)
        parameter.grad = taut.ones(1)
        optimizer.step()
        assert parameter.tolist() == [0.5]
        assert parameter.dtype is taut.float32


# --- in a trace -------------------------------------------------------------------------------


def traced_stepper(optimizer: Any, params: Sequence[Any]) -> Any:
    @taut.compile
    def step(*grads: Any) -> None:
        for parameter, grad in zip(params, grads, strict=True):
            parameter.grad = grad * 1.0
        optimizer.step()

    return step


def traced_steps(optimizer: Any, params: Sequence[Any], grads: Sequence[Any]) -> Any:
    step = traced_stepper(optimizer, params)
    for row in grads:
        step(*[taut.from_numpy(g.copy()) for g in row])
    return step


def full_gradients(steps: int) -> list[list[Any]]:
    return [row for row in gradients(2 * steps) if all(g is not None for g in row)][:steps]


@EVERY
def test_a_compiled_step_equals_the_eager_one(make: Any) -> None:
    """The first call, which creates the state, is compiled too; afterwards both ways share it."""
    eager, compiled = parameters(), parameters()
    first, second = make(optim, eager), make(optim, compiled)
    grads = full_gradients(60)
    take_steps(first, eager, taut.from_numpy, grads)
    step = traced_steps(second, compiled, grads[:30])
    assert step.stats()["traces"] == 1
    take_steps(second, compiled, taut.from_numpy, grads[30:45])
    traced_steps(second, compiled, grads[45:])
    for got, expected in zip(arrays(compiled), arrays(eager), strict=True):
        # 1e-6: float32 rounding of a power and a root that the compiled step takes in its own way
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_a_schedule_reaches_a_compiled_step_without_retracing() -> None:
    eager, compiled = parameters(), parameters()
    first, second = optim.AdamW(eager, lr=0.1), optim.AdamW(compiled, lr=0.1)
    schedules = [lr_scheduler.ExponentialLR(o, 0.8) for o in (first, second)]
    step = traced_stepper(second, compiled)
    for row in full_gradients(20):
        take_steps(first, eager, taut.from_numpy, [row])
        step(*[taut.from_numpy(g.copy()) for g in row])
        for schedule in schedules:
            schedule.step()
    assert step.stats()["traces"] == 1
    for got, expected in zip(arrays(compiled), arrays(eager), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o.param_groups[0].update(weight_decay=0.5),
        lambda o: o.param_groups[0].__setitem__("maximize", True),
        lambda o: o.param_groups[0].__setitem__("betas", (0.5, 0.6)),
        lambda o: o.state.clear(),
        lambda o: o.state[o.param_groups[0]["params"][0]].__setitem__("step", taut.tensor(50.0)),
        lambda o: o.load_state_dict(copy.deepcopy(o.state_dict())),
        lambda o: o.param_groups[0]["params"].pop(),
    ],
)
def test_no_stale_values_in_a_compiled_step(change: Any) -> None:
    """Whatever is exchanged in the optimizer between calls counts from the next call on."""
    eager, compiled = parameters(), parameters()
    first, second = optim.Adam(eager, lr=0.1), optim.Adam(compiled, lr=0.1)
    step = traced_stepper(second, compiled)
    for number, row in enumerate(full_gradients(8)):
        if number == 4:
            change(first)
            change(second)
        take_steps(first, eager, taut.from_numpy, [row])
        step(*[taut.from_numpy(g.copy()) for g in row])
    for got, expected in zip(arrays(compiled), arrays(eager), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_changes_inside_a_compiled_step_are_refused() -> None:
    parameter = nn.Parameter(taut.ones(1))
    optimizer = optim.Adam([parameter])
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)

    @taut.compile
    def step(grad: Any) -> None:
        parameter.grad = grad * 1.0
        optimizer.step()
        schedule.step()

    with pytest.raises(RuntimeError, match=r"\['lr'\] was changed while tracing \(test_optim.py:"):
        step(taut.ones(1))
    assert parameter.tolist() == [1.0]
    assert optimizer.param_groups[0]["lr"] == 1e-3


class Signs(optim.Optimizer):
    """A user's own: `step` overridden, numbers read as they are."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @taut.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.sign() * group["lr"])


def test_a_users_optimizer_compiles_and_follows_its_schedule() -> None:
    eager, compiled = parameters(), parameters()
    first, second = Signs(eager, lr=0.1), Signs(compiled, lr=0.1)
    schedules = [lr_scheduler.StepLR(o, 3) for o in (first, second)]
    step = traced_stepper(second, compiled)
    for row in full_gradients(8):
        take_steps(first, eager, taut.from_numpy, [row])
        step(*[taut.from_numpy(g.copy()) for g in row])
        for schedule in schedules:
            schedule.step()
    for got, expected in zip(arrays(compiled), arrays(eager), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_a_counter_kept_as_a_number_is_refused_when_compiled() -> None:
    class Counting(Signs):
        def step(self, closure: Any = None) -> None:
            super().step(closure)
            state = self.state[self.param_groups[0]["params"][0]]
            state["count"] = state.get("count", 0) + 1

    parameter = nn.Parameter(taut.ones(1))
    step = traced_stepper(Counting([parameter], 0.1), [parameter])
    with pytest.raises(
        RuntimeError, match="an optimizer's state 'count' was changed while tracing"
    ):
        step(taut.ones(1))


# --- groups and state -------------------------------------------------------------------------


def test_groups_have_their_own_hyperparameters() -> None:
    a, b = nn.Parameter(taut.ones(1)), nn.Parameter(taut.ones(1))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    c = nn.Parameter(taut.ones(1))
    optimizer.add_param_group({"params": [c], "lr": 1.0})
    for parameter in (a, b, c):
        parameter.grad = taut.ones(1)
    optimizer.step()
    np.testing.assert_allclose([a.item(), b.item(), c.item()], [0.9, 0.5, 0.0], rtol=1e-6)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 1.0]


def test_named_parameters_keep_their_names() -> None:
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    with pytest.raises(ValueError, match="cannot add param group without names to the optimizer"):
        optimizer.add_param_group({"params": [nn.Parameter(taut.ones(1))]})


def test_zero_grad_forgets_or_fills() -> None:
    parameter = nn.Parameter(taut.ones(1))
    optimizer = optim.SGD([parameter])
    parameter.grad = taut.ones(1)
    optimizer.zero_grad(set_to_none=False)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [0.0]
    optimizer.zero_grad()
    assert parameter.grad is None


def test_closure_is_called_with_gradients_on() -> None:
    parameter = nn.Parameter(taut.ones(1))
    optimizer = optim.SGD([parameter], lr=0.25)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (parameter * parameter).sum()
        loss.backward()
        return loss

    with taut.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 1.0
    assert parameter.tolist() == [0.5]


@EVERY
def test_state_dict_resumes_where_it_was_taken(make: Any) -> None:
    grads = gradients(20)
    whole, first, second = parameters(), parameters(), parameters()
    reference = make(optim, whole)
    take_steps(reference, whole, taut.from_numpy, grads)
    start = make(optim, first)
    take_steps(start, first, taut.from_numpy, grads[:10])
    for target, value in zip(second, arrays(first), strict=True):
        target.data = taut.from_numpy(value)
    resumed = make(optim, second)
    resumed.load_state_dict(start.state_dict())
    for group in resumed.param_groups:
        assert [id(p) for p in group["params"]] == [id(p) for p in second]
    take_steps(resumed, second, taut.from_numpy, grads[10:])
    for got, expected in zip(arrays(second), arrays(whole), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_loaded_state_is_a_copy_in_the_parameters_dtype() -> None:
    single, double = nn.Parameter(taut.ones(2)), nn.Parameter(taut.ones(2, dtype=taut.float64))
    source, target = optim.Adam([single]), optim.Adam([double], lr=7.0)
    single.grad = taut.ones(2)
    source.step()
    target.load_state_dict(source.state_dict())
    state = target.state[double]
    assert state["exp_avg"].dtype is taut.float64
    assert state["step"].dtype is taut.float32
    assert target.param_groups[0]["lr"] == 1e-3
    source.step()
    assert state["step"].item() == 1.0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])  # noqa: S301  # our own bytes
def test_copies_of_an_optimizer_stand_alone(copied: Any) -> None:
    parameter = nn.Parameter(taut.ones(2))
    optimizer = optim.SGD([parameter], lr=0.5, momentum=0.9)
    parameter.grad = taut.ones(2)
    optimizer.step()
    other = copied(optimizer)
    own = other.param_groups[0]["params"][0]
    own.grad = taut.ones(2)
    other.step()
    assert parameter.tolist() == [0.5, 0.5]
    assert own.tolist() != [0.5, 0.5]
    assert other.state[own]["momentum_buffer"].tolist() == pytest.approx([1.9, 1.9])


def test_hooks_run_around_a_step() -> None:
    parameter, seen = nn.Parameter(taut.ones(1)), list[str]()
    optimizer = optim.SGD([parameter])
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append("before"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append("after"))
    optimizer.step()
    before.remove()
    optimizer.step()
    assert seen == ["before", "after", "after"]


def test_changes_of_structure_are_announced_and_rates_are_not() -> None:
    parameter = nn.Parameter(taut.ones(1))
    optimizer = optim.SGD([parameter], lr=0.1)
    before = epoch.count
    optimizer.param_groups[0]["lr"] = 0.2
    assert epoch.count == before
    for change in (
        lambda: optimizer.param_groups[0].update(lr=0.3),
        lambda: optimizer.param_groups[0].__setitem__("lr", 0.0),
        lambda: optimizer.param_groups[0].__setitem__("nesterov", True),
        lambda: optimizer.state[parameter],
        lambda: optimizer.state.__delitem__(parameter),
        optimizer.state.clear,
        lambda: optimizer.param_groups[0]["params"].append(nn.Parameter(taut.ones(1))),
        lambda: setattr(optimizer, "state", optimizer.state),
    ):
        before = epoch.count
        change()
        assert epoch.count > before


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda p: optim.SGD(p, lr=-1.0), ValueError, "Invalid learning rate: -1.0"),
    (lambda p: optim.SGD(p, momentum=-1), ValueError, "Invalid momentum value: -1"),
    (lambda p: optim.SGD(p, weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    (
        lambda p: optim.SGD(p, nesterov=True),
        ValueError,
        "Nesterov momentum requires a momentum and zero dampening",
    ),
    (lambda p: optim.Adam(p, lr=-1.0), ValueError, "Invalid learning rate: -1.0"),
    (lambda p: optim.Adam(p, eps=-1.0), ValueError, "Invalid epsilon value: -1.0"),
    (
        lambda p: optim.Adam(p, betas=(1.0, 0.9)),
        ValueError,
        "Invalid beta parameter at index 0: 1.0",
    ),
    (
        lambda p: optim.Adam(p, betas=(0.9, -1.0)),
        ValueError,
        "Invalid beta parameter at index 1: -1.0",
    ),
    (lambda p: optim.AdamW(p, weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    (lambda p: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
    (
        lambda p: optim.SGD(p[0]),
        TypeError,
        "an iterable of Tensors or dicts, but got torch.FloatTensor",
    ),
    (
        lambda p: optim.SGD([3]),
        TypeError,
        "optimizer can only optimize Tensors, but one of the params is int",
    ),
    (lambda p: optim.SGD([p[0] * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    (
        lambda p: optim.SGD([{"params": p}, {"params": p[:1]}]),
        ValueError,
        "some parameters appear in more than one",
    ),
    (lambda p: optim.SGD([{"params": set(p)}]), TypeError, "organized in ordered collections"),
    (
        lambda p: optim.SGD(p).add_param_group(p),
        TypeError,
        "param_group must be a dict, but got <class 'list'>",
    ),
    (
        lambda p: optim.SGD(p).load_state_dict({"state": {}, "param_groups": []}),
        ValueError,
        "loaded state dict has a different number of parameter groups",
    ),
    (
        lambda p: optim.SGD(p).load_state_dict({"state": {}, "param_groups": [{"params": [0]}]}),
        ValueError,
        "doesn't match the size of optimizer's group",
    ),
]


@pytest.mark.parametrize(("act", "error", "message"), ERRORS)
def test_misuse_raises_pytorchs_errors(act: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        act(parameters())


def test_duplicates_warn() -> None:
    parameter = nn.Parameter(taut.ones(1))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([parameter, parameter])


def test_a_users_optimizer() -> None:
    """As PyTorch's documentation teaches: `step` overridden, state and groups used directly."""

    class Sign(optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        @taut.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.state[p]["count"] = self.state[p].get("count", 0) + 1
                        p.sub_(p.grad.sign() * group["lr"])

    parameter, seen = nn.Parameter(taut.ones(2)), list[int]()
    optimizer = Sign([parameter], lr=0.25)
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    parameter.grad = taut.tensor([3.0, -2.0])
    optimizer.step()
    assert parameter.tolist() == [0.75, 1.25]
    assert seen == [1]
    assert optimizer.state_dict()["state"] == {0: {"count": 1}}


def test_groups_print_apart() -> None:
    torch = pytest.importorskip("torch")
    shown = []
    for library in (taut, torch):
        tensors = [library.ones(1, requires_grad=True) for _ in range(2)]
        groups = [{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.5}]
        shown.append(repr(library.optim.Adam(groups)))
    assert shown[0] == shown[1]
