"""Writes in place: by index, by methods, through views, eager, traced and against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from taut.compiler.evaluate import evaluate
from taut.compiler.verify import verify
from taut.frontend import create
from taut.frontend.context import Mode, using
from taut.frontend.tensor import Tensor
from taut.frontend.trace import Argument, Trace

# Statements that write to `y`, a copy of x; `T` is taut's `create` or torch.
WRITES = """
y[0] = 1.0; y[1, 2] = v[0]; y[:, 1] = v[:2]; y[:, ::2] = 0; y[...] = v; y[:] = x * 2; y[None] = v
y[0, 1:] = v[1:]; y[-1] = v[None, None]; y[1:1] = 5.0; y[[0, 1], [1, 2]] = v[:2]
y[:, [0, 2]] = 7.0; y[c] = x + 1; y[c, 1] = v[:2]; y[b] = 0.0; y[b] = v; y[p] = v; y[p, 1] = 3.0
y[b] = v.sum(); y[y > 0] = -1.0; y[:, b[0]] = 2.0; y[[1]] = v; y[c[:1], :2] = x[:1, 1:]
y.view(-1)[2] = 5.0; y.t()[1] = v[:2]; y[0][1] = 4.0; y[:, 1:][0] = v[1:]
y.reshape(3, 2)[1:, 0] = 9.0; y.unsqueeze(0)[0, 1] = v; y += 1; y -= v; y *= v; y /= 2; y **= 2
y.add_(v, alpha=2); y.sub_(1); y.mul_(x); y.div_(v); y.clamp_(0, 1); y.neg_(); y.abs_(); y.exp_()
y.zero_(); y.fill_(3); y.fill_(v[0]); y.copy_(v); y.relu_(); y.sigmoid_(); y.tanh_(); y.square_()
y.round_(); y.lerp_(x * 2, 0.3); y.addcmul_(x, x); y.addcdiv_(x, x + 5, value=2)
y.masked_fill_(b, 2.0); y.scatter_(1, cc, x * 3); y.scatter_add_(1, cc, x * 3); y.tril_()
y.triu_(1); y.index_add_(0, c, x); y.index_fill_(1, c, 8.0); y.index_put_((c, c), v[:2])
y.index_put_((c,), x, accumulate=True); y[0] += v; y[:, 1] *= 2; y[1, 1] -= 3; y.t().mul_(2)
y[0].zero_(); y.view(6)[1:4].fill_(2.0); y.diagonal().fill_(1.0); y.floor_(); y.clamp_min_(0.5)
y.pow_(3); y[y.detach() < 0] = 0.0; y[0, 0] = T.tensor(5); y[c] = 1; y[...] += 1
y.narrow(1, 1, 2).add_(1); y.select(0, 1).sub_(v)
"""
CASES = [c.strip() for line in WRITES.strip().splitlines() for c in line.split(";") if c.strip()]


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(11)
    return {
        "x": rng.uniform(-2, 2, (2, 3)).astype(np.float32),
        "v": rng.uniform(1, 2, 3).astype(np.float32),
        "c": np.array([1, 0]),
        "cc": np.array([[0, 2, 1], [1, 2, 0]]),
        "b": np.array([[True, False, True], [False, False, True]]),
        "p": np.array([True, False]),
    }


def written(statement: str, library: Any, scope: dict[str, Any]) -> Any:
    """`y` after the statement."""
    names = {"T": library, "y": scope["x"] * 1.0, **scope}
    exec(statement, names)  # noqa: S102  # the cases are the tests' own
    return names["y"]


def operands(library: Any) -> dict[str, Any]:
    found = {name: library.from_numpy(array) for name, array in arrays().items()}
    found["x"].requires_grad_()
    found["v"].requires_grad_()
    return found


@pytest.mark.parametrize("statement", CASES)
def test_written_as_in_torch(statement: str) -> None:
    torch = pytest.importorskip("torch")
    own, other = operands(create), operands(torch)
    ours, theirs = written(statement, create, own), written(statement, torch, other)
    # One rounding for each of a few operations; gradients of up to three.
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-6)
    ct = np.cos(np.arange(6, dtype=np.float32)).reshape(2, 3)
    if not ours.requires_grad:  # everything was overwritten; PyTorch goes on to give zeros
        return
    ours.backward(create.from_numpy(ct))
    theirs.backward(torch.from_numpy(ct))
    for name in ("x", "v"):
        assert_same_gradient(own[name].grad, other[name].grad)


def assert_same_gradient(ours: Any, theirs: Any) -> None:
    if theirs is None or ours is None:
        assert all(g is None or not g.numpy().any() for g in (ours, theirs))
    else:
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


# The mask's number of elements is the number of rows written, which a trace cannot know.
EAGER_ONLY = ("y[b] = v", "y[p, 1] = 3.0")


@pytest.mark.parametrize("statement", [c for c in CASES if c not in EAGER_ONLY])
def test_traced_write_is_the_eager_one(statement: str) -> None:
    trace = Trace("write")
    scope = {
        name: trace.argument(i, create.from_numpy(array).aval, name, False)
        for i, (name, array) in enumerate(arrays().items())
    }
    with using(Mode(trace, False)):
        result = written(statement, create, scope)
        graph = trace.graph([trace.read(result)], [None])
    verify(graph)
    given = list(arrays().values())
    inputs = [
        given[b.position] if isinstance(b, Argument) else b.tensor.storage.array  # type: ignore[union-attr]  # tensors
        for b in trace.bindings
    ]
    (found,) = evaluate(graph, inputs)
    eager = {name: create.from_numpy(array) for name, array in arrays().items()}
    np.testing.assert_array_equal(found, written(statement, create, eager).numpy())


def test_view_shares_memory_and_counts_writes() -> None:
    x = create.zeros(2, 3)
    row = x[1]
    row[0] = 5.0
    assert x.tolist() == [[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]]
    assert row.storage is x.storage
    assert x.storage.version == 1
    x.t()[2] = create.tensor([7.0, 8.0])
    assert row.tolist() == [5.0, 0.0, 8.0]


def test_copies_do_not_share_memory() -> None:
    x = create.arange(6).reshape(2, 3)
    for copy in (x[[0, 1]], x[x >= 0].reshape(2, 3), x.clone(), x.flip(0).flip(0)):
        copy[0, 0] = 9
        assert x[0, 0].item() == 0


def test_write_keeps_the_dtype() -> None:
    x = create.tensor([1, 2, 3])
    x[0] = 2.9
    assert x.tolist() == [2, 2, 3]
    x[1:] = create.tensor([1.5, -1.5])
    assert x.tolist() == [2, 1, -1]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("y[0] = v[:2]", "The expanded size of the tensor (3) must match the existing size (2)"),
        ("y[5] = 1.0", "index 5 is out of bounds for dimension 0 with size 2"),
        (
            "y[b] = v[:2]",
            "shape mismatch: value tensor of shape [2] cannot be broadcast to indexing",
        ),
        ("y[[0, 1]] = c", "shape mismatch: value tensor of shape [2] cannot be broadcast to"),
        ("y[0] = 'a'", "can't assign a str"),
        ("x[0] = 1.0", "a view of a leaf Variable that requires grad is being used in an in-place"),
        ("x.add_(1)", "a leaf Variable that requires grad is being used in an in-place operation."),
        ("c.add_(1.5)", "result type Float can't be cast to the desired output type Long"),
        ("y[0].add_(x)", "output with shape [3] doesn't match the broadcast shape [2, 3]"),
    ],
)
def test_error_leaves_the_tensor_as_it_was(statement: str, message: str) -> None:
    scope = operands(create)
    before = {name: tensor.detach().numpy().copy() for name, tensor in scope.items()}
    with pytest.raises((RuntimeError, IndexError, TypeError)) as caught:
        written(statement, create, scope)
    assert message in str(caught.value)
    for name, tensor in scope.items():
        np.testing.assert_array_equal(tensor.detach().numpy(), before[name])


def test_gradient_through_a_write_to_a_view() -> None:
    x = create.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 1
    y[1:] *= 10
    (y * y).sum().backward()
    assert isinstance(x.grad, Tensor)
    assert x.grad.tolist() == [2.0, 400.0, 600.0]


def test_memory_that_a_gradient_needs_is_guarded() -> None:
    x = create.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    z = y * y
    y[0] = 5.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
