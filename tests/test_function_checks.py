"""Conditions on values: errors at once in eager mode, checks of the program in a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from taut.compiler.aval import symbol
from taut.compiler.errors import CheckFailed
from taut.compiler.evaluate import evaluate
from taut.compiler.ir import Graph
from taut.frontend import create
from taut.frontend.context import Mode, using
from taut.frontend.functions import gather, linalg, loss, neural, public, random
from taut.frontend.generator import default_generator
from taut.frontend.tensor import Tensor
from taut.frontend.trace import Trace


def trace_of(
    function: Callable[..., Tensor], arrays: Sequence[Any], symbolic: bool = False
) -> Graph:
    """The graph of a function, the first dimension of its first argument named B if asked for."""
    trace = Trace("f")
    proxies = []
    for position, array in enumerate(arrays):
        aval = create.from_numpy(array).aval
        if symbolic and position == 0:
            aval = aval.with_shape((symbol("B"), *aval.shape[1:]))
        proxies.append(trace.argument(position, aval, f"x{position}", False))
    with using(Mode(trace, False)):
        result = function(*proxies)
        return trace.graph([trace.read(result)], [None])


def only_checks(graph: Graph) -> Graph:
    """The graph without results, which NumPy could not compute from bad positions."""
    return graph.replace(outputs=(), donations=())


def ints(*numbers: int) -> Any:
    return np.array(numbers)


def rows(x: Tensor, index: Tensor) -> Tensor:
    return gather.index_select(x, 0, index)


def columns(x: Tensor, index: Tensor) -> Tensor:
    return gather.gather(x, 1, index)


def embedded(weight: Tensor, index: Tensor) -> Tensor:
    return neural.embedding(index, weight)


def one_hot(index: Tensor) -> Tensor:
    return gather.one_hot(index, 3)


ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
Case = tuple[str, Callable[..., Any], list[Any], list[Any], str]
CASES: list[Case] = [
    ("getitem", lambda x, i: x[i], [ROWS, ints(0, -3)], [ROWS, ints(3, 0)], "0 with size 3"),
    ("column", lambda x, i: x[:, i], [ROWS, ints(1)], [ROWS, ints(-3)], "1 with size 2"),
    ("select", rows, [ROWS, ints(2)], [ROWS, ints(-1)], "index out of range in self"),
    ("gather", columns, [ROWS, ints(1)[None]], [ROWS, ints(2)[None]], "1 with size 2"),
    ("embedding", embedded, [ROWS, ints(2)], [ROWS, ints(3)], "index out of range in self"),
    ("loss", loss.cross_entropy, [ROWS, ints(1, 0, -100)], [ROWS, ints(0, 2, 1)], "out of bounds"),
    ("one_hot", one_hot, [ints(2)], [ints(3)], "smaller than num_classes"),
    ("bce", loss.binary_cross_entropy, [ROWS * 0, ROWS], [ROWS, ROWS], "between 0 and 1"),
    ("bernoulli", random.bernoulli, [ROWS * 0], [ROWS], "p_in <= 1"),
    ("inv", linalg.inv, [np.eye(2)], [np.zeros((2, 2))], "singular"),
    ("solve", linalg.solve, [np.eye(2), np.ones(2)], [np.ones((2, 2)), np.ones(2)], "singular"),
]


@pytest.mark.parametrize(
    ("name", "function", "good", "bad", "message"), CASES, ids=[c[0] for c in CASES]
)
def test_program_checks_what_eager_mode_raises(
    name: str, function: Callable[..., Any], good: list[Any], bad: list[Any], message: str
) -> None:
    graph = trace_of(function, good)
    assert graph.checks
    inputs = [*good, *([default_generator.state.numpy()] if name == "bernoulli" else [])]
    (found,) = evaluate(graph, inputs)
    if name != "bernoulli":
        np.testing.assert_array_equal(found, function(*map(create.from_numpy, good)).numpy())
    with pytest.raises((IndexError, RuntimeError)) as eager:
        function(*map(create.from_numpy, bad))
    with pytest.raises(CheckFailed, match=message) as compiled:
        evaluate(only_checks(graph), [*bad, *inputs[len(good) :]])
    assert str(compiled.value).startswith(f"{type(eager.value).__name__}: ")
    assert "test_function_checks.py:" in str(compiled.value)


@pytest.mark.parametrize(
    ("function", "least"),
    [
        (lambda x: x[2], 3),
        (lambda x: x[-2], 2),
        (lambda x: x[:2], 2),
        (lambda x: x[:-1], 1),
        (lambda x: public.select(x, 0, 1), 2),
        (lambda x: public.roll(x, 2, 0), 2),
    ],
)
def test_symbolic_size_must_be_large_enough(function: Callable[..., Any], least: int) -> None:
    graph = trace_of(function, [ROWS], symbolic=True)
    x = np.ones((least, 2), np.float32)
    (found,) = evaluate(graph, [x])
    np.testing.assert_array_equal(found, function(create.from_numpy(x)).numpy())
    with pytest.raises(CheckFailed, match=rf"^RuntimeError: traced for sizes with B >= {least} \("):
        evaluate(only_checks(graph), [x[1:]])


def test_check_that_cannot_fail_is_not_made() -> None:
    assert not trace_of(lambda x: x[:, 1], [ROWS], symbolic=True).checks
    assert not trace_of(lambda x: x[1:, :-1], [ROWS]).checks
    assert not trace_of(lambda x: x[1:], [ROWS]).checks


def test_singular_matrix_is_a_linalg_error() -> None:
    assert issubclass(linalg.LinAlgError, RuntimeError)
    with pytest.raises(linalg.LinAlgError, match=r"The diagonal element 2 is zero.*singular"):
        linalg.inv(create.ones(2, 2))
    with pytest.raises(linalg.LinAlgError, match=r"\(Batch element 1\): The solver failed"):
        linalg.solve(public.stack([create.eye(2), create.zeros(2, 2)]), create.ones(2, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: public.var(create.ones(1)), r"var\(\): degrees of freedom is <= 0"),
        (lambda: loss.mse_loss(create.ones(3), create.ones(1)), "Using a target size"),
        (lambda: public.softmax(create.ones(3)), "Implicit dimension choice for softmax"),
        (lambda: loss.kl_div(create.ones(3), create.ones(3)), "reduction: 'mean' divides"),
    ],
)
def test_warning_points_to_the_caller(call: Callable[[], Any], message: str) -> None:
    with pytest.warns(UserWarning, match=message) as caught:
        call()
    assert caught[0].filename == __file__
