"""What eager mode tapes as one entry is the same as its primitives, one by one."""

from __future__ import annotations

from typing import Any

import pytest

import taut
from taut import nn
from taut.frontend.composition import Composition
from taut.frontend.tape_reading import read_tape
from taut.nn import functional as F


def layers(x: Any, w: Any, b: Any, y: Any) -> Any:
    return F.mse_loss(F.linear(x, w, b), y)


def by_parts(x: Any, w: Any, b: Any, y: Any) -> Any:
    difference = x @ w.t() + b - y
    return (difference * difference).sum() / difference.numel()


def operands(*, needs: bool = True) -> list[Any]:
    taut.manual_seed(1)
    shapes = (5, 3), (4, 3), (4,), (5, 4)
    return [taut.randn(*shape).requires_grad_(needs) for shape in shapes]


def entries(result: Any) -> list[Any]:
    return [entry.primitive for entry in read_tape([result]).entries]


def test_a_layer_and_a_loss_are_an_entry_each() -> None:
    found = entries(layers(*operands()))
    assert [type(p) for p in found] == [Composition, Composition]
    assert [p.name for p in found] == ["linear", "mse_loss"]


def test_values_and_gradients_have_the_bits_of_the_primitives() -> None:
    ours, theirs = operands(), operands()
    found, want = layers(*ours), by_parts(*theirs)
    assert found.item() == want.item()
    found.backward()
    want.backward()
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad.tolist() == b.grad.tolist()


def test_derivatives_of_second_order_go_through() -> None:
    found: list[Any] = []
    for function in (layers, by_parts):
        x, w, b, y = operands()
        first: Any = taut.autograd.grad(function(x, w, b, y), [w], create_graph=True)[0]
        found.append(taut.autograd.grad((first * first).sum(), [x])[0])
    # Rounded elsewhere: sums of 4 and 5 products of numbers near 1.
    assert taut.allclose(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_tangents_and_batches_go_through() -> None:
    x, w, b, y = operands(needs=False)
    _, found = taut.func.jvp(lambda v: layers(x, v, b, y), (w,), (taut.ones(4, 3),))
    _, want = taut.func.jvp(lambda v: by_parts(x, v, b, y), (w,), (taut.ones(4, 3),))
    assert taut.allclose(found, want, rtol=1e-5)
    each = taut.func.vmap(lambda v, t: F.linear(v[None], w, b).sum() * t)(x, taut.ones(5))
    assert taut.allclose(each, (x @ w.t() + b).sum(1), rtol=1e-5)


def test_a_trace_records_the_primitives() -> None:
    net, criterion = nn.Linear(3, 4), nn.MSELoss()
    x, _, _, y = operands(needs=False)

    @taut.compile
    def loss(x: Any) -> Any:
        return criterion(net(x), y) + criterion(net(y @ taut.ones(4, 3)), y)

    loss(x)
    names = {node.prim.name for node in loss.recording().graph.nodes}
    assert {"matmul", "transpose", "broadcast", "reduce_sum"} <= names
    assert not names & {"linear", "mse_loss"}


def test_a_write_to_what_the_gradient_needs_is_noticed() -> None:
    x, w, b, y = operands()
    result = layers(x, w, b, y)
    with taut.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


@pytest.mark.parametrize(
    "fault", ["bias", "dtype", "inner", "vector"], ids=lambda fault: f"unfit {fault}"
)
def test_what_does_not_fit_goes_the_long_way(fault: str) -> None:
    x, w, b, _ = operands()
    if fault == "bias":
        assert F.linear(x, w, b[:1]).tolist() == (x @ w.t() + b[:1]).tolist()
        return
    bad = {"dtype": (x.double(), w, b), "inner": (x[:, :2], w, b), "vector": (x, w[0], b)}[fault]
    with pytest.raises(RuntimeError, match=r"dtype|shapes|size"):
        F.linear(*bad)
