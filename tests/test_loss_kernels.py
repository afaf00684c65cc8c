"""Losses over rows are one kernel: the mean over the rows comes after them, counts before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut
from taut.compiler.pipeline import run_passes
from taut.compiler.schedule import schedule_stages
from taut.frontend.testing import assert_same_bits
from taut.nn import functional as F
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target

Function = Callable[..., Any]


def numbers(*shape: int) -> Any:
    values = np.random.default_rng([2, *shape]).standard_normal(shape)
    return taut.from_numpy(values.astype(np.float32))


def classes(*shape: int) -> Any:
    return taut.from_numpy(np.random.default_rng([3, *shape]).integers(0, 10, shape))


def scores_and_classes(rows: int) -> list[Any]:
    return [numbers(rows, 10), classes(rows)]


def scores_and_shares(rows: int) -> list[Any]:
    return [numbers(rows, 10), F.softmax(numbers(rows, 10) * 2, -1)]


def images(rows: int) -> list[Any]:
    return [numbers(rows, 10, 3, 5), classes(rows, 3, 5)]


WEIGHTS = numbers(10).abs() + 0.5
CHECKED = "a check comes between them: it must pass before rows are taken or written"
CYCLE = "fusing would make a cycle: a step between them needs one and feeds the other"
POSITIONS = "take reads its first operand at positions that are data"
COMPLETE = "scatter_add must be complete before it is read"
ALL_AT_ONCE = "reductions over different dimensions: (1,) of (64, 10) against (0, 1) of (64, 10)"
SPACES = "iteration spaces differ: (64,) against (64, 10)"
ORDER = "scatter_add moves it, and the producer's kernel has an order of its own"


def loss(function: Function, **options: Any) -> Function:
    return lambda x, target: function(x, target.detach(), **options)


def picked(x: Any, target: Any) -> Any:
    return -F.log_softmax(x, -1).gather(1, target[:, None]).mean()


def divergence(x: Any, target: Any) -> Any:
    return F.kl_div(F.log_softmax(x, -1), target.detach(), reduction="batchmean")


LOSSES: dict[str, tuple[Function, Function, int, int, set[str]]] = {
    # name: function, arguments of so many rows, kernels forward, both, reasons for more than one
    "cross entropy": (loss(F.cross_entropy), scores_and_classes, 1, 1, set()),
    "sum": (loss(F.cross_entropy, reduction="sum"), scores_and_classes, 1, 1, set()),
    "none": (loss(F.cross_entropy, reduction="none"), scores_and_classes, 1, 1, set()),
    "ignore": (loss(F.cross_entropy, ignore_index=3), scores_and_classes, 1, 1, set()),
    "smooth": (loss(F.cross_entropy, label_smoothing=0.1), scores_and_classes, 1, 1, set()),
    "weights": (
        loss(F.cross_entropy, weight=WEIGHTS),
        scores_and_classes,
        2,
        3,
        {CYCLE, SPACES},
    ),
    "shares": (loss(F.cross_entropy), scores_and_shares, 1, 1, set()),
    "smooth shares": (
        loss(F.cross_entropy, label_smoothing=0.1),
        scores_and_shares,
        1,
        1,
        set(),
    ),
    "images": (loss(F.cross_entropy), images, 1, 1, set()),
    "nll": (lambda x, t: F.nll_loss(F.log_softmax(x, -1), t), scores_and_classes, 1, 1, set()),
    "picked": (picked, scores_and_classes, 2, 4, {CYCLE, POSITIONS, COMPLETE}),
    "binary": (loss(F.binary_cross_entropy_with_logits), scores_and_shares, 1, 1, set()),
    "divergence": (divergence, scores_and_shares, 2, 2, {ALL_AT_ONCE}),
    "smooth l1": (loss(F.smooth_l1_loss), scores_and_shares, 1, 1, set()),
}


def with_gradient(function: Function) -> Function:
    """A loss, and its gradient with respect to the scores."""

    def both(cotangent: Any, x: Any, target: Any) -> list[Any]:
        leaf = x.detach().requires_grad_(True)
        result = function(leaf, target)
        return [result.detach(), *taut.autograd.grad(result, leaf, cotangent)]

    return both


@pytest.mark.parametrize("name", LOSSES)
def test_kernels(name: str) -> None:
    function, arguments, forward, both, reasons = LOSSES[name]
    given = arguments(64)
    cotangent = numbers(*function(*given).shape)
    compiled = [taut.compile(function), taut.compile(with_gradient(function))]
    compiled[0](*given), compiled[1](cotangent, *given)
    stages = [schedule_stages(run_passes(f.graph()), host_target()) for f in compiled]
    assert [len(s.plan.groups) for s in stages] == [forward, both]
    assert {cut.why.reason for s in stages for cut in s.plan.cuts} == reasons


@pytest.mark.parametrize("name", LOSSES)
def test_bits(name: str) -> None:
    """One program of any number of rows, and one of each, give what unfused kernels give."""
    function, arguments, *_ = LOSSES[name]
    both = with_gradient(function)
    dynamic = taut.compile(both, dynamic=True)
    for rows in (2, 1, 7, 64):
        given = arguments(rows)
        given = [numbers(*function(*given).shape), *given]
        static = taut.compile(both)
        results = [r.numpy() for r in static(*given)]
        assert_same_bits(results, [r.numpy() for r in dynamic(*given)])
        apart = schedule_stages(run_passes(static.graph()), host_target(), fuse=False)
        arrays = [a.numpy() for a in (*given, WEIGHTS)][: len(apart.program.inputs)]
        assert_same_bits(results, compile_program(apart.program)(arrays))


@pytest.mark.parametrize("name", ["cross entropy", "sum", "ignore", "images", "shares"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_no_rows(name: str, dynamic: bool) -> None:
    """Sums are 0 and means are nan, as they are one by one."""
    function, arguments, *_ = LOSSES[name]
    given = [taut.tensor(1.0), *arguments(0)]
    both = with_gradient(function)
    found = taut.compile(both, dynamic=dynamic)(*given)
    for result, eager in zip(found, both(*given), strict=True):
        np.testing.assert_array_equal(result.numpy(), eager.numpy())


def test_no_rows_of_a_product() -> None:
    """What runs once does so although there is no block of rows."""
    weight = numbers(6, 10)
    step = taut.compile(lambda x, t: F.cross_entropy(x @ weight, t, reduction="sum"), dynamic=True)
    for rows in (3, 0, 5):
        x, target = numbers(rows, 6), classes(rows)
        expected = F.cross_entropy(x @ weight, target, reduction="sum")
        np.testing.assert_allclose(step(x, target).item(), expected.item(), rtol=1e-6)


@pytest.mark.parametrize("target", [10, -1])
def test_targets_out_of_range(target: int) -> None:
    """The check comes after the loss, and still before anything is returned."""
    step = taut.compile(F.cross_entropy)
    x, good = numbers(4, 10), taut.tensor([1, 2, 3, 4])
    expected = step(x, good).item()
    with pytest.raises(IndexError, match="Target"):
        step(x, taut.tensor([1, 2, target, 4]))
    assert step(x, good).item() == expected


def test_two_heads_have_a_kernel_each() -> None:
    """Sums of one form join if each of them can, and the kernels do the same."""

    def heads(x: Any, y: Any, target: Any) -> Any:
        return F.cross_entropy(x, target), F.cross_entropy(y, target)

    step = taut.compile(heads)
    step(numbers(8, 10), numbers(8, 12), classes(8))
    plan = schedule_stages(run_passes(step.graph()), host_target()).plan
    assert len(plan.groups) == 2
