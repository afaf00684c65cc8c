"""Derivatives of higher order, custom operations and checkpoints, against PyTorch's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn
from taut.autograd.function import once_differentiable
from taut.utils.checkpoint import checkpoint, checkpoint_sequential

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(5)
X, W = RNG.uniform(0.2, 1.2, (3, 4)), RNG.normal(size=(4, 4))
MODES = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


def run(f: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    return taut.compile(f) if compiled else f


def close(got: Any, want: Any, rtol: float = 1e-9) -> None:
    """In float64, two programs for one formula of third order: some hundred roundings apart."""
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol, 1e-11)


# --- order by order -------------------------------------------------------------------------------


def layer_norm(m: Any, x: Any) -> Any:
    """PyTorch's own is wrong in third order: it disagrees with its composition, as here."""
    if m is taut:
        return nn.functional.layer_norm(x, (4,))
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + 1e-5).sqrt()


COMPOSITIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "sin": lambda m, x, w: (x * 2).sin(),
    "exp": lambda m, x, w: (x * x).exp(),
    "tanh": lambda m, x, w: (x @ w).tanh(),
    "sigmoid": lambda m, x, w: (x @ w).sigmoid() * x,
    "matmul": lambda m, x, w: (x @ w) @ (x @ w).T @ x,
    "softmax": lambda m, x, w: (x @ w).softmax(-1) * x,
    "log softmax": lambda m, x, w: (x @ w).log_softmax(0) * x,
    "layer norm": lambda m, x, w: layer_norm(m, (x @ w).tanh()) * x,
    "pow": lambda m, x, w: x**3 + 2**x + x**x,
    "solve": lambda m, x, w: m.linalg.solve(x.T @ x + 3 * m.eye(4, dtype=x.dtype), w),
    "product": lambda m, x, w: (x * w[:3]).prod(1),
    "norm": lambda m, x, w: (x @ w).norm(dim=1) / x.norm(),
    "logsumexp": lambda m, x, w: (x @ w).logsumexp(1),
    "gelu": lambda m, x, w: m.nn.functional.gelu(x @ w),
    "silu": lambda m, x, w: m.nn.functional.silu(x @ w) + m.nn.functional.softplus(x),
    "cross entropy": lambda m, x, w: m.nn.functional.cross_entropy(x @ w, m.tensor([0, 3, 1])),
    "index": lambda m, x, w: (x[m.tensor([0, 0, 2])] * w[:3]) ** 3,
    "var": lambda m, x, w: (x @ w).var(0) * x.std(),
}


def orders(m: Any, f: Callable[[Any, Any, Any], Any], x: Any, w: Any) -> list[Any]:
    """Three derivatives, each of the last one's product with fixed weights."""
    value, found = f(m, x, w), []
    for order in range(3):
        scale = m.arange(value.numel()).reshape(value.shape).to(x.dtype) / value.numel() + 0.3
        (value,) = m.autograd.grad((value * scale).sum(), x, create_graph=order < 2)
        found.append(value)
    return found


@MODES
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_third_order(name: str, compiled: bool) -> None:
    f = COMPOSITIONS[name]
    want = orders(torch, f, torch.from_numpy(X).requires_grad_(), torch.from_numpy(W))
    x, w = taut.from_numpy(X.copy()).requires_grad_(), taut.from_numpy(W)
    got = run(lambda x, w: orders(taut, f, x, w), compiled)(x, w)
    for a, b in zip(got, want, strict=True):
        close(a, b)


# --- grad() and backward() ------------------------------------------------------------------------


def both(x: Any) -> tuple[Any, Any]:
    return taut.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()


def test_an_output_that_is_named_twice_counts_twice() -> None:
    x, t = both(X)
    y, u = x.exp(), t.exp()
    (got,) = taut.autograd.grad([y.sum(), (y * 2).sum(), y.sum()], x)
    (want,) = torch.autograd.grad([u.sum(), (u * 2).sum(), u.sum()], t)
    close(got, want)


def test_backward_for_some_leaves_only() -> None:
    x, y = both(X)[0], both(X)[0]
    (x * y).sum().backward(inputs=[x])
    assert x.grad is not None
    assert y.grad is None
    taut.autograd.backward([(x * y).sum(), x.sum()], inputs=y)
    assert y.grad is not None
    with pytest.raises(RuntimeError, match="cannot be empty"):
        x.sum().backward(inputs=[])


def test_materialised_and_batched_gradients() -> None:
    x, t = both(X)
    unused = both(X)[0]
    _, zero = taut.autograd.grad(x.sum(), [x, unused], materialize_grads=True)
    assert zero is not None
    assert not zero.any()
    seeds = RNG.normal(size=(5, 3, 4))
    (got,) = taut.autograd.grad(x.exp(), x, taut.from_numpy(seeds), is_grads_batched=True)
    (want,) = torch.autograd.grad(t.exp(), t, torch.from_numpy(seeds), is_grads_batched=True)
    close(got, want)
    with pytest.raises(RuntimeError, match="does not require grad"):
        taut.autograd.grad(x.sum(), taut.ones(2))


@pytest.mark.filterwarnings("ignore:Using backward")
def test_backward_with_create_graph() -> None:
    x, t = both(X)
    for v in (x, t):
        (v**3).sum().backward(create_graph=True)
        (v.grad**2).sum().backward()
    close(x.grad, t.grad)


@MODES
def test_a_gradient_penalty_is_one_native_call(compiled: bool) -> None:
    taut.manual_seed(0)
    ours = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    theirs = theirs.double()
    theirs.load_state_dict({k: torch.from_numpy(v.numpy()) for k, v in ours.state_dict().items()})
    optimizers = taut.optim.SGD(ours.parameters(), 0.1), torch.optim.SGD(theirs.parameters(), 0.1)

    def step_of(m: Any, critic: Any, optimizer: Any) -> Callable[..., Any]:
        def step(real: Any, fake: Any, mix: Any) -> Any:
            optimizer.zero_grad()
            between = (mix * real + (1 - mix) * fake).requires_grad_()
            score = critic(between)
            (slope,) = m.autograd.grad(score, between, m.ones_like(score), create_graph=True)
            penalty = ((slope.norm(2, dim=1) - 1) ** 2).mean()
            loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
            loss.backward()
            optimizer.step()
            return loss

        return step

    ours_step = run(step_of(taut, ours, optimizers[0]), compiled)
    theirs_step = step_of(torch, theirs, optimizers[1])
    batch = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4)), RNG.uniform(size=(6, 1))
    for _ in range(3):
        got = ours_step(*map(taut.from_numpy, batch))
        want = theirs_step(*map(torch.from_numpy, batch))
        close(got, want)
    if compiled:
        assert ours_step.stats() == {"traces": 1, "calls": 3, "native_calls": 3}  # type: ignore[attr-defined]


@MODES
def test_a_hessian_vector_product_is_one_native_call(compiled: bool) -> None:
    def product(m: Any) -> Callable[..., Any]:
        def hvp(x: Any, v: Any) -> Any:
            (g,) = m.autograd.grad((x.exp() * x.sum()).sum(), x, create_graph=True)
            return m.autograd.grad(g, x, v)[0]

        return hvp

    x, t = both(X)
    made = run(product(taut), compiled)
    got = made(x, taut.from_numpy(X))
    close(got, product(torch)(t, torch.from_numpy(X)))
    assert not got.requires_grad
    if compiled:
        assert made.stats()["native_calls"] == 1  # type: ignore[attr-defined]


FUNCTIONAL = ("vjp", "jvp", "hvp", "vhp")


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional_products(name: str) -> None:
    def f(x: Any, y: Any) -> Any:
        z = (x * y).sin() * x
        return z.sum() if name in ("hvp", "vhp") else z

    v = X if name == "vjp" else (X, X + 1)
    got = getattr(taut.autograd.functional, name)(f, tensors(taut, (X, X * 2)), tensors(taut, v))
    want = getattr(torch.autograd.functional, name)(
        f, tensors(torch, (X, X * 2)), tensors(torch, v)
    )
    for a, b in zip((got[0], *listed(got[1])), (want[0], *listed(want[1])), strict=True):
        close(a, b)


def tensors(m: Any, v: Any) -> Any:
    return tuple(map(m.from_numpy, v)) if isinstance(v, tuple) else m.from_numpy(v)


def listed(v: Any) -> list[Any]:
    return list(v) if isinstance(v, tuple) else [v]


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_functional_matrices(strategy: str) -> None:
    def f(x: Any, y: Any) -> Any:
        return (x @ y.T).tanh(), x.exp()

    def s(x: Any, y: Any) -> Any:
        return (x * y * x.sin()).sum()

    ours_of = taut.autograd.functional
    ours, theirs = tensors(taut, (X, X)), tensors(torch, (X, X))
    want = torch.autograd.functional.jacobian(f, theirs)
    for a, b in zip(ours_of.jacobian(f, ours, strategy=strategy), want, strict=True):
        for c, d in zip(a, b, strict=True):
            close(c, d)
    want = torch.autograd.functional.hessian(s, theirs)
    for a, b in zip(ours_of.hessian(s, ours, outer_jacobian_strategy=strategy), want, strict=True):
        for c, d in zip(a, b, strict=True):
            close(c, d)
    x, t = both(X)
    for m, v in ((taut, x), (torch, t)):
        m.autograd.functional.jacobian(lambda v: v.exp() * v, v, create_graph=True).sum().backward()
    close(x.grad, t.grad)


# --- autograd.Function ----------------------------------------------------------------------------


def exponential(m: Any) -> Any:
    class Exp(m.autograd.Function):  # type: ignore[misc]  # either library's
        @staticmethod
        def forward(ctx: Any, x: Any, scale: float) -> Any:
            y = x.exp()
            ctx.save_for_backward(y)
            ctx.scale = scale
            assert not y.requires_grad
            return y * 1 if scale == 0 else y

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            (y,) = ctx.saved_tensors
            return ct * y * ctx.scale, None

    return Exp


def several(m: Any) -> Any:
    class Several(m.autograd.Function):  # type: ignore[misc]  # as above
        """Two results, one of them constant, an unused one, and a context set up apart."""

        @staticmethod
        def forward(x: Any, k: int, y: Any) -> Any:
            return x * y, (x > y), x + y, k

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(inputs[0], inputs[2])
            ctx.mark_non_differentiable(output[1])

        @staticmethod
        def backward(ctx: Any, product: Any, flag: Any, total: Any, k: Any) -> Any:
            x, y = ctx.saved_tensors
            assert ctx.needs_input_grad == (True, False, True)
            return product * y * 3 + total, None, product * x - total

    return Several


def uses(m: Any, x: Any) -> Any:
    a = exponential(m).apply(x, 2.0)
    b, flag, c, k = several(m).apply(a, 7, x)
    assert not flag.requires_grad
    assert k == 7
    return ((b * c).sin() + b * flag.to(x.dtype)).sum()


@MODES
def test_custom_functions(compiled: bool) -> None:
    x, t = both(X)
    got = run(lambda x: taut.autograd.grad(uses(taut, x), x)[0], compiled)(x)
    close(got, torch.autograd.grad(uses(torch, t), t)[0])

    def second(m: Any, x: Any) -> Any:
        (g,) = m.autograd.grad(uses(m, x), x, create_graph=True)
        return m.autograd.grad((g * g).sum(), x)[0]

    close(run(lambda x: second(taut, x), compiled)(x), second(torch, t))


@MODES
def test_a_custom_function_in_a_training_step(compiled: bool) -> None:
    w, u = both(W)
    ours, theirs = exponential(taut), exponential(torch)

    def step(x: Any) -> Any:
        w.grad = None
        loss = ours.apply((x @ w).tanh(), 0.5).sum()
        loss.backward()
        return loss

    made = run(step, compiled)
    for _ in range(2):
        close(made(taut.from_numpy(X)), theirs.apply((torch.from_numpy(X) @ u).tanh(), 0.5).sum())
    theirs.apply((torch.from_numpy(X) @ u).tanh(), 0.5).sum().backward()
    close(w.grad, u.grad)


def test_custom_functions_within_function_transforms() -> None:
    exp = exponential(taut)
    x = taut.from_numpy(X)
    per_row = taut.vmap(taut.grad(lambda row: exp.apply(row, 2.0).sum()))(x)
    close(per_row, (x.exp() * 2))
    with pytest.raises(RuntimeError, match="vmap cannot map over Exp"):
        taut.vmap(lambda row: exp.apply(row, 2.0))(taut.ones(2, 2).requires_grad_())


@MODES
@pytest.mark.parametrize("name", ["jacrev", "jacfwd", "hessian", "jvp", "rows of jacrev"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of PyTorch's own
def test_custom_functions_in_jacobians(name: str, compiled: bool) -> None:
    """PyTorch asks for rules of their own there; here they are derived from `backward`."""

    def derivative(m: Any, f: Callable[..., Any]) -> Callable[..., Any]:
        if name == "jvp":
            return lambda x: m.func.jvp(f, (x,), (x * 3,))[1]
        if name == "rows of jacrev":
            return m.func.vmap(m.func.jacrev(f))  # type: ignore[no-any-return]  # as below
        return getattr(m.func, name)(f)  # type: ignore[no-any-return]  # of either library

    exp = exponential(taut)
    made = run(derivative(taut, lambda x: exp.apply(x.sin(), 1.0) * x), compiled)
    want = derivative(torch, lambda x: x.sin().exp() * x)(torch.from_numpy(X[:, :2]))
    close(made(taut.from_numpy(X[:, :2].copy())), want)


def test_a_straight_through_estimator_and_in_place() -> None:
    class Round(taut.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.round()

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            return ct

    class Doubled(taut.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            return ct * 2

    x = taut.tensor([0.4, 1.6], requires_grad=True)
    (Round.apply(x) * 3).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 3.0]
    y = x * 1
    assert Doubled.apply(y) is y
    (gradient,) = taut.autograd.grad(y.sum(), x)
    assert gradient is not None
    assert gradient.tolist() == [2.0, 2.0]


def test_custom_functions_refuse() -> None:
    class Once(taut.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, ct: Any) -> Any:
            return ct * 2 * ctx.saved_tensors[0]

    class Wrong(taut.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            return x + y

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            return ct

    class Shape(Wrong):
        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            return ct, ct.sum()

    x = taut.ones(2, requires_grad=True)
    (g,) = taut.autograd.grad(Once.apply(x).sum(), x, create_graph=True)
    assert g is not None
    with pytest.raises(RuntimeError, match="marked with @once_differentiable"):
        g.sum().backward()
    with pytest.raises(RuntimeError, match=r"incorrect number of gradients \(expected 2, got 1\)"):
        Wrong.apply(x, x).sum().backward()
    with pytest.raises(RuntimeError, match="invalid gradient at index 1"):
        Shape.apply(x, x).sum().backward()
    y = x * 1
    z = Once.apply(y)
    y.mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_a_saved_result_does_not_keep_itself_alive() -> None:
    y = exponential(taut).apply(taut.ones(3, requires_grad=True), 1.0)
    memory = weakref.ref(y.storage)
    gc.disable()
    try:
        del y
        assert memory() is None
    finally:
        gc.enable()


# --- checkpoint -----------------------------------------------------------------------------------


def block(x: Any, w: Any) -> Any:
    h = nn.functional.dropout((x @ w).tanh(), 0.5)
    return (h @ w).sigmoid() * h


@MODES
def test_a_checkpoint_changes_no_bit(compiled: bool) -> None:
    def step(x: Any, w: Any, kept: bool) -> Any:
        y = block(x, w) if kept else checkpoint(block, x, w, use_reentrant=False)
        z = block(y, w) if kept else checkpoint(lambda y: block(y, w), y, use_reentrant=True)
        return taut.autograd.grad((z * z).sum(), [x, w])

    made = run(step, compiled)
    results = []
    for kept in (True, False):
        taut.manual_seed(4)
        x, w = both(X)[0], both(W)[0]
        results.append([*made(x, w, kept), taut.rand(1)])
    for a, b in zip(*results, strict=True):
        assert taut.equal(a, b)


def test_a_checkpoint_keeps_nothing_and_computes_again() -> None:
    calls, memory = [], []

    def watched(x: Any) -> Any:
        calls.append(1)
        h = x.exp()
        memory.append(weakref.ref(h.storage))
        return h.sin()

    x, t = both(X)
    y = checkpoint(watched, x)
    assert memory[0]() is None
    (g,) = taut.autograd.grad(y.sum(), x, create_graph=True)
    assert g is not None
    (second,) = taut.autograd.grad((g * g).sum(), x)
    assert len(calls) > 1
    (h,) = torch.autograd.grad(t.exp().sin().sum(), t, create_graph=True)
    close(second, torch.autograd.grad((h * h).sum(), t)[0])


def test_checkpoints_nest_and_notice_another_course() -> None:
    x, t = both(X)

    def inner(a: Any) -> Any:
        return checkpoint(lambda b: b.tanh().exp(), a).sin()

    checkpoint(inner, x).sum().backward()
    t.tanh().exp().sin().sum().backward()
    close(x.grad, t.grad)
    turns = iter([True, False])
    y = checkpoint(lambda a: a.exp() if next(turns) else a.sin(), x)
    with pytest.raises(RuntimeError, match="different number of tensors was saved"):
        y.sum().backward()


def test_checkpoint_sequential() -> None:
    net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    x = taut.ones(2, 4)
    net(x).sum().backward()
    want = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    checkpoint_sequential(net, 2, x, use_reentrant=False).sum().backward()
    for p, w in zip(net.parameters(), want, strict=True):
        assert p.grad is not None
        assert taut.equal(p.grad, w)
