"""Rows that are taken or written at positions that are data, in one kernel with what is about them.

Rows are written in their order, whatever kernel writes them: sums in one place have the same bits.
"""

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
    values = np.random.default_rng([4, *shape]).standard_normal(shape)
    return taut.from_numpy(values.astype(np.float32))


def positions(*shape: int) -> Any:
    return taut.from_numpy(np.random.default_rng([5, *shape]).integers(0, 20, shape))


TABLE, MORE = numbers(20, 8), numbers(8, 8)


def gradients(function: Function) -> Function:
    """The gradients with respect to a table."""

    def found(table: Any, index: Any) -> Any:
        leaf = table.detach().requires_grad_(True)
        result = function(leaf, index)
        return result.detach(), *taut.autograd.grad((result * result).sum(), leaf)

    return found


def added(table: Any, index: Any) -> Any:
    return table.index_add(0, index, taut.tanh(table[:1] * index[:, None]))


def written(table: Any, index: Any) -> Any:
    copy = table.clone()
    copy[index] = taut.exp(table[index])
    return copy


def normal(table: Any, index: Any) -> Any:
    return F.layer_norm(F.embedding(index, table), (8,))


CASES: dict[str, tuple[Function, int]] = {
    # a check of the positions has a kernel of its own; an index_add the copy that it adds to
    "embedding": (lambda t, i: F.embedding(i, t), 2),
    "scaled": (lambda t, i: taut.tanh(F.embedding(i, t)) * 3, 2),
    "normal": (normal, 2),
    "softmax": (lambda t, i: F.softmax(F.embedding(i, t), -1), 2),
    "gradient": (gradients(lambda t, i: taut.exp(F.embedding(i, t))), 2),
    "gradient of normal": (gradients(normal), 2),
    "after a product": (gradients(lambda t, i: F.embedding(i, t) @ MORE), 2),
    "added": (added, 2),
    "set": (written, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_kernels(name: str) -> None:
    function, count = CASES[name]
    compiled = taut.compile(function)
    compiled(TABLE, positions(64))
    plan = schedule_stages(run_passes(compiled.graph()), host_target()).plan
    assert len([g for g in plan.groups if g.kind == "kernel"]) == count


@pytest.mark.parametrize("name", CASES)
def test_bits(name: str) -> None:
    function, _ = CASES[name]
    dynamic = taut.compile(function, dynamic=True)
    for count in (3, 0, 1, 64):
        given = TABLE.detach(), positions(count)
        static = taut.compile(function)
        results = static(*given)
        results = [r.numpy() for r in (results if isinstance(results, tuple) else [results])]
        others = dynamic(*given)
        others = [r.numpy() for r in (others if isinstance(others, tuple) else [others])]
        assert_same_bits(results, others)
        apart = schedule_stages(run_passes(static.graph()), host_target(), fuse=False)
        arrays = [a.numpy() for a in (*given, MORE)][: len(apart.program.inputs)]
        assert_same_bits(results, compile_program(apart.program)(arrays))
