"""Eager gradients: the tape, its cached plans, views, writes in place, and PyTorch's errors."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import taut
from taut.frontend import plans

pytestmark = pytest.mark.quick


def leaf(*values: float) -> Any:
    return taut.tensor(list(values), requires_grad=True)


def test_chain_rule() -> None:
    x = leaf(1.0, 2.0, 3.0)
    ((x * x + 2 * x).exp() / 10).sum().backward()
    want = np.exp(np.array([3.0, 8.0, 15.0])) * np.array([4.0, 6.0, 8.0]) / 10
    np.testing.assert_allclose(x.grad.numpy(), want, rtol=1e-6)  # a few f32 roundings


def test_gradients_accumulate_in_place() -> None:
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    first = x.grad
    (x * 4).sum().backward()
    assert x.grad is first
    assert first is not None
    assert first.tolist() == [7.0, 7.0]


def test_leaves_with_equal_gradients_do_not_share_them() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    for _ in range(2):
        ((x + y) * 2).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.tolist() == y.grad.tolist() == [4.0, 4.0]
    x.grad.zero_()
    assert y.grad.tolist() == [4.0, 4.0]


def test_second_order() -> None:
    x = leaf(2.0)
    (first,) = taut.autograd.grad(x**3, x, create_graph=True)
    assert first is not None
    (second,) = taut.autograd.grad(first, x, create_graph=True)
    assert second is not None
    (third,) = taut.autograd.grad(second, x)
    assert third is not None
    assert (first.item(), second.item(), third.item()) == (12.0, 12.0, 6.0)


def test_grad_of_an_intermediate_result() -> None:
    x = leaf(2.0)
    y = x * x
    z = y * 5
    (of_y,) = taut.autograd.grad(z, y, retain_graph=True)
    of_x, _ = taut.autograd.grad(z, [x, y])
    assert of_y is not None
    assert of_x is not None
    assert (of_y.item(), of_x.item()) == (5.0, 20.0)
    assert x.grad is None


def test_unused_inputs() -> None:
    x, y = leaf(1.0), leaf(1.0)
    with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
        taut.autograd.grad((x * 2), [x, y])
    assert taut.autograd.grad(x * 2, [x, y], allow_unused=True)[1] is None


def test_detach_and_no_grad_stop_gradients() -> None:
    x = leaf(3.0)
    (x * x.detach()).backward()
    assert x.grad.item() == 3.0
    with taut.no_grad():
        assert not (x * 2).requires_grad
        with taut.enable_grad():
            assert (x * 2).requires_grad

    @taut.no_grad()
    def frozen() -> Any:
        return x * 2

    assert not frozen().requires_grad
    assert (x * 2).requires_grad


def test_a_view_passes_its_gradient_to_its_base() -> None:
    x = taut.arange(6.0).requires_grad_()
    x.view(2, 3)[1].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_write_through_a_view_is_differentiated() -> None:
    v = leaf(5.0, 6.0)
    table = taut.zeros(2, 2)
    row = table[0]
    row.copy_(v)
    (table * table).sum().backward()
    assert v.grad.tolist() == [10.0, 12.0]
    assert row.requires_grad


def test_a_value_needed_for_backward_may_not_be_overwritten() -> None:
    x = leaf(1.0, 2.0)
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_write_to_a_layers_weight_before_backward_is_noticed() -> None:
    weight, x = leaf(1.0, 2.0), leaf(3.0, 4.0)
    loss = (taut.nn.functional.linear(x, weight.reshape(1, 2)) * 2).sum()
    with taut.no_grad():
        weight.mul_(10)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_repeated_element_cannot_be_written() -> None:
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        taut.zeros(1).expand(3).fill_(1)


def test_a_value_not_needed_may_be_overwritten() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.add_(1)
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_leaves_are_protected() -> None:
    x = leaf(1.0)
    message = "a leaf Variable that requires grad is being used in an in-place operation"
    with pytest.raises(RuntimeError, match=message):
        x.add_(1)
    with taut.no_grad():
        x.add_(1)
    assert x.item() == 2.0


def test_a_graph_is_freed_after_backward() -> None:
    x = leaf(1.0)
    y = x.exp()
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()
    z = x.exp()
    z.backward(retain_graph=True)
    z.backward()


def test_only_scalars_have_an_implicit_seed() -> None:
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar"):
        (leaf(1.0, 2.0) * 2).backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        taut.tensor(1.0).backward()


def test_the_tape_is_freed_with_its_tensors() -> None:
    x = leaf(1.0)
    y = x * 2
    entry = weakref.ref(y.entry) if hasattr(type(y.entry), "__weakref__") else None
    memory = weakref.ref(y.storage)
    gc.disable()
    try:
        del y
        assert memory() is None
        assert entry is None or entry() is None
    finally:
        gc.enable()


def test_a_loop_derives_its_backward_graph_once() -> None:
    x = leaf(0.5, 0.25)
    before = len(plans._plans)
    for _ in range(5):
        (x.sin() * x).sum().backward()
    assert len(plans._plans) <= before + 1


def test_numbers_in_the_tape_are_part_of_its_structure() -> None:
    x = leaf(1.0)
    (x * 2.0).backward()
    (x * 3.0).backward()
    assert x.grad.item() == 5.0


def test_grad_makes_the_gradient_function() -> None:
    def cube(x: Any, scale: float = 1.0) -> Any:
        return (x**3).sum() * scale

    x = taut.tensor([1.0, 2.0])
    assert taut.grad(cube)(x).tolist() == [3.0, 12.0]
    assert taut.grad(cube)(x, scale=2.0).tolist() == [6.0, 24.0]
    assert x.grad is None
    assert not x.requires_grad


def test_grad_composes_with_itself_and_with_compile() -> None:
    def product(x: Any, y: Any) -> Any:
        return (x * x * y).sum()

    x, y = taut.tensor([3.0]), taut.tensor([5.0])
    dx, dy = taut.grad(product, argnums=(0, 1))(x, y)
    assert (dx.item(), dy.item()) == (30.0, 9.0)
    second = taut.grad(lambda x, y: taut.grad(product)(x, y).sum())
    assert second(x, y).item() == 10.0
    assert taut.compile(second)(x, y).item() == 10.0
    assert taut.compile(taut.grad(product, argnums=1))(x, y).item() == 9.0


def test_grad_refuses_what_it_cannot_differentiate() -> None:
    with pytest.raises(TypeError, match="argument 0 is int"):
        taut.grad(lambda x: x)(3)
    with pytest.raises(RuntimeError, match="returns a scalar tensor"):
        taut.grad(lambda x: x)(taut.ones(2))
