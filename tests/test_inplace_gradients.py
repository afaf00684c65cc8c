"""Gradients through writes in place, views and cuts, against PyTorch's.

Each program runs eagerly, in one compiled function with its gradient, and compiled with its
gradient taken outside.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

import numpy as np
import pytest

import taut

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
X, V = RNG.uniform(0.3, 1.5, (4, 3)), RNG.uniform(0.3, 1.5, (4, 3))


def view_write(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y.view(12)[3:7] = v.reshape(12)[:4] * 2
    return y.sin()


def masked_assign_scalar(m: Any, x: Any, v: Any) -> Any:
    y = x * v
    y[x > 1] = 0.5
    return y * y


def masked_fill(m: Any, x: Any, v: Any) -> Any:
    y = x * v
    y.masked_fill_(x > 1, 2.0)
    return y * x


def index_put_rows(m: Any, x: Any, v: Any) -> Any:
    y = x.clone()
    y[m.tensor([0, 2])] = v[:2] * 3
    return y.exp()


def index_put_accumulate(m: Any, x: Any, v: Any) -> Any:
    y = x.clone()
    y.index_put_((m.tensor([0, 0, 2]),), v[:3] * x[:3], accumulate=True)
    return y.exp()


def copy_into_slice(m: Any, x: Any, v: Any) -> Any:
    y = m.zeros(4, 3, dtype=x.dtype)
    y[1:3].copy_(x[:2] * v[1:3])
    y[:, 0] = v[:, 1]
    return (y + x).sin()


def copy_whole(m: Any, x: Any, v: Any) -> Any:
    y = x * 2
    y.copy_(v.exp())
    return y * x


def detach_mixing(m: Any, x: Any, v: Any) -> Any:
    y = x * v
    z = y.detach()
    w = y * z
    return w + z * x


def no_grad_mix(m: Any, x: Any, v: Any) -> Any:
    y = x * v
    with m.no_grad():
        s = y.sum()
    y = y / s
    return y * y


def write_under_no_grad_to_nonleaf_unread(m: Any, x: Any, v: Any) -> Any:
    y = x + v
    with m.no_grad():
        y.mul_(2)
    return y + 1


def chain_of_views(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    a = y.t()
    b = a[1:]
    b.mul_(v.t()[1:])
    return y.exp() + a.t()


def view_taken_before_write_used_after(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    a = y[0]
    y.mul_(v)
    return a * a


def view_of_view_after_write_via_sibling(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    a = y[:2]
    b = y[1:3]
    a.add_(v[:2])
    return b.sin() + a.cos()


def iadd_operators(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y += v
    y *= x
    y -= 2
    y /= v + 1
    y **= 2
    return y


def setitem_with_broadcasting(m: Any, x: Any, v: Any) -> Any:
    y = x.clone()
    y[:, 1:] = v[:, :1]
    y[2] = x.sum()
    return y * v


def loop_accumulate(m: Any, x: Any, v: Any) -> Any:
    y = m.zeros(4, dtype=x.dtype)
    for i in range(3):
        y[i] = x[i].prod()
        y[i + 1] += (v[i] * x[i]).sum()
    return y


def unsqueeze_expand_write(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y.unsqueeze(0)[0, :, 2] = v[:, 0]
    return y.prod(1)


def clamp_relu(m: Any, x: Any, v: Any) -> Any:
    y = x * v
    y.clamp_(0.5, 1.0)
    z = x - v
    z.relu_()
    return y * 1 + z * 2


def zero_grad_dropped(m: Any, x: Any, v: Any) -> Any:
    y = x * v
    z = y * 2
    y.zero_()
    return z + y


def scatter_add(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y.scatter_add_(0, m.tensor([[0, 1, 2], [3, 0, 0]]), v[:2] * x[:2])
    y.scatter_(1, m.tensor([[0], [1], [2], [0]]), v[:, :1])
    return y * y


def index_add_index_copy(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y.index_add_(1, m.tensor([0, 0]), v[:, :2])
    y.index_fill_(0, m.tensor([1]), 3.0)
    return y * y


def narrow_select_write(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y.narrow(1, 0, 2).mul_(v[:, :2])
    y.select(0, 1).add_(1)
    return y.log()


def chunk_sub(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    a, b = y.chunk(2, 0)
    z = a * b
    return m.cat([z, b])


def diagonal_view_write(m: Any, x: Any, v: Any) -> Any:
    y = x[:3] * 1
    y.diagonal().mul_(2)
    return y.exp()


def flatten_write(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y.flatten()[::2].mul_(v.flatten()[::2])
    return y.sin()


def where_write(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y[:] = m.where(x > 1, y, v)
    return y * y


def swap_rows(m: Any, x: Any, v: Any) -> Any:
    y = x * v
    t = y[0].clone()
    y[0] = y[1]
    y[1] = t
    return y * y


def x_data(m: Any, x: Any, v: Any) -> Any:
    y = x * v
    z = y.data * 2
    return z * x


def addmm_lerp(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y.addcmul_(x, v, value=0.5)
    y.lerp_(v, 0.3)
    return y * y


def neg_index_assign(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y[-1, ...] = v[0]
    y[None, :, 0] = x[:, 1]
    return y**2


def mask_assign_tensor_scalar(m: Any, x: Any, v: Any) -> Any:
    y = x * 1
    y[v > 1] = x.mean()
    return y * y


def write_grad_into_const(m: Any, x: Any, v: Any) -> Any:
    z = m.zeros(4, 3, dtype=x.dtype)
    z[1] = x[0]
    z[2] = x[1]
    return z * 2


CASES = [
    function
    for _, function in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    if list(inspect.signature(function).parameters) == ["m", "x", "v"]
]


def derivatives(m: Any, f: Any, mode: str) -> list[Any]:
    x, v = (m.from_numpy(a.copy()).requires_grad_() for a in (X, V))

    def value(x: Any, v: Any) -> Any:
        return f(m, x, v)

    def all_of_it(x: Any, v: Any) -> list[Any]:
        out = inner(x, v)
        return [out, *m.autograd.grad((out * out).sum(), [x, v], allow_unused=True)]

    inner = m.compile(value) if mode == "gradient outside" else value
    run = m.compile(all_of_it) if mode == "compiled" else all_of_it
    return run(x, v)


@pytest.mark.parametrize("mode", ["eager", "compiled", "gradient outside"])
@pytest.mark.parametrize("f", CASES, ids=lambda f: f.__name__)
def test_gradient(f: Any, mode: str) -> None:
    got, want = derivatives(taut, f, mode), derivatives(torch, f, "eager")
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if b is not None:  # in float64, sums and products of some ten terms
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-10, 1e-12)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of PyTorch's own
def test_second_order_outside_a_compiled_function() -> None:
    def f(x: Any) -> Any:
        return (x.exp() * x.sum()).sin()

    results = []
    for m, g in ((taut, taut.compile(f)), (torch, f)):
        x = m.from_numpy(X.copy()).requires_grad_()
        (first,) = m.autograd.grad(g(x).sum(), x, create_graph=True)
        (second,) = m.autograd.grad((first * first).sum(), x)
        rows = m.func.jacrev(g)(m.from_numpy(X[0]))
        columns = m.func.jacfwd(g)(m.from_numpy(X[0]))
        results.append([first, second, rows, columns])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-10, 1e-10)


def test_a_leaf_made_inside_is_not_differentiated_outside() -> None:
    @taut.compile
    def f(x: Any) -> Any:
        own = x.detach().requires_grad_()
        return own * 2

    assert f(taut.ones(2, requires_grad=True)).tolist() == [2.0, 2.0]
