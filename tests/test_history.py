"""History across the border of a compiled function, against PyTorch: both ways, to fourth order.

What a compiled forward detaches or customises is so in every derivative that is taken outside;
what was computed outside gets its gradient through the compiled function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut

torch = pytest.importorskip("torch")

RTOL = 1e-9
"""Sums of some ten terms in f64, of 1e-16 each; fourth derivatives of 1e3 cancel some digits."""


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), RTOL, 1e-10)


# --- derivatives outside of the compiled function -------------------------------------------------


def custom(m: Any) -> dict[str, Any]:
    class Exp(m.autograd.Function):  # type: ignore[misc]  # of either library
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0]

    class Cube(m.autograd.Function):  # type: ignore[misc]  # of either library
        @staticmethod
        def forward(ctx: Any, x: Any, factor: float) -> Any:
            ctx.save_for_backward(x)
            ctx.factor = factor
            return x**3 * factor

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 3 * g * x * x * ctx.factor, None

    class Sin(m.autograd.Function):  # type: ignore[misc]  # of either library
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * Cos.apply(ctx.saved_tensors[0])

    class Cos(m.autograd.Function):  # type: ignore[misc]  # of either library
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.cos()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return -g * Sin.apply(ctx.saved_tensors[0])

    class Two(m.autograd.Function):  # type: ignore[misc]  # of either library
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            product, total = x * y, x + y.sin()
            ctx.save_for_backward(x, y, product)
            return product, total

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            _, y, product = ctx.saved_tensors
            return g * y + h, g * product / y + h * y.cos()

    return {"Exp": Exp, "Cube": Cube, "Sin": Sin, "Two": Two}


def forwards(m: Any) -> dict[str, Callable[[Any, Any], Any]]:
    exp, cube, sin, two = (function.apply for function in custom(m).values())

    def without_gradient(x: Any, y: Any) -> Any:
        with m.no_grad():
            z = x * y
        return z * x * x + y.exp()

    def in_place(x: Any, y: Any) -> Any:
        z = x * 1.0
        z[1:] = y[1:] * z[:-1].clone()
        return z.mul_(x.detach()).exp()

    return {
        "plain": lambda x, y: (x * y).tanh() * x,
        "detached": lambda x, y: x * x.detach() * x.exp() * y,
        "straight through": lambda x, y: ((x + (x.round() - x).detach()) * y).sin() * x,
        "without gradient": without_gradient,
        "in place": in_place,
        "saves a result": lambda x, y: exp(x * y) * y,
        "saves an argument": lambda x, y: cube(x, 2.0) * y.detach() * x,
        "of each other": lambda x, y: sin(x * y) + x,
        "two results": lambda x, y: sum(two(x * 2, y)),
        "one argument twice": lambda x, y: two(x, x)[0] * exp(two(y, x)[1]),
    }


def derivatives(m: Any, f: Callable[[Any, Any], Any], orders: int = 4) -> list[Any]:
    """Gradients of weighted sums, of each other, all taken outside of `f`."""
    x, y = (
        m.tensor(v, dtype=m.float64, requires_grad=True)
        for v in ([0.3, 1.2, -0.7], [0.5, 0.9, 1.1])
    )
    weights = m.tensor([1.0, 2.0, 3.0], dtype=m.float64)
    found, current = [], f(x, y)
    for order in range(orders):
        grads = m.autograd.grad(
            (current * weights).sum(), (x, y), create_graph=True, materialize_grads=True
        )
        found += grads
        current = sum((order + 2) * g for g in grads)
    return found


@pytest.mark.parametrize("name", forwards(taut))
def test_derivatives_of_every_order_outside(name: str) -> None:
    f = taut.compile(forwards(taut)[name])
    for got, want in zip(
        derivatives(taut, f), derivatives(torch, forwards(torch)[name]), strict=True
    ):
        close(got, want)
    assert f.stats()["native_calls"] == 1 + 4  # the forward pass, and a program for each order


def transforms(m: Any, f: Callable[[Any], Any], x: Any) -> list[Any]:
    """Second derivatives by every order of modes, and in forward mode over reverse mode."""
    fn, total = m.func, lambda x: f(x).sum()
    modes = [(a, b) for a in (fn.jacrev, fn.jacfwd) for b in (fn.jacrev, fn.jacfwd)]
    found = [outer(inner(f))(x) for outer, inner in modes]
    return [*found, fn.hessian(total)(x), fn.jvp(fn.grad(total), (x,), (x,))[1]]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("name", ["plain", "detached"])
def test_function_transforms_of_a_compiled_function(name: str) -> None:
    def f(x: Any) -> Any:
        return (x.exp() * x.sum()).sin() * (x.detach() if name == "detached" else x)

    numbers = np.array([0.3, 0.7, 1.2])
    want = transforms(torch, f, torch.from_numpy(numbers))
    for got, expected in zip(
        transforms(taut, taut.compile(f), taut.from_numpy(numbers)), want, strict=True
    ):
        close(got, expected)


def test_custom_functions_in_jacobians() -> None:
    def second(m: Any, f: Callable[[Any, Any], Any]) -> Any:
        x = m.tensor([0.3, 1.2, -0.7], dtype=m.float64)
        return m.autograd.functional.hessian(lambda x: f(x, x * 2).sum(), x)

    for name in ("saves a result", "saves an argument", "of each other", "two results"):
        close(
            second(taut, taut.compile(forwards(taut)[name])), second(torch, forwards(torch)[name])
        )


def test_a_leaf_that_was_written_has_the_gradient_of_its_new_value() -> None:
    def second(m: Any, decorate: Callable[[Any], Any]) -> list[Any]:
        p, x = (m.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [0.1, 0.2]))

        def f(x: Any) -> Any:
            with m.no_grad():
                p.mul_(2)
            return (x * p * p).sin().sum()

        first = m.autograd.grad(decorate(f)(x), (p, x), create_graph=True)
        return [*first, *m.autograd.grad((first[0] * first[1]).sum(), (p, x))]

    for got, want in zip(second(taut, taut.compile), second(torch, lambda f: f), strict=True):
        # Products of sines in f32.
        np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), 1e-5)


def test_dropout_is_the_same_in_the_second_derivative() -> None:
    def penalty(decorate: Callable[[Any], Any]) -> Any:
        taut.manual_seed(3)
        x = taut.arange(40.0).div(40).requires_grad_()
        f = decorate(lambda x: taut.nn.functional.dropout(x**3, 0.5).sum())
        (g,) = taut.autograd.grad(f(x), x, create_graph=True)
        assert g is not None
        return taut.autograd.grad((g * g).sum(), x)[0]

    close(penalty(taut.compile), penalty(lambda f: f))


def test_a_backward_pass_that_reads_what_the_function_does_not_is_refused() -> None:
    hidden = taut.ones(3)

    class Odd(taut.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.sin()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return (g * g, hidden * g)[len(seen) > 1]

    seen: list[int] = []
    f = taut.compile(Odd.apply)
    x = taut.ones(3, requires_grad=True)
    seen.append(1)
    (g,) = taut.autograd.grad(f(x).sum(), x, create_graph=True)
    assert g is not None
    seen.append(2)
    with pytest.raises(RuntimeError, match="the backward pass of Odd reads a tensor"):
        taut.autograd.grad(g.sum(), x)


# --- history from outside -------------------------------------------------------------------------


def leaf(m: Any, *shape: int) -> Any:
    return m.arange(1.0, 1 + np.prod(shape), dtype=m.float64).reshape(*shape).requires_grad_()


def point(m: Any) -> Any:
    return m.tensor([0.1, 0.2, 0.3], dtype=m.float64, requires_grad=True)


def product(w: Any) -> Callable[[Any], Any]:
    return lambda x: (x * w).sin().sum()


def captured(m: Any, c: Any) -> Any:
    p, x = leaf(m, 3), point(m)
    w = p * 2
    return m.autograd.grad(c(product(w))(x), (p, w, x))


def captured_second(m: Any, c: Any) -> Any:
    p, x = leaf(m, 3), point(m)
    a, b = m.autograd.grad(c(product(p * 2))(x), (p, x), create_graph=True)
    return a, b, *m.autograd.grad((a * b).sum(), (p, x))


def captured_view(m: Any, c: Any) -> Any:
    p, q, x = leaf(m, 2, 3), leaf(m, 2, 3), point(m)
    (v, w) = p[1], (q * 3)[1]
    return m.autograd.grad(c(lambda x: product(v)(x) + product(w)(x))(x), (p, q, x))


def captured_leaf_that_is_a_view(m: Any, c: Any) -> Any:
    p = m.arange(6.0, dtype=m.float64).reshape(2, 3).requires_grad_()
    q = m.arange(6.0, dtype=m.float64).reshape(3, 2).t().requires_grad_()
    x = point(m)
    y = c(lambda x: (p * q[1] * x).sin().sum())(x)
    a, b, d = m.autograd.grad(y, (p, q, x), create_graph=True)
    return a, b, d, *m.autograd.grad((a * b * d).sum(), (p, q, x))


def wanted_inside(m: Any, c: Any) -> Any:
    x, w = point(m), leaf(m, 3) * 2
    v = (leaf(m, 3) * 2)[:3]
    inside = c(lambda x: m.autograd.grad(product(w)(x) * product(v)(x), (w, v, x)))
    return inside(x)


def argument(m: Any, c: Any) -> Any:
    p, x = leaf(m, 3), point(m)
    return m.autograd.grad(c(lambda x, w: product(w)(x))(x, p * 2), (p, x))


def training(m: Any, c: Any) -> Any:
    p, x = leaf(m, 3), point(m)
    optimizer = m.optim.SGD([p], 0.1)
    w: Any = None
    f = c(lambda x: (product(w)(x) - 1) ** 2)
    for _ in range(3):
        w = p.exp()
        optimizer.zero_grad()
        f(x).backward()
        optimizer.step()
    return [p]


def mapped(m: Any, c: Any) -> Any:
    p, x = leaf(m, 3), point(m)
    w, fn = p * 2, m.func
    slopes = c(lambda x: fn.vmap(fn.grad(product(w)))(x[:, None]).sin().sum())
    return m.autograd.grad(slopes(x), (p, x))


OUTSIDE = (
    captured,
    captured_second,
    captured_view,
    captured_leaf_that_is_a_view,
    wanted_inside,
    argument,
    training,
    mapped,
)


@pytest.mark.parametrize("case", OUTSIDE)
def test_history_from_outside(case: Callable[[Any, Any], Any]) -> None:
    want = case(torch, lambda f: f)
    for decorate in (lambda f: f, taut.compile):
        for got, expected in zip(case(taut, decorate), want, strict=True):
            close(got, expected)


def test_backward_inside_does_not_drop_the_history_outside() -> None:
    p = leaf(taut, 3)
    w = p * 2

    def step(x: Any, w: Any) -> None:
        product(w)(x).backward()

    f = taut.compile(step)
    x = point(taut)
    f(x, w.detach().requires_grad_())
    grad = x.grad
    with pytest.raises(RuntimeError, match="cannot follow the history of a tensor"):
        f(x, w)
    with pytest.raises(RuntimeError, match="cannot follow the history of a tensor"):
        taut.compile(lambda x: step(x, w))(x)
    assert x.grad is grad
    assert w.grad_fn is not None
