"""A compiled call that raises leaves everything as it was, the first one too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn, optim

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "dampening": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "adam": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
}


class Net(nn.Module):
    """A layer with a buffer and dropout."""

    calls: taut.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dropout = nn.Linear(3, 2), nn.Dropout(0.5)
        self.register_buffer("calls", taut.zeros(()))

    def forward(self, x: Any) -> Any:
        """A random result."""
        self.calls.add_(1)
        return self.dropout(self.layer(x))


class Trainer:
    """A step that changes all that a step can change, and then may fail."""

    def __init__(self, optimizer: Callable[[Any], Any]) -> None:
        taut.manual_seed(2)
        self.net = Net()
        self.optimizer = optimizer(self.net.parameters())
        self.table = taut.ones(4)

    def step(self, x: Any, y: Any, row: Any, fail: Callable[[], Any]) -> Any:
        """One step."""
        self.optimizer.zero_grad()
        loss = (self.net(x) * self.table[row] - y).square().sum()
        loss.backward()
        self.optimizer.step()
        for parameter in self.net.parameters():
            parameter.requires_grad_(False)
        fail()
        for parameter in self.net.parameters():
            parameter.requires_grad_(True)
        return loss

    def state(self) -> list[Any]:
        """All of it, with arrays as lists."""
        tensors = [*self.net.state_dict(keep_vars=True).values(), self.table]
        attributes = {k: repr(v) for k, v in self.net.__dict__.items() if k[0] != "_"}
        return [
            attributes,
            taut.get_rng_state().tolist(),
            [(t.tolist(), t.requires_grad, t.is_leaf, t.storage.writes()) for t in tensors],
            [None if t.grad is None else (id(t.grad), t.grad.tolist()) for t in tensors],
            repr(self.optimizer.state_dict()),
            [list(state) for state in self.optimizer.state.values()],
        ]


def nothing() -> None:
    """Succeeds."""


def raises() -> None:
    raise KeyError("the user's own")


def unfit_shapes() -> Any:
    return taut.ones(2) + taut.ones(3)


def arguments(row: int = 1, width: int = 2) -> tuple[Any, Any, Any]:
    return taut.ones(5, 3), taut.zeros(5, width), taut.tensor(row)


FAILURES: dict[str, tuple[Any, ...]] = {
    "an exception": (*arguments(), raises),
    "a shape after the step": (*arguments(), unfit_shapes),
    "a shape in the middle": (*arguments(width=7), nothing),
    "a check": (*arguments(row=9), nothing),
    "a value": (*arguments(), lambda: taut.ones(()).item()),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 1], ids=["first", "later"])
def test_a_failed_step_leaves_nothing_behind(name: str, failure: str, steps: int) -> None:
    trainer, twin = Trainer(OPTIMIZERS[name]), Trainer(OPTIMIZERS[name])
    step = taut.compile(trainer.step)
    for _ in range(steps):
        step(*arguments(), nothing)
    before = trainer.state()
    with pytest.raises((KeyError, RuntimeError, IndexError)):
        step(*FAILURES[failure])
    assert trainer.state() == before
    losses = [step(*arguments(), nothing).item() for _ in range(2)]
    taut.manual_seed(2)
    twin = Trainer(OPTIMIZERS[name])
    wanted = [twin.step(*arguments(), nothing).item() for _ in range(steps + 2)]
    # A few roundings in each of three steps of float32.
    np.testing.assert_allclose(losses, wanted[steps:], rtol=1e-5)


def test_looking_at_a_graph_leaves_nothing_behind() -> None:
    trainer = Trainer(OPTIMIZERS["adam"])
    before = trainer.state()
    taut.compile(trainer.step).graph_for(*arguments(), nothing)
    assert trainer.state() == before


# --- changes that a later call would not make -----------------------------------------------------


def refused(step: Callable[[Any], Any], tensor: Any) -> str:
    before = repr(tensor), tensor.requires_grad, repr(tensor.grad_fn)
    with pytest.raises(RuntimeError) as caught:
        taut.compile(step)(taut.ones(2))
    assert (repr(tensor), tensor.requires_grad, repr(tensor.grad_fn)) == before
    return str(caught.value)


def test_freezing_a_parameter_in_a_step_is_refused() -> None:
    w = nn.Parameter(taut.ones(2))
    assert "requires_grad of a tensor from outside" in refused(
        lambda x: w.requires_grad_(False) * x, w
    )


def test_forgetting_a_history_from_outside_is_refused() -> None:
    y = nn.Parameter(taut.ones(2)).detach().requires_grad_().view(2)
    assert "requires_grad of a tensor from outside" in refused(lambda x: y.detach_() * x, y)


def test_exchanging_the_data_of_a_parameter_is_refused() -> None:
    w = nn.Parameter(taut.ones(2))

    def step(x: Any) -> Any:
        w.data = w.data - x
        return w * x

    assert "a tensor's .data was changed while tracing" in refused(step, w)


def test_a_history_that_would_outlive_the_call_is_refused() -> None:
    w, kept = nn.Parameter(taut.ones(2)), taut.zeros(2)
    assert "a value that has a gradient's history" in refused(lambda x: kept.copy_(w * x), kept)


def test_a_history_that_ends_in_the_call_is_not_kept() -> None:
    w, kept = nn.Parameter(taut.ones(2)), taut.zeros(2)

    @taut.compile
    def step(x: Any) -> None:
        kept.copy_(w * x)
        kept.sum().backward()

    for _ in range(2):
        step(taut.ones(2) * 3)
    assert (repr(kept), repr(w.grad)) == ("tensor([3., 3.])", "tensor([6., 6.])")


def test_data_is_written_in_place_and_found_again_when_exchanged() -> None:
    w = nn.Parameter(taut.ones(2))

    @taut.compile
    def step(x: Any) -> None:
        w.data -= x

    step(taut.ones(2))
    w.data = taut.ones(2) * 5
    step(taut.ones(2))
    assert w.tolist() == [4, 4]
