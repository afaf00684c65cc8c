"""Products as users write them: what shares a step with them, in blocks, from any layout.

Shapes are such that blocks of rows begin and end everywhere: inside a matrix, at its last row,
after several matrices.  What runs by blocks is compared, bit for bit, with a kernel for each
operation.
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
from taut.compiler.schedule import schedule
from taut.compiler.schedule.interpret import interpret
from taut.compiler.schedule.program import RunBlocks, RunKernel
from taut.frontend.testing import assert_same_bits, random_inputs
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target

Function = Callable[..., Any]


def randn(*shape: int, seed: int = 0) -> Any:
    numbers = np.random.default_rng(seed).standard_normal(shape)
    return taut.tensor(numbers.astype(np.float32))


def matrices(*shapes: tuple[int, ...]) -> list[Any]:
    return [randn(*shape, seed=seed) for seed, shape in enumerate(shapes)]


FOLLOWED: dict[str, Function] = {
    "bias": lambda x, w: x @ w + w[..., :1, :],
    "activation": lambda x, w: F.gelu(x @ w + w[..., 1:2, :]),
    "scale and cast": lambda x, w: ((x @ w) * 0.5).double(),
    "comparison": lambda x, w: (x @ w) > 0,
    "mask": lambda x, w: (x @ w).masked_fill(w[..., :1, :] > 0, -1.0),
    "residual": lambda x, w: x @ w + (x @ w).sin().cos(),
    "softmax": lambda x, w: F.softmax((x @ w) * 0.125, -1),
    "layer norm": lambda x, w: F.layer_norm(x @ w, (w.shape[-1],)),
    "largest": lambda x, w: (x @ w).argmax(-1),
    "sums of columns": lambda x, w: (F.softmax(x @ w, -1), (x @ w).flatten(0, -2).sum(0)),
    "two results": lambda x, w: ((x @ w).tanh(), (x @ w).exp()),
    "a column's number": lambda x, w: x @ w + taut.arange(w.shape[-1]),
}

SHAPES = {
    "one block": ((5, 7), (7, 3)),
    "blocks of rows": ((1100, 20), (20, 190)),
    "long rows": ((600, 9), (9, 3000)),
    "one row": ((1, 40), (40, 300)),
    "one column": ((700, 12), (12, 1)),
    "a batch": ((7, 150, 8), (7, 8, 130)),
    "small matrices": ((900, 3, 5), (900, 5, 7)),
    "a shared factor": ((6, 120, 10), (10, 150)),
}


def assert_unfused_is_the_same(function: Any) -> None:
    graph = run_passes(function.graph())
    arrays = random_inputs(np.random.default_rng(1), graph)
    programs = [schedule(graph, host_target(), fuse=fuse) for fuse in (True, False)]
    fused, unfused = (compile_program(program)(arrays) for program in programs)
    assert_same_bits(fused, unfused)


CASES = [(name, shape) for name in FOLLOWED for shape in ("blocks of rows", "a batch")]
CASES += [(name, shape) for name in ("activation", "softmax") for shape in SHAPES]


@pytest.mark.parametrize(("name", "shape"), dict.fromkeys(CASES))
def test_what_follows_a_product_shares_its_step(name: str, shape: str) -> None:
    function = taut.compile(FOLLOWED[name])
    x, w = matrices(*SHAPES[shape])
    function(x, w)
    assert "by blocks with" in function.ir("memory") or shape == "one column"
    assert_unfused_is_the_same(function)


@pytest.mark.parametrize("name", FOLLOWED)
def test_symbolic_sizes_give_the_same_bits(name: str) -> None:
    w = randn(33, 120, seed=1)

    def results(x: Any) -> list[Any]:
        found = FOLLOWED[name](x, w)
        return list(found) if isinstance(found, tuple) else [found]

    static, dynamic = taut.compile(results), taut.compile(results, dynamic=True)
    for rows in (3, 700):
        x = randn(rows, 33)
        assert_same_bits([a.numpy() for a in dynamic(x)], [a.numpy() for a in static(x)])
    assert dynamic.stats()["traces"] == 1


def test_blocks_of_the_interpreter_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small blocks are: numbers are whole, so that the order of sums does not matter."""
    function = taut.compile(lambda x, w: F.softmax((x @ w).relu(), -1) + x @ w)
    function(*matrices((3, 130, 4), (3, 4, 9)))
    graph = run_passes(function.graph())
    arrays = [np.round(a * 4) for a in random_inputs(np.random.default_rng(1), graph)]
    program = schedule(graph, host_target())
    whole = interpret(program, arrays)
    monkeypatch.setattr("taut.compiler.schedule.blocks.BLOCK_BYTES", 1)
    assert_same_bits(interpret(program, arrays), whole)


def test_sums_over_columns_join_the_kernel_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed of the sums waits for the last block."""

    def function(x: Any, w: Any) -> tuple[Any, Any]:
        product = x @ w
        return product - product.amax(-1, keepdim=True), product.sum(0) * 2

    compiled = taut.compile(function)
    compiled(*matrices((1100, 20), (20, 190)))
    assert_unfused_is_the_same(compiled)
    graph = run_passes(compiled.graph())
    program = schedule(graph, host_target())
    assert [type(step) for step in program.steps] == [RunBlocks, RunKernel]
    arrays = [np.round(a * 4) for a in random_inputs(np.random.default_rng(1), graph)]
    monkeypatch.setattr("taut.compiler.schedule.blocks.BLOCK_BYTES", 1)
    for points in (None, lambda count: [[point] for point in reversed(range(count))]):
        assert_same_bits(interpret(program, arrays, points), evaluate(graph, arrays))


LITTLE = [
    ((0, 5), (5, 3)),
    ((4, 0), (0, 3)),
    ((4, 5), (5, 0)),
    ((2, 0, 5), (2, 5, 3)),
    ((0, 4, 5), (0, 5, 3)),
    ((2, 3, 0), (2, 0, 4)),
    ((1, 1), (1, 1)),
    ((7, 1), (1, 9)),
]


@pytest.mark.parametrize("shapes", LITTLE, ids=str)
def test_products_of_little_or_nothing(shapes: tuple[tuple[int, ...], ...]) -> None:
    def results(x: Any, w: Any) -> list[Any]:
        product = x @ w
        return [product.relu() + 1, product.sum(-1), (product * 2).sum(0), x @ w @ product.mT]

    x, w = (taut.tensor(np.round(a.numpy() * 3)) for a in matrices(*shapes))  # sums are exact
    compiled = taut.compile(results)
    assert_same_bits([a.numpy() for a in compiled(x, w)], [a.numpy() for a in results(x, w)])


VIEWS: dict[str, Function] = {
    "every second row": lambda x, w: x[::2] @ w,
    "every second column": lambda x, w: x[:, ::2] @ w[::2],
    "backwards": lambda x, w: x.flip(0) @ w,
    "one row for all": lambda x, w: x[:1].expand(5, -1) @ w,
    "one column for all": lambda x, w: x @ w[:, :1].expand(-1, 7),
    "one matrix for all": lambda x, w: x.expand(3, -1, -1) @ w + w[0],
    "a column": lambda x, w: x @ w[:, 3],
    "a row": lambda x, w: x[3] @ w,
    "both turned": lambda x, w: w.t() @ x.t(),
    "the result turned": lambda x, w: (x @ w).t().contiguous(),
    "outer": lambda x, w: x[:, :1] @ w[:1],
    "windows": lambda x, w: x[2:9, 1:7] @ w[3:9, 4:15],
    "heads": lambda x, w: heads(x[None, :, :8], 2) @ heads(w[None, :, :8], 2).mT,
}


@pytest.mark.parametrize("dtype", [taut.float64, taut.float32, taut.float16, taut.int32], ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_operands_of_every_kind(name: str, dtype: Any) -> None:
    """Small whole numbers, whose products and sums are exact in each dtype."""
    numbers = np.random.default_rng(0)
    x = taut.tensor(numbers.integers(-4, 5, (10, 12))).to(dtype)
    w = taut.tensor(numbers.integers(-4, 5, (12, 20))).to(dtype)
    compiled = taut.compile(VIEWS[name])
    assert_same_bits([compiled(x, w).numpy()], [VIEWS[name](x, w).numpy()])


def heads(x: Any, count: int) -> Any:
    """(B, T, C) as (B, heads, T, C / heads)."""
    return x.view(*x.shape[:2], count, -1).transpose(1, 2)


def attention(x: Any, w: Any, v: Any) -> Any:
    """Causal attention of four heads, as a GPT has it."""
    q, k, value = (heads(part, 4) for part in (x @ w).chunk(3, -1))
    scores = q @ k.transpose(-2, -1) * 0.25
    scores = scores.masked_fill(taut.ones(*scores.shape[-2:]).triu(1) > 0, float("-inf"))
    mixed = F.softmax(scores, -1) @ value
    return mixed.transpose(1, 2).reshape(*x.shape[:2], -1) @ v


def test_attention_is_four_steps() -> None:
    function = taut.compile(attention)
    x, w, v = matrices((3, 70, 32), (32, 96), (32, 32))
    # three products one after the other, and a softmax: a few roundings of numbers below 100
    np.testing.assert_allclose(function(x, w, v).numpy(), attention(x, w, v).numpy(), atol=2e-4)
    text = function.ir("memory").split("  steps\n")[1]
    assert text.count(": matmul ") == 4
    assert text.count("kernel ") == text.count("by blocks with kernel ") == 1
    assert_unfused_is_the_same(function)
