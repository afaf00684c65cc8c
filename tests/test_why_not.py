"""Every edge between two steps has a reason why it stays cut: the property, on many programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import taut
from taut import nn, optim
from taut.compiler.ir import Graph, Node, Value
from taut.compiler.pipeline import run_passes
from taut.compiler.schedule import FusionPlan, schedule_stages
from taut.compiler.schedule.access import Accesses, is_literal, is_movement
from taut.compiler.schedule.whole import memory_operands
from taut.frontend.testing import random_graph
from taut.nn import functional as F
from taut.runtime.host import host_target


def plan_of(graph: Graph) -> FusionPlan:
    return schedule_stages(graph, host_target()).plan


def edges(plan: FusionPlan) -> Iterator[tuple[Value, Node]]:
    """What groups read from each other, and the nodes that do."""
    access, memory = Accesses(), memory_operands(plan.graph)
    for group in plan.groups:
        known = {*group.nodes, *group.again}
        for node in group.nodes:
            for position in range(len(node.operands)):
                value = memory.get((node, position))
                if value is None and is_movement(node):
                    value = access(node.results[0]).source
                elif value is None:
                    value = access.operand(node, position).source
                is_made = not (value.is_input or is_literal(value.node))
                if is_made and value.node not in known:
                    yield value, node


def assert_reasons(plan: FusionPlan) -> None:
    reasons = {(cut.producer, cut.consumer): cut.why.reason for cut in plan.cuts}
    for producer, consumer in edges(plan):
        assert reasons.get((producer, consumer)), f"{producer.node} -> {consumer}"
    assert all(reason and not reason.startswith("not yet") for reason in reasons.values())


@given(seed=st.integers(0, 1 << 24), size=st.sampled_from([12, 40]), symbolic=st.booleans())
def test_random_graphs(seed: int, size: int, symbolic: bool) -> None:
    rng = np.random.default_rng(seed)
    assert_reasons(plan_of(random_graph(rng, size, symbolic=symbolic)))


def numbers(*shape: int) -> Any:
    values = np.random.default_rng([6, *shape]).standard_normal(shape)
    return taut.from_numpy(values.astype(np.float32))


class Small(nn.Module):
    """Embedding, attention, normalisation and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, index: Any) -> Any:
        x = self.norm(self.tokens(index))
        x = x + self.attention(x, x, x)[0]
        return self.head(F.gelu(x))


def step_of(model: nn.Module, clip: bool, *given: Any) -> Any:
    """A compiled step that trains a model of classes."""
    optimizer = optim.AdamW(model.parameters())

    def step(x: Any, target: Any) -> Any:
        optimizer.zero_grad()
        scores = model(x)
        loss = F.cross_entropy(scores.reshape(-1, scores.shape[-1]), target.reshape(-1))
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    compiled = taut.compile(step)
    compiled(*given)
    return compiled


@pytest.mark.parametrize("clip", [False, True])
def test_training_steps(clip: bool) -> None:
    index = taut.arange(24).reshape(4, 6) % 20
    layers = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Dropout(0.1), nn.Linear(16, 5))
    for step in (
        step_of(Small(), clip, index, index.flip(1)),
        step_of(layers, clip, numbers(12, 8), taut.arange(12) % 5),
    ):
        assert_reasons(plan_of(run_passes(step.graph())))
