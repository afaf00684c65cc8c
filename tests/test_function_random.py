"""Random functions: PyTorch's numbers, eager and traced alike; generators can be saved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from taut.compiler import dtypes
from taut.compiler.evaluate import evaluate
from taut.compiler.verify import verify
from taut.frontend import create, generator
from taut.frontend.context import Mode, using
from taut.frontend.functions import neural, public
from taut.frontend.tensor import Tensor
from taut.frontend.trace import Trace

TAUT = SimpleNamespace(
    **{n: getattr(public, n) for n in public.__all__},
    **{d.long_name: d for d in dtypes.ALL},
    **vars(generator),
    zeros=create.zeros,
    full=create.full,
    tensor=create.tensor,
)

DRAWS = """
T.rand(5); T.rand(2, 3); T.rand((700,)); T.rand(()); T.rand(0); T.rand(4, dtype=T.float64)
T.randn(5); T.randn(15); T.randn(16); T.randn(17); T.randn(3, 50); T.randn(20, dtype=T.float64)
T.randint(10, (5,)); T.randint(-3, 4, (2, 3)); T.randint(1 << 40, (3,))
T.randint(low=2, high=5, size=(4,)); T.randint(0, 10, (3,), dtype=T.float32)
T.rand_like(T.zeros(3)); T.randn_like(T.zeros(2, 9)); T.randint_like(T.zeros(3), 5)
T.randperm(7); T.randperm(0); T.zeros(5).uniform_(); T.zeros(5).uniform_(-2, 3)
T.zeros(4, 5).normal_(); T.zeros(7).normal_(1, 2); T.zeros(40).normal_(-1, 0.1)
T.zeros(3, dtype=T.float64).normal_(5, 3); T.zeros(6, dtype=T.int64).random_(3, 9)
T.normal(2.0, 3.0, (5,)); T.normal(T.zeros(4), T.full((4,), 2.0))
T.normal(T.full((20,), 1.0), 0.5); T.bernoulli(T.full((20,), 0.3))
T.bernoulli(T.full((9,), 0.3, dtype=T.float64))
T.multinomial(T.tensor([0.1, 0.5, 0.4]), 9, replacement=True)
T.multinomial(T.tensor([[1.0, 2.0], [3.0, 0.0]]), 4, True)
T.rand(3, generator=T.Generator().manual_seed(5)); T.zeros(30).uniform_(0, 1)
"""
CASES = [c.strip() for line in DRAWS.strip().splitlines() for c in line.split(";") if c.strip()]


def evaluated(expression: str, library: Any) -> Any:
    return eval(expression, {"T": library})  # noqa: S307  # the cases are the tests' own


def drawn(expression: str, library: Any, seed: int = 3) -> Any:
    """The expression's value and a number drawn after it."""
    library.manual_seed(seed)
    return evaluated(expression, library), library.rand(2)


@pytest.mark.parametrize("expression", CASES)
def test_numbers_of_torch(expression: str) -> None:
    torch = pytest.importorskip("torch")
    for ours, theirs in zip(drawn(expression, TAUT), drawn(expression, torch), strict=True):
        assert repr(ours.dtype) == repr(theirs.dtype)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_numbers_without_torch() -> None:
    generator.manual_seed(0)
    assert repr(public.rand(3)) == "tensor([0.4963, 0.7682, 0.0885])"
    generator.manual_seed(0)
    assert repr(public.randn(4)) == "tensor([ 1.5410, -0.2934, -2.1788,  0.5684])"
    generator.manual_seed(0)
    assert public.randint(10, (5,)).tolist() == [4, 9, 3, 0, 3]
    generator.manual_seed(0)
    assert public.randperm(5).tolist() == [4, 0, 1, 3, 2]


TRACED = [
    c for c in CASES if "randperm" not in c and "multinomial" not in c and "Generator" not in c
]


@pytest.mark.parametrize("expression", TRACED)
def test_traced_draw_is_the_eager_one(expression: str) -> None:
    trace = Trace("draw")
    with using(Mode(trace, False)):
        result = evaluated(expression, TAUT)
        following = public.rand(2)
        graph = trace.graph([trace.read(result), trace.read(following)], [None, None])
    verify(graph)
    eager = drawn(expression, TAUT)
    generator.manual_seed(3)
    bindings: list[Any] = trace.bindings
    inputs = [binding.tensor.storage.array for binding in bindings]
    for found, wanted in zip(evaluate(graph, inputs), eager, strict=True):
        np.testing.assert_array_equal(found, wanted.numpy())


def test_trace_reads_and_writes_the_state() -> None:
    trace = Trace("draw")
    with using(Mode(trace, False)):
        public.rand(3)
        public.randn(3)
    state = generator.default_generator.state
    assert list(trace.written) == [state.storage]
    assert len(trace.bindings) == 1


def test_generators_are_independent() -> None:
    own = generator.Generator().manual_seed(7)
    generator.manual_seed(1)
    first = public.rand(4)
    public.rand(100, generator=own)
    generator.manual_seed(1)
    assert public.rand(4).tolist() == first.tolist()
    assert own.initial_seed() == 7
    assert generator.initial_seed() == 1


def test_state_can_be_kept_and_taken_up() -> None:
    generator.manual_seed(4)
    public.randn(3)
    state = generator.get_rng_state()
    assert state.dtype is dtypes.u8
    assert tuple(state.shape) == (5056,)
    numbers = public.randn(5).tolist()
    generator.set_rng_state(state)
    assert public.randn(5).tolist() == numbers
    copy = generator.default_generator.clone_state()
    assert public.rand(3, generator=copy).tolist() == public.rand(3).tolist()


def test_state_is_exchanged_with_torch() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(9)
    torch.randn(5)
    generator.set_rng_state(create.from_numpy(torch.get_rng_state().numpy()))
    np.testing.assert_array_equal(public.randn(5).numpy(), torch.randn(5).numpy())
    np.testing.assert_array_equal(generator.get_rng_state().numpy(), torch.get_rng_state().numpy())


def test_seed_is_new_each_time() -> None:
    assert generator.seed() != generator.seed()
    assert generator.manual_seed(-1).initial_seed() == 2**64 - 1


@pytest.mark.parametrize(
    ("expression", "error", "message"),
    [
        (
            "T.rand(2, -1)",
            RuntimeError,
            "Trying to create tensor with negative dimension -1: [2, -1]",
        ),
        ("T.rand(2, dtype=T.int64)", NotImplementedError, "not implemented for 'Long'"),
        (
            "T.randint(5, 2, (2,))",
            RuntimeError,
            "'from' to be less than 'to', but got from=5 >= to=2",
        ),
        (
            "T.randint(1, 2, 3, (2,))",
            TypeError,
            "randint() takes high and size, or low, high and size",
        ),
        (
            "T.randperm(-1)",
            RuntimeError,
            "Trying to create tensor with negative dimension -1: [-1]",
        ),
        ("T.zeros(3).uniform_(2, 1)", RuntimeError, "[from, to) range, but found from=2 > to=1"),
        ("T.zeros(3).normal_(0, -1)", RuntimeError, "normal expects std >= 0.0, but found std -1"),
        (
            "T.zeros(3).bernoulli_(2.0)",
            RuntimeError,
            "bernoulli_ expects p to be in [0, 1], but got p=2",
        ),
        (
            "T.bernoulli(T.tensor([2.0]))",
            RuntimeError,
            "Expected p_in >= 0 && p_in <= 1 to be true",
        ),
        ("T.multinomial(T.tensor([1.0, 2.0]), 3)", RuntimeError, "cannot sample n_sample"),
        (
            "T.multinomial(T.tensor([1.0, -2.0]), 1)",
            RuntimeError,
            "either `inf`, `nan` or element < 0",
        ),
        ("T.multinomial(T.tensor([0.0]), 1)", RuntimeError, "(sum of probabilities <= 0)"),
        ("T.manual_seed(2**64)", ValueError, "expected a seed in [-2**63, 2**64)"),
        ("T.set_rng_state(T.zeros(3))", TypeError, "RNG state must be a torch.ByteTensor"),
        (
            "T.set_rng_state(T.zeros(3, dtype=T.uint8))",
            RuntimeError,
            "RNG state: expected 5056 bytes",
        ),
        ("T.Generator('cuda')", RuntimeError, "taut computes on the CPU only, got device cuda"),
    ],
)
def test_error(expression: str, error: type[Exception], message: str) -> None:
    generator.manual_seed(0)
    with pytest.raises(error) as caught:
        evaluated(expression, TAUT)
    assert message in str(caught.value)
    assert generator.initial_seed() == 0


# --- dropout --------------------------------------------------------------------------------------


def test_dropout_keeps_what_the_uniform_numbers_say() -> None:
    """PyTorch's definition, not the other one of its builds with MKL on some processors."""
    generator.manual_seed(0)
    kept = public.rand(1000, dtype=dtypes.f64).numpy() < 0.75
    generator.manual_seed(0)
    x = create.ones(1000, requires_grad=True)
    y = neural.dropout(x, 0.25)
    scale = np.float32(1) / np.float32(0.75)
    np.testing.assert_array_equal(y.detach().numpy(), np.where(kept, scale, np.float32(0)))
    y.sum().backward()
    assert isinstance(x.grad, Tensor)
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_dropout_in_evaluation_draws_nothing() -> None:
    generator.manual_seed(0)
    x = create.ones(3)
    assert neural.dropout(x, 0.5, training=False) is x
    assert neural.dropout(x, 0.0) is x
    assert repr(public.rand(1)) == "tensor([0.4963])"


def test_multinomial_without_replacement_is_a_permutation_of_likely_indices() -> None:
    generator.manual_seed(0)
    weights = create.tensor([0.0, 1.0, 1.0, 8.0])
    firsts = [public.multinomial(weights, 3).tolist() for _ in range(200)]
    assert all(sorted(drawn) == [1, 2, 3] for drawn in firsts)
    # The heaviest comes first with probability 0.8: 200 draws give 160, to 5 deviations (28).
    assert abs(sum(drawn[0] == 3 for drawn in firsts) - 160) < 28
