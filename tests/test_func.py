"""Functions of functions against PyTorch's `torch.func`: eager, compiled, and within each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut
from taut import func, nn

torch = pytest.importorskip("torch")

# PyTorch warns of itself when its forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

# All comparisons are in float64: two programs for one formula differ by roundings, 1e-16 each.
RTOL, ATOL = 1e-10, 1e-12


def arrays(*shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(sum(map(len, shapes)))
    return [rng.uniform(0.2, 1.5, size=shape) for shape in shapes]


def as_tensors(m: Any, tree: Any) -> Any:
    if isinstance(tree, np.ndarray):
        return m.from_numpy(tree.copy())
    if isinstance(tree, dict):
        return {k: as_tensors(m, v) for k, v in tree.items()}
    return type(tree)(as_tensors(m, v) for v in tree)


def require_equal(got: Any, want: Any) -> None:
    if isinstance(want, dict):
        assert list(got) == list(want)
        for key, value in want.items():
            require_equal(got[key], value)
    elif isinstance(want, (tuple, list)):
        assert isinstance(got, (tuple, list))
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            require_equal(a, b)
    else:
        assert tuple(got.shape) == tuple(want.shape)
        np.testing.assert_allclose(
            got.detach().numpy(), want.detach().numpy(), rtol=RTOL, atol=ATOL
        )


def mixed(m: Any) -> Callable[..., Any]:
    return lambda x, y: (x.sin() * y).exp() + (x @ x.T).tanh().sum() * y.log()


def scalar(m: Any) -> Callable[..., Any]:
    return lambda x, y: ((x * y).sin() * x.exp()).sum() + (x**3 / y).mean()


def tree(m: Any) -> Callable[..., Any]:
    def function(p: Any, x: Any) -> Any:
        h = (x @ p["w"] + p["b"]).tanh()
        return {"h": h, "s": (h * h).sum()}

    return function


def attention(m: Any) -> Callable[..., Any]:
    def function(x: Any, y: Any) -> Any:
        h = (x @ y.T / 2).softmax(-1) @ y
        if m is taut:
            return nn.functional.layer_norm(h, (3,))
        # PyTorch's own is wrong in second order forward: its derivatives do not sum to 0 in a row.
        centred = h - h.mean(-1, keepdim=True)
        return centred / ((centred**2).mean(-1, keepdim=True) + 1e-5).sqrt()

    return function


def pieces(m: Any) -> Callable[..., Any]:
    """Views, indexing, writes, sorting out and joining."""

    def function(x: Any, y: Any) -> Any:
        z = x * 2
        z[:, 0] = y[:, 1] ** 2
        picked = m.cat([z[:, 1:], y.flip(0)[:, :1]], 1)
        return picked.amax(1) + m.where(x > y, x, y * y).prod(1) + x[m.arange(3)].T[0]

    return function


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "mixed": (mixed, tuple(arrays((3, 3), (3, 3)))),
    "attention": (attention, tuple(arrays((3, 3), (3, 3)))),
    "pieces": (pieces, tuple(arrays((3, 3), (3, 3)))),
    "tree": (tree, ({"w": arrays((3, 2))[0], "b": arrays((2,))[0]}, arrays((3, 3))[0])),
    "scalar": (scalar, tuple(arrays((3, 3), (3, 3)))),
}


def pulled_back(result: Any, pull: Callable[..., Any]) -> Any:
    return pull(result)


TRANSFORMS: dict[str, Callable[[Any, Any], Any]] = {
    "jacrev": lambda fn, f: fn.jacrev(f),
    "jacrev both": lambda fn, f: fn.jacrev(f, argnums=(0, 1)),
    "jacrev chunks": lambda fn, f: fn.jacrev(f, chunk_size=2),
    "jacfwd": lambda fn, f: fn.jacfwd(f),
    "jacfwd both": lambda fn, f: fn.jacfwd(f, argnums=(1, 0)),
    "hessian": lambda fn, f: fn.hessian(f),
    "reverse over forward": lambda fn, f: fn.jacrev(fn.jacfwd(f), argnums=1),
    "jvp": lambda fn, f: lambda *xs: fn.jvp(f, xs, xs),
    "jvp of jvp": lambda fn, f: lambda *xs: fn.jvp(lambda *ys: fn.jvp(f, ys, xs)[1], xs, xs),
    "vjp": lambda fn, f: lambda *xs: pulled_back(*fn.vjp(f, *xs)),
}


def compiled_or_not(f: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    return taut.compile(f) if compiled else f


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_transform(name: str, transform: str, compiled: bool) -> None:
    make, args = FUNCTIONS[name]
    want = TRANSFORMS[transform](torch.func, make(torch))(*as_tensors(torch, args))
    made = compiled_or_not(TRANSFORMS[transform](func, make(taut)), compiled)
    require_equal(made(*as_tensors(taut, args)), want)


def mapped_pull(fn: Any, f: Any, x: Any, y: Any) -> Any:
    """A tape made outside of `vmap`, pulled back within."""
    result, pull = fn.vjp(f, x, y)
    return fn.vmap(pull)(result * x.reshape(9)) if not result.shape else result


def captured_result(fn: Any, f: Any, x: Any, y: Any) -> Any:
    """A result from outside, with a history, met within `vmap` of a gradient."""

    def outer(x: Any) -> Any:
        z = (x * y).sin()
        return fn.vmap(fn.grad(lambda a: (a * a * z[0]).sum()))(x).sum()

    return fn.grad(outer)(x)


GRADIENTS: dict[str, Callable[[Any, Any], Any]] = {
    "grad": lambda fn, f: fn.grad(f),
    "grad both": lambda fn, f: fn.grad(f, argnums=(0, 1)),
    "grad of one of them": lambda fn, f: fn.grad(f, argnums=(-1,)),
    "grad and value": lambda fn, f: fn.grad_and_value(f),
    "grad of grad": lambda fn, f: fn.grad(lambda *xs: (fn.grad(f)(*xs) ** 2).sum(), argnums=1),
    "third order": lambda fn, f: fn.grad(
        lambda *xs: fn.grad(lambda *ys: fn.grad(f)(*ys).sin().sum())(*xs).sum()
    ),
    "aux": lambda fn, f: fn.grad(lambda *xs: (f(*xs), xs[0] * 2), has_aux=True),
    "hvp, forward over reverse": lambda fn, f: (
        lambda x, y: fn.jvp(fn.grad(lambda x: f(x, y)), (x,), (y,))[1]
    ),
    "hvp, reverse over forward": lambda fn, f: (
        lambda x, y: fn.grad(lambda x: fn.jvp(lambda x: f(x, y), (x,), (y,))[1])(x)
    ),
    "per sample": lambda fn, f: fn.vmap(fn.grad(f)),
    "per sample, shared": lambda fn, f: fn.vmap(fn.grad(f, argnums=1), in_dims=(0, None)),
    "through vmap": lambda fn, f: fn.grad(lambda x, y: fn.vmap(f)(x, y).sum()),
    "grad of per sample": lambda fn, f: fn.grad(
        lambda x, y: (fn.vmap(fn.grad(f), in_dims=(0, 1))(x, y) ** 2).sum(), argnums=(0, 1)
    ),
    "vmap of a pull back": lambda fn, f: lambda x, y: mapped_pull(fn, f, x, y),
    "captured result": lambda fn, f: lambda x, y: captured_result(fn, f, x, y),
    "vmap of hessian": lambda fn, f: fn.vmap(fn.hessian(f), in_dims=(1, None), out_dims=1),
    "vmap of jacfwd of vmap": lambda fn, f: fn.vmap(
        fn.jacfwd(lambda x, y: fn.vmap(f, in_dims=(0, None))(x.reshape(3, 1), y))
    ),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("transform", GRADIENTS)
def test_gradient(transform: str, compiled: bool) -> None:
    make, args = FUNCTIONS["scalar"]
    want = GRADIENTS[transform](torch.func, make(torch))(*as_tensors(torch, args))
    made = compiled_or_not(GRADIENTS[transform](func, make(taut)), compiled)
    require_equal(made(*as_tensors(taut, args)), want)


# --- vmap -----------------------------------------------------------------------------------------

X, Y = arrays((4, 3), (3,))


def written(fn: Any, x: Any) -> Any:
    return fn.vmap(lambda a: a.add_(a.sum()))(x), x


MAPPED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "both": lambda m, fn, x: fn.vmap(m.dot)(x, x),
    "shared": lambda m, fn, x: fn.vmap(lambda a, b: a * b, in_dims=(1, None))(x, x[:, 0]),
    "closure": lambda m, fn, x: fn.vmap(lambda a: (a * x).sum(0))(x),
    "nested": lambda m, fn, x: fn.vmap(lambda a: fn.vmap(lambda b: (a - b).abs().sum())(x))(x),
    "out dims": lambda m, fn, x: fn.vmap(lambda a: (a, m.outer(a, a)), out_dims=(1, 2))(x),
    "trees": lambda m, fn, x: fn.vmap(
        lambda d, a: {"s": d["p"][0] + a, "t": (d["p"][1],)},
        in_dims=({"p": (0, None)}, 1),
        out_dims={"s": 1, "t": None},
    )({"p": (x, x)}, x.reshape(3, 4)),
    "keywords": lambda m, fn, x: fn.vmap(lambda a, b: a + b)(x, b=x),
    "negative dim": lambda m, fn, x: fn.vmap(lambda a: a.cos(), in_dims=-1, out_dims=-1)(x),
    "no dependence": lambda m, fn, x: fn.vmap(lambda a: m.ones(2, dtype=a.dtype))(x),
    "in chunks": lambda m, fn, x: fn.vmap(lambda a: a.sin().sum(), chunk_size=3)(x),
    "indexing": lambda m, fn, x: fn.vmap(lambda a, i: (a[i], a.gather(0, i), x[i]))(
        x, m.tensor([[0, 2], [1, 1], [2, 0], [0, 0]])
    ),
    "matrices": lambda m, fn, x: fn.vmap(lambda a: (x @ a, a @ x.T, m.outer(a, a) @ x.T))(x),
    "solve": lambda m, fn, x: fn.vmap(
        lambda a: m.linalg.solve(m.outer(a, a) + 2 * m.eye(3, dtype=a.dtype), a)
    )(x),
    "writes": lambda m, fn, x: fn.vmap(
        lambda a: (a.clone().mul_(2), a.clone().index_fill_(0, m.tensor([1]), 5.0))
    )(x),
    "reductions": lambda m, fn, x: fn.vmap(
        lambda a: (a.max(), a.argmax(), a.var(), a.norm(), a.logsumexp(0), a.prod())
    )(x),
    "shapes": lambda m, fn, x: fn.vmap(
        lambda a: m.cat([a.expand(2, 3).T.reshape(6), m.stack([a, a.flip(0)]).view(6)])
    )(x),
    "einsum": lambda m, fn, x: fn.vmap(lambda a: m.einsum("i,ji->j", a, x))(x),
    "argument written": lambda m, fn, x: written(fn, x.clone()),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", MAPPED)
def test_vmap(name: str, compiled: bool) -> None:
    want = MAPPED[name](torch, torch.func, torch.from_numpy(X.copy()))
    made = compiled_or_not(lambda x: MAPPED[name](taut, func, x), compiled)
    require_equal(made(taut.from_numpy(X.copy())), want)


def test_vmap_equals_a_loop_in_its_gradients() -> None:
    x = taut.from_numpy(X.copy()).requires_grad_()
    w = taut.from_numpy(Y.copy()).requires_grad_()

    def one(a: Any) -> Any:
        with taut.no_grad():
            fixed = a.exp()
        return (a * w * fixed + a.detach() * w.detach() * a).sum()

    func.vmap(one)(x).sum().backward()
    got = x.grad, w.grad
    x.grad = w.grad = None
    taut.stack([one(a) for a in x]).sum().backward()
    require_equal(got, (x.grad, w.grad))


def test_what_was_cut_off_inside_stays_cut_off_in_a_compiled_step() -> None:
    x, w = taut.from_numpy(X.copy()), taut.from_numpy(Y.copy()).requires_grad_()

    @taut.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = func.vmap(lambda a: (a * w * w.detach()).sum())(x).sum()
        loss.backward()
        return loss

    step(x)
    require_equal(w.grad, taut.from_numpy(X.sum(0) * Y))


def test_vmap_checks_every_slice() -> None:
    x, index = taut.ones(3), taut.tensor([[0], [1], [3]])
    with pytest.raises(IndexError, match="out of"):
        func.vmap(lambda i: x[i])(index)
    with pytest.raises(IndexError, match="out of"):
        taut.compile(func.vmap(lambda i: x[i]))(index)
    singular = taut.stack([taut.eye(2), taut.zeros(2, 2)])
    with pytest.raises(taut.linalg.LinAlgError, match="singular"):
        func.vmap(taut.linalg.inv)(singular)


def test_randomness() -> None:
    x = taut.zeros(4, 5)
    with pytest.raises(RuntimeError, match="randomness="):
        func.vmap(lambda a: a + taut.rand(5))(x)
    taut.manual_seed(3)
    different = func.vmap(lambda a: a + taut.rand(5), randomness="different")(x)
    taut.manual_seed(3)
    assert taut.equal(different, taut.rand(4, 5))
    after = taut.rand(1)
    taut.manual_seed(3)
    same = func.vmap(lambda a: a + taut.rand(5), randomness="same")(x)
    taut.manual_seed(3)
    row = taut.rand(5)
    assert all(taut.equal(line, row) for line in same)
    assert not taut.equal(after, taut.rand(1))
    taut.manual_seed(3)
    mapped = func.vmap(lambda a: a + taut.rand(5), randomness="different")
    assert taut.equal(taut.compile(mapped)(x), different)


def test_vmap_refuses() -> None:
    x = taut.ones(2, 3)
    with pytest.raises(ValueError, match="at least one argument must be mapped"):
        func.vmap(lambda a: a, in_dims=None)(x)
    with pytest.raises(ValueError, match=r"sizes \[2, 3\] for the mapped dimension"):
        func.vmap(lambda a, b: a, in_dims=(0, 1))(x, x)
    with pytest.raises(ValueError, match="in_dim=2 for some input"):
        func.vmap(lambda a: a, in_dims=2)(x)
    with pytest.raises(ValueError, match="in_dim=0 for an input but the input is of type"):
        func.vmap(lambda a, b: a)(x, 2.0)
    with pytest.raises(ValueError, match="is not nested as the tensors are"):
        func.vmap(lambda a: a, in_dims=(0, 0))(x)
    with pytest.raises(ValueError, match="must only return Tensors"):
        func.vmap(lambda a: 2.0)(x)
    with pytest.raises(ValueError, match="can not return a BatchedTensor"):
        func.vmap(lambda a: a, out_dims=None)(x)
    total = taut.zeros(3)
    with pytest.raises(RuntimeError, match="a tensor that all slices share"):
        func.vmap(total.add_)(x)
    with pytest.raises(RuntimeError, match="values of a tensor, which are not known"):
        func.vmap(lambda a: a if a.sum() > 0 else -a)(x)


# --- modules --------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.hidden(x).tanh())


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_per_sample_gradients_of_a_module(compiled: bool) -> None:
    taut.manual_seed(0)
    net = Net()
    x, t = taut.randn(6, 3), taut.randn(6, 2)
    params = {k: v.detach() for k, v in net.named_parameters()}

    def loss(params: Any, x: Any, t: Any) -> Any:
        return ((func.functional_call(net, params, (x,)) - t) ** 2).sum()

    made = func.vmap(func.grad(loss), in_dims=(None, 0, 0))
    got = compiled_or_not(made, compiled)(params, x, t)
    for i in range(6):
        net.zero_grad()
        ((net(x[i]) - t[i]) ** 2).sum().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None
            # float32: sums of some ten products, in another order
            np.testing.assert_allclose(got[name][i], parameter.grad, rtol=1e-5, atol=1e-6)


def test_an_ensemble() -> None:
    nets = [Net() for _ in range(3)]
    x = taut.randn(4, 3)
    params, buffers = func.stack_module_state(nets)
    assert not buffers
    assert params["head.bias"].requires_grad
    got = func.vmap(lambda p, x: func.functional_call(nets[0], p, (x,)), in_dims=(0, None))(
        params, x
    )
    want = taut.stack([net(x) for net in nets])
    np.testing.assert_allclose(got.detach(), want.detach(), rtol=1e-5, atol=1e-6)  # as above
    got.sum().backward()
    assert params["head.bias"].grad.shape == (3, 2)


def test_functional_call_leaves_the_module_as_it_was() -> None:
    net = Net()
    bias = net.head.bias
    x = taut.ones(1, 3)
    other = func.functional_call(
        net, {"head.bias": taut.zeros(2), "head.weight": taut.zeros(2, 5)}, x
    )
    assert other.tolist() == [[0.0, 0.0]]
    assert net.head.bias is bias
    with pytest.raises(RuntimeError, match=r"unexpected key\(s\) \['nose'\]"):
        func.functional_call(net, {"nose": x}, x, strict=True)
    tied = nn.Linear(3, 3)
    pair = nn.Sequential(tied, tied)
    zeros = {"0.weight": taut.zeros(3, 3), "0.bias": taut.ones(3)}
    assert func.functional_call(pair, zeros, x).tolist() == [[1.0, 1.0, 1.0]]


# --- errors and edges -----------------------------------------------------------------------------


def test_captured_tensors_keep_their_gradients() -> None:
    w = taut.tensor([2.0, 3.0], requires_grad=True)
    x = taut.tensor([1.0, 4.0])
    (func.grad(lambda x: (w * x * x).sum())(x) ** 2).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [16.0, 384.0]  # d(2wx)^2/dw = 8 w x^2
    with taut.no_grad():
        assert not func.grad(lambda x: (w * x * x).sum())(x).requires_grad
    assert not func.grad(lambda x: (x * x).sum())(x).requires_grad


def test_unused_arguments_have_zero_derivatives() -> None:
    x, y = taut.ones(2), taut.ones(3)
    assert func.grad(lambda x, y: x.sum(), argnums=1)(x, y).tolist() == [0, 0, 0]
    assert func.jacrev(lambda x, y: x, argnums=1)(x, y).tolist() == [[0] * 3] * 2
    assert func.jacfwd(lambda x, y: x, argnums=1)(x, y).tolist() == [[0] * 3] * 2
    _, way = func.jvp(lambda x: (y, x.round()), (x,), (x,))
    assert way[0].tolist() == [0, 0, 0]
    assert way[1].tolist() == [0, 0]


def test_derivatives_refuse() -> None:
    x = taut.ones(2)
    with pytest.raises(TypeError, match="argument 1 is"):
        func.jacrev(lambda x, y: x, argnums=1)(x, taut.tensor([1]))
    with pytest.raises(RuntimeError, match="argnum=2, but only 1"):
        func.grad(lambda x: x.sum(), argnums=2)(x)
    with pytest.raises(RuntimeError, match="tangent of the primal's shape"):
        func.jvp(lambda x: x, (x,), (taut.ones(3),))
    with pytest.raises(RuntimeError, match="nested as the primals are"):
        func.jvp(lambda x: x, (x,), (x, x))
    _, pull = func.vjp(lambda x: (x, x), x)
    with pytest.raises(RuntimeError, match="nested as the function's result is"):
        pull(x)
    with pytest.raises(RuntimeError, match="returns a pair"):
        func.grad(lambda x: x.sum(), has_aux=True)(x)
