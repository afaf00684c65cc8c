"""Writes in place and gradients: what a tensor prints as, and gives, is what PyTorch's does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import taut

Program = Callable[[Any, Any], Any]


def of_view(write: Callable[[Any], Any]) -> Program:
    def program(lib: Any, y: Any) -> Any:
        view = y[:2]
        write(view)
        return y, view

    return program


PROGRAMS: dict[str, Program] = {
    "zero_": lambda lib, y: y.zero_(),
    "fill_": lambda lib, y: y.fill_(3.0),
    "fill_ with a tensor": lambda lib, y: y.fill_(lib.tensor(2.0)),
    "copy_ of a constant": lambda lib, y: y.copy_(lib.ones(3) * 5),
    "copy_ into a constant": lambda lib, y: lib.zeros(3).copy_(y),
    "copy_ in another dtype": lambda lib, y: lib.zeros(3, dtype=lib.float64).copy_(y),
    "masked_fill_": lambda lib, y: y.masked_fill_(lib.tensor([True, False, True]), 0.0),
    "relu_": lambda lib, y: y.relu_(),
    "a number by position": lambda lib, y: (y.__setitem__(0, 7.0), y)[1],
    "rows": lambda lib, y: (z := lib.zeros(2, 3), z.__setitem__(0, y), z.__setitem__(1, -y), z)[-1],
    "mul_ of a view": of_view(lambda v: v.mul_(3)),
    "zero_ of a view": of_view(lambda v: v.zero_()),
    "zero_ of all as a view": lambda lib, y: (v := y.view(3), v.zero_(), y)[0:3:2],
    "copy_ into a view": lambda lib, y: (z := lib.zeros(4), v := z[1:], v.copy_(y), z)[1:4:2],
    "the base of a view": lambda lib, y: (v := y[:2], y.add_(1), v)[1:],
    "several": lambda lib, y: y.add_(1).mul_(2).zero_().add_(y).sub_(1),
}


def shown(library: Any, program: Program) -> list[Any]:
    """What the results print as, and the gradient of all that can have one."""
    w = library.tensor([1.0, -2.0, 3.0], requires_grad=True)
    found = program(library, w * 2)
    results = found if isinstance(found, tuple) else (found,)
    told = [(repr(r), r.requires_grad, r.is_leaf, r._version) for r in results]
    names = [r.grad_fn.name() for r in results]
    sum((r * r).sum() for r in results).backward()
    return [told, names, w.grad.tolist()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_history_after_a_write(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert shown(taut, PROGRAMS[name]) == shown(torch, PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_of_a_compiled_write(name: str) -> None:
    def step(w: Any) -> Any:
        found = PROGRAMS[name](taut, w * 2)
        results = found if isinstance(found, tuple) else (found,)
        sum((r * r).sum() for r in results).backward()
        return list(results)

    eager, compiled = (taut.tensor([1.0, -2.0, 3.0], requires_grad=True) for _ in range(2))
    wanted, got = step(eager), taut.compile(step)(compiled)
    assert [r.tolist() for r in got] == [r.tolist() for r in wanted]
    assert eager.grad is not None
    assert compiled.grad is not None
    assert compiled.grad.tolist() == eager.grad.tolist()


LEAF_WRITES: dict[str, Callable[[Any], Any]] = {
    "add_": lambda w: w.add_(1),
    "zero_": lambda w: w.zero_(),
    "a view": lambda w: w[0:1].add_(1),
    "by position": lambda w: w.__setitem__(0, 1.0),
    "normal_": lambda w: w.normal_(),
    "+=": lambda w: w.__iadd__(1),
}


@pytest.mark.parametrize("name", LEAF_WRITES)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_leaf_that_needs_a_gradient_is_not_written(name: str, compiled: bool) -> None:
    torch = pytest.importorskip("torch")
    write = LEAF_WRITES[name]
    messages = []
    for library, function in ((taut, taut.compile(write) if compiled else write), (torch, write)):
        with pytest.raises(RuntimeError) as caught:
            function(library.ones(3, requires_grad=True))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_view_made_without_gradients_is_not_written_with_them() -> None:
    w = taut.ones(3, requires_grad=True)
    with taut.no_grad():
        view = w[:1]
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode"):
        view.add_(1)
    assert w.tolist() == [1, 1, 1]


def test_a_value_that_a_gradient_needs_was_written() -> None:
    y = taut.ones(3, requires_grad=True) * 2
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError) as caught:
        z.sum().backward()
    assert str(caught.value) == (
        "one of the variables needed for gradient computation has been modified by an inplace "
        "operation: [torch.FloatTensor [3]] is at version 1; expected version 0 instead. Clone it "
        "before the write, or write to a new tensor."
    )
