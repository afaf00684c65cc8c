"""Every function: against PyTorch, traced against eager, and gradients against differences.

The cases are expressions in `function_cases.txt`; what others raise is in `function_errors.txt`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import taut
from taut.compiler import dtypes
from taut.compiler.aval import symbol
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph
from taut.compiler.verify import verify
from taut.frontend import create
from taut.frontend.autograd import grad
from taut.frontend.compile import compile
from taut.frontend.context import Mode, using
from taut.frontend.errors import UntraceableError
from taut.frontend.functions import activation, gather, linalg, loss, neural, public
from taut.frontend.tensor import Tensor
from taut.frontend.trace import Argument, Trace

_NAMES = {
    "tensor": create.tensor,
    "zeros": create.zeros,
    "ones": create.ones,
    "arange": create.arange,
    "eye": create.eye,
    "linalg": SimpleNamespace(**vars(linalg)),
    **{d.long_name: d for d in dtypes.ALL},
}
TAUT = SimpleNamespace(**{n: getattr(public, n) for n in public.__all__}, **_NAMES)
F = SimpleNamespace(**{**vars(neural), **vars(loss), **vars(activation), "one_hot": gather.one_hot})

# Sums of up to 60 products of numbers below 3 in float32: a few ulps of the largest of them.
TOLERANCE = 2e-5


def read_sections() -> dict[str, list[str]]:
    """The cases by section."""
    sections: dict[str, list[str]] = {}
    for line in Path(__file__).with_name("function_cases.txt").read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            section += [case.strip() for case in line.split(";") if case.strip()]
    return sections


SECTIONS = read_sections()
FUNCTIONS = ("reductions", "indexing", "linalg", "neural", "arithmetic", "shapes", "bits")
CASES = [case for section in FUNCTIONS for case in SECTIONS[section]]


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    """The operands: floats, integers, bools; some have ties, zeros, infinities or no elements."""
    rng = np.random.default_rng(7)

    def floats(*shape: int) -> np.ndarray[Any, Any]:
        return np.asarray(rng.uniform(-2, 2, shape), np.float32)

    return {
        "f": floats(2, 3),
        "g": floats(2, 3),
        "u": rng.uniform(0.1, 0.9, (2, 3)).astype(np.float32),
        "v": floats(3),
        "w": floats(4, 3),
        "s": floats(),
        "m": floats(4, 2, 3),
        "n": floats(4, 3, 2),
        "q": floats(3, 3) + 3 * np.eye(3, dtype=np.float32),
        "k": floats(2, 3, 4, 5),
        "d": floats(2, 3).astype(np.float64),
        "z": floats(0),
        "zz": floats(2, 0),
        "i": rng.integers(-4, 5, (2, 3)),
        "j": rng.integers(1, 5, (2, 3)),
        "c": rng.integers(0, 3, (2,)),
        "cc": rng.integers(0, 3, (2, 3)),
        "h": rng.integers(0, 3, (2, 4, 5)),
        "b": np.array([[True, False, True], [False, False, True]]),
        "p": np.array([True, False]),
        "ties": np.array([[1, 3, 3], [-2, -2, -5]], np.float32),
        "zeros": np.array([[0, 1, -1], [0, 0, 0]], np.float32),
        "nans": np.array([1, math.nan, math.inf, -math.inf, 0], np.float32),
    }


def operands(library: Any) -> dict[str, Any]:
    """The operands as tensors of a library (taut's `create`, or torch); floats need a gradient."""
    found = {name: library.from_numpy(array) for name, array in arrays().items()}
    for name, array in arrays().items():
        found[name].requires_grad_(array.dtype.kind == "f")
    return found


def run(expression: str, scope: dict[str, Any], library: Any = TAUT, functional: Any = F) -> Any:
    names = {"T": library, "F": functional, "inf": math.inf, "nan": math.nan, **scope}
    return eval(expression, names)  # noqa: S307  # the cases are the tests' own


def leaves(result: Any) -> list[Any]:
    """The tensors and numbers of a nested result."""
    if isinstance(result, (tuple, list)):
        return [leaf for item in result for leaf in leaves(item)]
    return [result]


# --- against PyTorch ------------------------------------------------------------------------------


def in_torch(expression: str) -> tuple[list[Any], dict[str, Any]]:
    torch = pytest.importorskip("torch")
    scope = operands(torch)
    return leaves(run(expression, scope, torch, torch.nn.functional)), scope


def assert_equal(ours: Any, theirs: Any) -> None:
    if not hasattr(theirs, "detach"):
        assert ours == theirs
        return
    assert isinstance(ours, Tensor)
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert repr(ours.dtype) == repr(theirs.dtype)
    assert ours.requires_grad == theirs.requires_grad
    found, wanted = ours.detach().numpy(), theirs.detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def weights(shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """A cotangent in which every element counts differently."""
    return np.cos(np.arange(math.prod(shape))).reshape(tuple(shape)).astype(dtype)


def assert_gradients(name: str, ours: Any, theirs: Any) -> None:
    if theirs.grad is None or not theirs.numel():
        assert ours.grad is None or not ours.grad.numpy().any(), name
        return
    assert ours.grad is not None, name
    # Each step of the backward pass rounds once more: ten times the tolerance of a value.
    tolerance = 10 * TOLERANCE
    found, wanted = ours.grad.numpy(), theirs.grad.numpy()
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's
@pytest.mark.parametrize("expression", CASES)
def test_value_and_gradient_of_torch(expression: str) -> None:
    theirs, other = in_torch(expression)
    own = operands(create)
    ours = leaves(run(expression, own))
    for a, b in zip(ours, theirs, strict=True):
        assert_equal(a, b)
        if getattr(b, "requires_grad", False):
            ct = weights(b.shape, b.detach().numpy().dtype)
            a.backward(create.from_numpy(ct), retain_graph=True)
            b.backward(b.new_tensor(ct), retain_graph=True)
    for name, tensor in other.items():
        assert_gradients(name, own[name], tensor)


# Compositions whose last step depends, in PyTorch, on strides or on which kernel it chose.
UNNAMED = ("einsum", "multi_dot", "scaled_dot_product_attention", "f @ n", "m[0] @ n")


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's
@pytest.mark.parametrize("expression", [c for c in CASES if not any(u in c for u in UNNAMED)])
def test_backward_function_is_called_as_in_torch(expression: str) -> None:
    theirs, _ = in_torch(expression)
    for a, b in zip(leaves(run(expression, operands(create))), theirs, strict=True):
        if getattr(b, "grad_fn", None) is not None:
            assert a.grad_fn.name() == b.grad_fn.name()


# --- known values -------------------------------------------------------------------------------

KNOWN = [
    ("T.tensor([[1, 2], [3, 4]]).sum(0)", "tensor([4, 6])"),
    ("T.tensor([1.0, 2, 4]).mean()", "tensor(2.3333)"),
    ("T.tensor([1.0, 2, 4]).std()", "tensor(1.5275)"),
    ("T.tensor([3, 9, 4]).max(0).indices", "tensor(1)"),
    ("T.arange(12).reshape(3, 4)[1:, ::2]", "tensor([[ 4,  6],\n        [ 8, 10]])"),
    ("T.arange(4)[T.tensor([-1, 0])]", "tensor([3, 0])"),
    ("T.tensor([[1.0, 2], [3, 4]]) @ T.tensor([5.0, 6])", "tensor([17., 39.])"),
    (
        "T.linalg.inv(T.tensor([[2.0, 0], [0, 4]]))",
        "tensor([[0.5000, 0.0000],\n        [0.0000, 0.2500]])",
    ),
    (
        "T.linalg.solve(T.tensor([[2.0, 1], [1, 3]]), T.tensor([3.0, 5]))",
        "tensor([0.8000, 1.4000])",
    ),
    ("T.softmax(T.tensor([1.0, 2, 3]), 0)", "tensor([0.0900, 0.2447, 0.6652])"),
    ("F.gelu(T.tensor([-1.0, 0, 1]))", "tensor([-0.1587,  0.0000,  0.8413])"),
    ("F.cross_entropy(T.zeros(2, 4), T.tensor([1, 3]))", "tensor(1.3863)"),
    ("F.layer_norm(T.tensor([1.0, 2, 3]), (3,))", "tensor([-1.2247,  0.0000,  1.2247])"),
    ("F.one_hot(T.tensor([0, 2]))", "tensor([[1, 0, 0],\n        [0, 0, 1]])"),
    ("T.tensor([4, 5, 6]) - T.tensor([7, 8, 9])", "tensor([-3, -3, -3])"),
    ("T.tensor([1, 2, 3]) / T.tensor([4, 5, 6])", "tensor([0.2500, 0.4000, 0.5000])"),
    ("T.tensor([7, -7]) // 2", "tensor([ 3, -4])"),
    (
        "T.tensor([1.0, 5]).max(0)",
        "torch.return_types.max(\nvalues=tensor(5.),\nindices=tensor(1))",
    ),
]


@pytest.mark.parametrize(("expression", "text"), KNOWN)
def test_known_value(expression: str, text: str) -> None:
    assert repr(run(expression, {})) == text


# --- errors ---------------------------------------------------------------------------------------


def read_errors() -> list[tuple[str, str, str]]:
    """Expression, exception and message of each case."""
    text = Path(__file__).with_name("function_errors.txt").read_text()
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    faults = (line.strip().partition(": ") for line in lines[1::2])
    return [(case, kind, text) for case, (kind, _, text) in zip(lines[::2], faults, strict=True)]


ERRORS = read_errors()


@pytest.mark.filterwarnings("ignore:Using a target size")  # before the error that follows from it
@pytest.mark.parametrize(("expression", "kind", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_error(expression: str, kind: str, message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message) + r"( \(<string>:1\))?$") as caught:
        run(expression, operands(create))
    assert type(caught.value).__name__ == kind


@pytest.mark.filterwarnings("ignore:Using a target size")  # before the error that follows from it
@pytest.mark.parametrize(("expression", "kind", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_error_of_torch_is_the_same(expression: str, kind: str, message: str) -> None:
    with pytest.raises(Exception, match=f"^{re.escape(message)}") as caught:
        in_torch(expression)
    assert kind in [t.__name__.lstrip("_") for t in type(caught.value).__mro__]


# --- traced ---------------------------------------------------------------------------------------


def traced(expression: str, avals: dict[str, Any]) -> tuple[Graph, list[Any], Trace]:
    """The graph of an expression's tensors, and its leaves."""
    trace = Trace("case")
    scope = {}
    for position, (name, aval) in enumerate(avals.items()):
        floating = aval.dtype.is_floating_point
        scope[name] = trace.argument(position, aval, name, floating)
    with using(Mode(trace, True)):
        results = leaves(run(expression, scope))
        outputs = [trace.read(r) for r in results if isinstance(r, Tensor)]
    graph = trace.graph(outputs, [None] * len(outputs))
    verify(graph)
    return graph, results, trace


def inputs_of(trace: Trace, given: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Arrays for the graph's inputs: arguments, and the tensors that the trace found."""
    found = []
    bindings: list[Any] = trace.bindings
    for binding in bindings:
        if isinstance(binding, Argument):
            found.append(given[binding.position])
        else:
            found.append(binding.tensor.storage.array)
    return found


# What needs values to know the size of its result, or has no primitive yet.
EAGER_ONLY = (
    "sort",
    "topk",
    "unique",
    ".nonzero(",
    "argwhere",
    "masked_select",
    "f[b]",
    "f[p]",
    "f[:, b[0]]",
    "k[b]",
    "k[p, c[:1]]",
    "f[f > 0]",
    "f[b == False]",
    "i[b]",
    "f[True]",
    "f[False]",
    "f[[True, False]]",
    "T.where(b)",
    "F.one_hot(cc)",
    "repeat_interleave(c + 1",
    "T.allclose",
    "T.equal",
    "T.tensor([True",
)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("expression", CASES)
def test_traced_equals_eager(expression: str) -> None:
    eager = [r for r in leaves(run(expression, operands(create))) if isinstance(r, Tensor)]
    avals = {name: create.from_numpy(array).aval for name, array in arrays().items()}
    if any(part in expression for part in EAGER_ONLY):
        with pytest.raises(UntraceableError, match=r"not known while tracing \(<string>:1\)"):
            traced(expression, avals)
        return
    graph, _, trace = traced(expression, avals)
    for found, wanted in zip(
        evaluate(graph, inputs_of(trace, list(arrays().values()))), eager, strict=True
    ):
        assert found.dtype == wanted.dtype.numpy
        np.testing.assert_array_equal(found, wanted.detach().numpy())


SYMBOLIC = SECTIONS["symbolic"]


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("expression", SYMBOLIC)
def test_one_trace_serves_every_size(expression: str, rows: int) -> None:
    x = np.linspace(-1, 2, 3 * rows, dtype=np.float32).reshape(rows, 3)
    t, w = np.arange(rows) % min(rows, 3), np.ones((4, 3), np.float32)
    given = {"x": create.from_numpy(x), "t": create.from_numpy(t), "w": create.from_numpy(w)}
    size = symbol("B")
    avals = {
        "x": given["x"].aval.with_shape((size, 3)),
        "t": given["t"].aval.with_shape((size,)),
        "w": given["w"].aval,
    }
    graph, _, trace = traced(expression, avals)
    (found,) = evaluate(graph, inputs_of(trace, [x, t, w]))
    np.testing.assert_array_equal(found, run(expression, given).numpy())


# --- compiled -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("section", FUNCTIONS)
def test_compiled_equals_eager(section: str) -> None:
    """All functions of a section as one program."""
    cases = [c for c in SECTIONS[section] if not any(part in c for part in EAGER_ONLY)]

    def everything(scope: dict[str, Tensor]) -> list[Tensor]:
        return [r for c in cases for r in leaves(run(c, scope)) if isinstance(r, Tensor)]

    given = {name: create.from_numpy(array) for name, array in arrays().items()}
    names = [c for c in cases for r in leaves(run(c, given)) if isinstance(r, Tensor)]
    results = zip(names, compile(everything)(given), everything(given), strict=True)
    for case, found, wanted in results:
        assert found.dtype is wanted.dtype, case
        # Functions are within a few ulps of NumPy's, and sums are in another order.
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), 2e-5, 2e-6, err_msg=case)


def test_compiled_gradients_equal_eager_ones() -> None:
    """The gradients of everything smooth, each by itself, as one program."""
    floats = [name for name, array in arrays().items() if array.dtype.kind == "f"]

    def gradients(scope: dict[str, Tensor]) -> list[Tensor]:
        found: list[Tensor | None] = []
        for case in SMOOTH:
            total = run(case, scope).square().sum()
            found += grad(total, [scope[n] for n in floats], allow_unused=True)
        return [g for g in found if g is not None]

    given = operands(create)
    compiled, eager = compile(gradients)(given), gradients(given)
    for found, wanted in zip(compiled, eager, strict=True):
        # As for values, twice over: a forward and a backward pass.
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), 1e-4, 1e-4)


# --- gradients by differences ---------------------------------------------------------------------

SMOOTH = SECTIONS["smooth"]


@pytest.mark.parametrize("expression", SMOOTH)
def test_gradient_is_the_difference_quotient(expression: str) -> None:
    """A central difference in a random direction, in float64: about 1e-9 off at a step of 1e-5."""
    rng = np.random.default_rng(3)
    points = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in arrays().items()}
    ways = {n: rng.normal(size=a.shape) for n, a in points.items() if a.dtype.kind == "f"}

    def value(step: float) -> Any:
        moved = {n: a + step * ways[n] if n in ways else a for n, a in points.items()}
        scope = {n: create.from_numpy(np.asarray(a)) for n, a in moved.items()}
        for name in ways:
            scope[name].requires_grad_()
        result = run(expression, scope)
        ct = create.from_numpy(weights(result.shape, np.float64))
        return (result * ct).sum(), scope

    total, scope = value(0.0)
    total.backward()
    grads = {n: scope[n].grad for n in ways if scope[n].grad is not None}
    assert grads
    slope = sum((g.numpy() * ways[n]).sum() for n, g in grads.items())
    step = 1e-5
    difference = (value(step)[0].item() - value(-step)[0].item()) / (2 * step)
    assert slope == pytest.approx(difference, rel=1e-6, abs=1e-7)


OUT_OF_RANGE: dict[str, Callable[[Any, Any], Any]] = {
    "clamp": lambda t, x: x.clamp(-2, 2),
    "lt": lambda t, x: x < -2,
    "eq": lambda t, x: x == 260,
    "add": lambda t, x: x + (-2),
    "rsub": lambda t, x: -300 - x,
    "mul": lambda t, x: x * 300,
    "remainder": lambda t, x: x % -3,
    "and": lambda t, x: x & -2,
    "where": lambda t, x: t.where(x > 1, x, -2),
    "full_like": lambda t, x: t.full_like(x, -2),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_numbers_that_an_integer_dtype_has_not_wrap_as_in_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    for dtype in (np.uint8, np.int8):
        x = np.array([0, 1, 4, 5, 120], dtype)
        expected = OUT_OF_RANGE[name](torch, torch.from_numpy(x)).numpy()

        def function(x: Any) -> Any:
            return OUT_OF_RANGE[name](taut, x)

        for run in (function, taut.compile(function)):
            got = run(taut.from_numpy(x)).numpy()
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)


def test_no_integer_is_filled_with_what_it_cannot_hold() -> None:
    for function in (taut.full_like, taut.compile(taut.full_like)):
        with pytest.raises(RuntimeError, match="value cannot be converted to type uint8_t without"):
            function(taut.zeros(2, dtype=taut.uint8), 300)


@pytest.mark.parametrize(
    "make",
    [
        lambda m, **k: m.eye(2, 3, **k),
        lambda m, **k: m.arange(3.0, **k),
        lambda m, **k: m.linspace(0, 1, 4, **k),
        lambda m, **k: m.zeros_like(input=m.ones(2), **k),
        lambda m, **k: m.ones_like(m.zeros(2), **k),
        lambda m, **k: m.full_like(m.zeros(2), 3, **k),
        lambda m, **k: m.rand_like(m.zeros(2), **k) * 0,
        lambda m, **k: m.randn_like(m.zeros(2), **k) * 0,
    ],
)
def test_what_makes_tensors_takes_a_device_and_requires_grad(make: Any) -> None:
    torch: Any = pytest.importorskip("torch")
    options = {"device": "cpu", "requires_grad": True}
    found, want = (make(m, dtype=m.float64, **options) for m in (taut, torch))
    assert found.requires_grad
    assert found.tolist() == want.tolist()
    with pytest.raises(RuntimeError, match="CPU only"):
        make(taut, device="cuda")


def test_evenly_spaced_numbers_have_the_bits_of_pytorch() -> None:
    torch: Any = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    for steps in (0, 1, 2, 3, 7, 10, 64, 101):
        for dtype in ("float32", "float64"):
            start, end = (rng.normal(size=2) * 10).tolist()
            found = taut.linspace(start, end, steps, dtype=getattr(taut, dtype))
            want = torch.linspace(start, end, steps, dtype=getattr(torch, dtype))
            assert found.tolist() == want.tolist()
