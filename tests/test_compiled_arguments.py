"""Arguments of compiled functions: their gradients, one tensor twice, shared memory, versions."""

from __future__ import annotations

from typing import Any

import pytest

import taut
from taut import nn


def leaf(*values: float) -> Any:
    return taut.tensor([float(v) for v in values], requires_grad=True)


def double(x: Any) -> Any:
    """Adds 2 to the gradient of each element."""
    (x * 2).sum().backward()


# --- `.grad`s -------------------------------------------------------------------------------------


def test_the_gradient_that_an_argument_has_is_added_to() -> None:
    step, x = taut.compile(double), leaf(1, 2)
    x.grad = kept = taut.ones(2)
    for _ in range(3):
        step(x)
    assert x.grad is kept
    assert kept.tolist() == [7, 7]
    other = leaf(1, 2)
    other.grad = taut.zeros(2)
    step(other)
    assert (other.grad.tolist(), kept.tolist()) == ([2, 2], [7, 7])


def test_an_argument_without_a_gradient_gets_one() -> None:
    step, x, y = taut.compile(double), leaf(1, 2), leaf(3, 4)
    y.grad = taut.ones(2)
    for _ in range(2):
        step(x)
        step(y)
        x.grad = None
        step(x)
    assert (x.grad.tolist(), y.grad.tolist()) == ([2, 2], [5, 5])
    assert step.stats()["traces"] == 2


def test_an_argument_is_zeroed_and_steps_by_itself() -> None:
    @taut.compile
    def step(x: Any) -> None:
        if x.grad is not None:
            x.grad.zero_()
        (x * x).sum().backward()
        with taut.no_grad():
            x -= 0.25 * x.grad

    compiled, eager = leaf(1, 2), leaf(1, 2)
    for _ in range(3):
        step(compiled)
        step.__wrapped__(eager)  # type: ignore[attr-defined]  # the function itself
    assert compiled.tolist() == eager.tolist() == [0.125, 0.25]
    assert compiled.grad.tolist() == eager.grad.tolist()


def test_a_gradient_given_back_is_the_one_there_is() -> None:
    w = nn.Parameter(taut.ones(2))

    @taut.compile
    def step(x: Any) -> Any:
        (w * x).sum().backward()
        double(x)
        return w.grad, x.grad

    for _ in range(3):
        x = leaf(1, 2)
        w.grad, x.grad = taut.zeros(2), taut.ones(2)
        found = step(x)
        assert found[0] is w.grad
        assert found[1] is x.grad
        assert (w.grad.tolist(), x.grad.tolist()) == ([1, 2], [4, 4])


def test_a_differentiable_result_and_gradients_within() -> None:
    w = nn.Parameter(taut.ones(2))

    @taut.compile
    def step(x: Any) -> Any:
        (w * x).sum().backward()
        return (w * x * 10).sum()

    for total in (11, 22):
        step(taut.ones(2)).backward()
        assert w.grad is not None
        assert w.grad.tolist() == [total, total]
    w.grad = None
    step(taut.ones(2))
    assert repr(w.grad) == "tensor([1., 1.])"


def test_a_gradient_that_is_not_contiguous_is_refused() -> None:
    x = taut.ones(2, 2, requires_grad=True)
    x.grad = taut.zeros(2, 2).t()
    with pytest.raises(RuntimeError, match="is not contiguous; assign its contiguous"):
        taut.compile(double)(x)


def test_a_gradient_of_another_dtype_is_refused() -> None:
    with pytest.raises(RuntimeError, match="assigned grad has data of a different type"):
        leaf(1, 2).grad = taut.ones(2, dtype=taut.float64)


# --- one tensor twice, and shared memory ----------------------------------------------------------


def test_one_tensor_given_twice_is_one_tensor() -> None:
    step, x, y = taut.compile(lambda a, b: (a * b * b).sum().backward()), leaf(1), leaf(2)
    step(x, y)
    assert (x.grad.tolist(), y.grad.tolist()) == ([4], [4])
    x.grad = y.grad = None
    step(x, x)
    step(y, x)
    assert x.grad.tolist() == [3 + 2 * 2 * 1]
    assert y.grad.tolist() == [1]


def test_a_write_is_seen_through_both_names() -> None:
    step = taut.compile(lambda a, b: (a.add_(1), b * 2)[1])
    x, y = taut.ones(2), taut.ones(2)
    assert step(x, y).tolist() == [2, 2]
    assert step(x, x).tolist() == [6, 6]
    assert step(x, y).tolist() == [2, 2]
    assert step(x, x).tolist() == [10, 10]


def test_a_written_argument_that_overlaps_another_is_refused() -> None:
    step, x = taut.compile(lambda a, b: a.add_(b)), taut.ones(4)
    with pytest.raises(RuntimeError, match="shares memory with another argument"):
        step(x[:2], x[1:3])
    assert x.tolist() == [1, 1, 1, 1]
    step(x[:2], x[2:])
    assert x.tolist() == [2, 2, 1, 1]


def test_an_argument_that_is_found_by_another_name_too() -> None:
    w = leaf(1, 2)
    with pytest.raises(RuntimeError, match="that it also finds by another name"):
        taut.compile(lambda x: (w * x * x).sum().backward())(w)
    assert w.grad is None


def test_a_write_counts_for_what_was_taped_before() -> None:
    step, x, w = taut.compile(lambda a: a.add_(1)), taut.ones(2), leaf(1, 2)
    loss = (w * x).sum()
    step(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
