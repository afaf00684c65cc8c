"""Transforms within each other, three deep in every order, against PyTorch's `torch.func`.

Each transform takes a function from a vector to a vector of the same size to another such, so that
they compose freely; `compile` stands between any two of them, inside all, or around them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import taut

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
Function = Callable[[Any], Any]

NUMBERS = np.array([0.4, -0.9, 1.3, 0.7])


# --- programs: from a vector of four to a vector of four ------------------------------------------


def in_place(m: Any, x: Any) -> Any:
    y = x * 2
    y[1:3] = x[:2].sin()
    y[0].mul_(x[3])
    return y.add_(x)


def views(m: Any, x: Any) -> Any:
    y = (x * x).reshape(2, 2)
    row = y.t()[0]
    row.mul_(3)
    return (y @ y).flatten() + x.flip(0)


def through_a_view(m: Any, x: Any) -> Any:
    y = x.clone()
    y.view(2, 2)[:, 0].copy_(x[2:] * 3)
    y.view(2, 2).t()[1].copy_(x[:2].sin())
    return y * x


def indexing(m: Any, x: Any) -> Any:
    index = m.tensor([3, 0, 0, 2])
    return x[index] * x + m.zeros_like(x).index_add(0, index, x.sin())


def gathered(m: Any, x: Any) -> Any:
    table = x.reshape(2, 2)
    return table.gather(1, m.tensor([[1, 0], [0, 0]])).flatten() * x.tanh()


def reductions(m: Any, x: Any) -> Any:
    return x * x.var() + x.sum().cos() - x.logsumexp(0) + x.std() * x.mean()


def extremes(m: Any, x: Any) -> Any:
    return x * x.max() + x.min().exp() + x.detach().amin() * x.clamp(-0.5, 1.0)


def softmax(m: Any, x: Any) -> Any:
    return x.softmax(0) * x + m.nn.functional.log_softmax(x, 0)


def cross_entropy(m: Any, x: Any) -> Any:
    loss = m.nn.functional.cross_entropy(x.reshape(2, 2), m.tensor([1, 0]), label_smoothing=0.1)
    return loss * x


def attention(m: Any, x: Any) -> Any:
    q = x.reshape(1, 2, 2)
    heads = m.nn.functional.scaled_dot_product_attention(q, q.sin(), q * 2, is_causal=True)
    return heads.reshape(4)


def layer_norm(m: Any, x: Any) -> Any:
    return m.nn.functional.layer_norm(x, (4,), x.cos(), x * 2)


def layer_norm_by_hand(m: Any, x: Any) -> Any:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * x.cos() + x * 2


def activations(m: Any, x: Any) -> Any:
    f = m.nn.functional
    return f.gelu(x) + f.silu(x) * f.softplus(x) + f.elu(x) + f.gelu(x, approximate="tanh")


def module(m: Any, x: Any) -> Any:
    weights = {"0.bias": x[:3], "2.weight": x.outer(x[1:].cos()), "2.bias": x * x}
    weights["0.weight"] = x.reshape(1, 4) * m.tensor([[1.0], [2.0], [-1.0]], dtype=x.dtype)
    return m.func.functional_call(NETS[m], weights, (x,))


NETS = {
    m: m.nn.Sequential(m.nn.Linear(4, 3), m.nn.Tanh(), m.nn.Linear(3, 4)) for m in (taut, torch)
}


def einsum(m: Any, x: Any) -> Any:
    a = x.reshape(2, 2)
    return m.einsum("ij,jk,ik->ik", a, a.exp(), a).flatten()


def choices(m: Any, x: Any) -> Any:
    return m.where(x > 0.5, x**3, x.abs().sqrt()) + m.maximum(x, x.flip(0) * 0.9)


def joined(m: Any, x: Any) -> Any:
    a, b = x.split(2)
    return m.cat([a * b, m.stack([a, b]).sum(0)]).roll(1) * x


def loop(m: Any, x: Any) -> Any:
    state = m.zeros_like(x)
    for step in range(3):
        state = (state + x * (step + 1)).tanh()
    return state


def detached(m: Any, x: Any) -> Any:
    return x * x.detach() + (x * 3).exp().detach() / x


def solved(m: Any, x: Any) -> Any:
    a = x.reshape(2, 2) + 3 * m.eye(2, dtype=x.dtype)
    return m.linalg.solve(a, a.t() * x[0]).flatten()


def solved_by_hand(m: Any, x: Any) -> Any:
    a, b, c, d = x[0] + 3, x[1], x[2], x[3] + 3
    inverse = m.stack([m.stack([d, -b]), m.stack([-c, a])]) / (a * d - b * c)
    return (inverse @ m.stack([m.stack([a, c]), m.stack([b, d])]) * x[0]).flatten()


BY_HAND = {layer_norm: layer_norm_by_hand, solved: solved_by_hand}
"""PyTorch 2.13's own third derivatives of these differ from those of the formulas."""

PROGRAMS = (
    *(in_place, views, through_a_view, indexing, gathered, reductions, extremes, softmax),
    *(cross_entropy, attention, layer_norm, activations, module, einsum, choices, joined, loop),
    *(detached, solved),
)


# --- transforms -----------------------------------------------------------------------------------


def gradient(m: Any, f: Function) -> Any:
    weights = m.tensor([1.0, -2.0, 0.5, 3.0], dtype=m.float64)
    return m.func.grad(lambda y: (f(y) * weights).sum())


def tangent(m: Any, f: Function) -> Function:
    way = m.tensor([0.3, 1.0, -1.0, 2.0], dtype=m.float64)
    return lambda x: m.func.jvp(f, (x,), (way * x.detach(),))[1]


def mapped(m: Any, f: Function) -> Function:
    def function(x: Any) -> Any:
        rows = m.stack([x, x * 0.5, x + 0.1], 1)
        return m.func.vmap(f, in_dims=1, out_dims=1)(rows).sum(1)

    return function


TRANSFORMS = {"grad": gradient, "jvp": tangent, "vmap": mapped}
ORDERS = list(product(TRANSFORMS, repeat=3))
EAGER, COMPILED = 4, 13
"""One order in so many, of each program others: all orders are met, and each many times."""


def nested(m: Any, program: Any, order: tuple[str, ...], compiled_at: int | None = None) -> Any:
    """The program under transforms, the innermost first, on the numbers."""
    f: Any = lambda x: program(m, x)  # noqa: E731  # one of several forms of f
    for depth, name in enumerate((*order, None)):
        if depth == compiled_at:
            f = taut.compile(f)
        f = TRANSFORMS[name](m, f) if name else f
    return f(m.from_numpy(NUMBERS.copy())).detach().numpy()


def require_close(got: Any, want: Any) -> None:
    """Third derivatives cancel digits: 1e-16 of the largest number times some hundred terms."""
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12 * max(1, abs(want).max()))


@pytest.mark.parametrize("program", PROGRAMS)
def test_three_deep(program: Any) -> None:
    offset = PROGRAMS.index(program)
    for number, order in enumerate(ORDERS):
        depths: list[int | None] = [None] * (number % EAGER == offset % EAGER)
        depths += [(number + offset) % 4] * (number % COMPILED == offset % COMPILED)
        if depths:
            want = nested(torch, BY_HAND.get(program, program), order)
        for depth in depths:
            require_close(nested(taut, program, order, depth), want)


# --- random numbers -------------------------------------------------------------------------------


def dropped(x: Any) -> Any:
    return taut.nn.functional.dropout(x * 2, 0.5) * x


@pytest.mark.parametrize("compiled", [False, True])
def test_randomness_within_other_transforms(compiled: bool) -> None:
    """The mask that `grad` differentiates is drawn once for all slices, or once for each."""

    def slopes(x: Any, randomness: str) -> Any:
        taut.manual_seed(5)
        gradient = taut.grad(lambda x: dropped(x).sum())
        return taut.vmap(gradient, randomness=randomness)(x)

    run = taut.compile(slopes) if compiled else slopes
    x = taut.ones(5, 40)
    same, different = run(x, "same"), run(x, "different")
    for found in (same, different):
        assert set(found.flatten().tolist()) == {0.0, 8.0}  # 2 * 2 x / (1 - p), or dropped
    assert all(taut.equal(row, same[0]) for row in same)
    assert not any(taut.equal(row, different[0]) for row in different[1:])
    with pytest.raises(RuntimeError, match="randomness"):
        run(x, "error")
