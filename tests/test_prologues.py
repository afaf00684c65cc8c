"""Kernels before a product: by blocks of its rows where that pays, with the same bits.

The rule asks for large sizes; where results are compared it is put aside, so that blocks begin and
end everywhere in small ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut
import taut.nn.functional as F
from taut.compiler.evaluate import evaluate
from taut.compiler.pipeline import run_passes
from taut.compiler.schedule import Scheduled, schedule, schedule_stages
from taut.compiler.schedule.interpret import interpret
from taut.compiler.schedule.printing import arena_bytes
from taut.compiler.schedule.program import RunBlocks
from taut.frontend.testing import assert_same_bits, random_inputs
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target

Function = Callable[..., Any]


def zeros(*shape: int) -> Any:
    return taut.zeros(*shape)


def graph_of(function: Function, *given: Any, **options: Any) -> Any:
    compiled = taut.compile(function, **options)
    compiled(*given)
    return run_passes(compiled.graph())


def scheduled(function: Function, *shapes: tuple[int, ...], **options: Any) -> Scheduled:
    return schedule_stages(
        graph_of(function, *(zeros(*s) for s in shapes), **options), host_target()
    )


def prologues(program: Any) -> int:
    return sum(isinstance(step, RunBlocks) and step.before is not None for step in program.steps)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 rows, whether they pay or not."""
    monkeypatch.setattr("taut.compiler.schedule.blocks.MOST_ROWS", 64)
    for name in ("WORTH_WHILE", "SHORT", "MARGIN"):
        monkeypatch.setattr(f"taut.compiler.schedule.prologues.{name}", 0)


# --- results --------------------------------------------------------------------------------------

MADE: dict[str, Function] = {
    "activation": lambda x, w: F.gelu(x) @ w,
    "bias": lambda x, w: (x + x[:1]).relu() @ w,
    "layer norm": lambda x, w: F.layer_norm(x, (x.shape[-1],)) @ w,
    "normalised": lambda x, w: (x - x.mean(-1, keepdim=True)) @ w,
    "wider": lambda x, w: (x.double() + 1) @ w.double(),
    "rows taken": lambda x, w: x[taut.arange(x.shape[0]) % 7] @ w,
    "several at a time": lambda x, w: (x + 1).reshape(-1, 2, *x.shape[1:]).exp() @ w,
    "first columns": lambda x, w: (x * 2)[:, : w.shape[0]] @ w,
    "a kernel after it": lambda x, w: F.softmax(F.gelu(x) @ w, -1),
    "sums of columns after it": lambda x, w: [(p := F.gelu(x) @ w).softmax(-1), p.sum(0)],
    "two results after it": lambda x, w: [(p := (x + 1) @ w).tanh(), p.exp(), p],
    "a residual of its operand": lambda x, w: (x + 1) @ w + x[:, : w.shape[1]],
    "two products": lambda x, w: (((x + 1) @ w).flip(0) + 1) @ w.t(),
}
SHAPES = [((200, 9), (9, 5)), ((130, 70), (70, 33)), ((128, 1), (1, 1)), ((66, 130), (130, 40))]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", MADE)
def test_blocks_of_operands_change_no_bit(name: str, shapes: Any) -> None:
    graph = graph_of(MADE[name], *(zeros(*shape) for shape in shapes))
    arrays = random_inputs(np.random.default_rng(1), graph)
    programs = [schedule(graph, host_target(), fuse=fuse) for fuse in (True, False)]
    assert prologues(programs[0])
    assert not prologues(programs[1])
    assert_same_bits(*(compile_program(program)(arrays) for program in programs))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("backwards", [False, True])
def test_interpreted_blocks_are_the_whole(backwards: bool) -> None:
    """In whatever order rows of a block are made; small whole numbers have exact sums."""

    def function(x: Any, w: Any) -> list[Any]:
        product = (x + 1).relu() @ w
        return [product - product.amax(-1, keepdim=True), product.sum(0)]

    graph = graph_of(function, zeros(150, 6), zeros(6, 4))
    program = schedule(graph, host_target())
    assert prologues(program) == 1
    arrays = [np.round(a * 3) for a in random_inputs(np.random.default_rng(1), graph)]
    points = (lambda count: [[p] for p in reversed(range(count))]) if backwards else None
    assert_same_bits(interpret(program, arrays, points), evaluate(graph, arrays))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((200, 0), (0, 2)), ((200, 3), (3, 0))])
def test_nothing_to_multiply(shapes: Any) -> None:
    graph = graph_of(lambda x, w: F.softmax((x + 1) @ w + 2, -1), *(zeros(*s) for s in shapes))
    arrays = random_inputs(np.random.default_rng(1), graph)
    programs = [schedule(graph, host_target(), fuse=fuse) for fuse in (True, False)]
    assert_same_bits(*(compile_program(program)(arrays) for program in programs))


@pytest.mark.usefixtures("always")
def test_layers_that_are_alike_share_their_code() -> None:
    def function(w: Any, *given: Any) -> list[Any]:
        return [x.tanh() @ w for x in given]

    graph = graph_of(function, zeros(9, 5), zeros(200, 9), zeros(200, 9), zeros(300, 9))
    programs = [schedule(graph, host_target(), fuse=fuse) for fuse in (True, False)]
    arrays = random_inputs(np.random.default_rng(1), graph)
    assert prologues(programs[0]) == 3
    assert_same_bits(*(compile_program(program)(arrays) for program in programs))


# --- what is joined, and what it needs ------------------------------------------------------------


def test_an_operand_has_the_memory_of_a_block() -> None:
    found = scheduled(lambda x, w: F.softmax(F.gelu(x) @ w, -1), (8192, 1024), (1024, 64))
    assert arena_bytes(found.program) == 640 * 1024 * 4
    assert found.plan.cuts == ()
    assert "prologues:\n  group 0 by blocks of rows before group 1\n" in found.text("fused")
    (step,) = found.text("memory").partition("  steps\n")[2].split("\n    1: ")
    product, before, after = step.strip().split("\n")
    assert product.startswith("0: matmul ")
    assert before.strip().startswith("by blocks with kernel ")
    assert before.endswith(" before")
    assert after.strip().startswith("by blocks with kernel max_sub_exp_sum_div(")


OPERAND = "matmul reads its operands from memory"
REFUSED: dict[str, tuple[Function, tuple[int, ...], tuple[int, ...], str]] = {
    "many columns": (
        lambda x, w: x.tanh() @ w,
        (8192, 512),
        (512, 512),
        f"{OPERAND}: blocks of rows would save 33554432 bytes and pack 25165824 again",
    ),
    "little": (
        lambda x, w: x.tanh() @ w,
        (700, 100),
        (100, 8),
        f"{OPERAND}: blocks of rows would save 560000 bytes and pack 6400 again",
    ),
    "short rows": (
        lambda x, w: x.tanh() @ w,
        (100000, 64),
        (64, 8),
        f"{OPERAND}: rows of 256 bytes are too short for blocks of them",
    ),
    "one block": (lambda x, w: x.tanh() @ w, (640, 1024), (1024, 8), OPERAND),
    "a result": (lambda x, w: [t := x.tanh(), t @ w], (8192, 1024), (1024, 64), OPERAND),
    "both operands": (lambda x, w: (t := x.tanh()) @ t[:8].t(), (8192, 1024), (1,), OPERAND),
    "two readers": (
        lambda x, w: [(t := x.tanh()) @ w, t @ (w + 1)],
        (8192, 1024),
        (1024, 64),
        OPERAND,
    ),
    "a kernel that keeps numbers": (
        lambda x, w: F.softmax(x, -1) @ w,
        (8192, 1024),
        (1024, 64),
        OPERAND,
    ),
    "columns": (lambda x, w: x.tanh().t() @ w, (1024, 8192), (1024, 64), OPERAND),
    "the right operand": (lambda x, w: w @ x.tanh(), (1024, 64), (8192, 1024), OPERAND),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_stays_in_memory_has_a_reason(name: str) -> None:
    function, x, w, reason = REFUSED[name]
    found = scheduled(function, x, w)
    assert not prologues(found.program)
    assert reason in {cut.why.reason for cut in found.plan.cuts}


def test_sizes_must_be_known() -> None:
    found = scheduled(lambda x, w: x.tanh() @ w, (8192, 1024), (1024, 64), dynamic=True)
    (cut,) = found.plan.cuts
    assert (
        cut.why.reason == f"{OPERAND}: whether blocks of rows would pay needs sizes that are known"
    )


def test_what_a_gradient_reads_stays_in_memory() -> None:
    def function(x: Any, w: Any) -> Any:
        w = w.detach().requires_grad_(True)
        (F.gelu(x) @ w).sum().backward()
        return w.grad

    assert not prologues(scheduled(function, (8192, 1024), (1024, 64)).program)


def test_a_result_in_the_place_of_what_the_kernel_reads() -> None:
    """The kernel would read rows for the next block where results of this one were written."""

    def function(x: Any, w: Any) -> None:
        x.copy_((x + 1) @ w)

    compiled = taut.compile(function)
    x, w = taut.zeros(20000, 200), taut.eye(200)
    compiled(x, w)
    assert not prologues(schedule(run_passes(compiled.graph()), host_target()))
    assert bool((x == 1).all())
