"""The example's GPT: what it computes equals what its source computes under PyTorch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import taut
from taut.frontend.compiled_function import CompiledFunction
from taut.runtime.options import Options

SOURCE = Path(__file__).resolve().parents[1] / "examples" / "gpt.py"
SIZES = {"vocabulary": 11, "layers": 2, "heads": 2, "width": 8, "block": 5}
BATCH, STEPS = 3, 4
TOLERANCE = 2e-5
"""Relative: float32 sums of up to 64 terms in other orders, through a few steps of AdamW."""


def module_of(name: str, source: str) -> ModuleType:
    """The example as a module, from its source or a changed one."""
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(SOURCE))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(SOURCE)
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(source, str(SOURCE), "exec"), module.__dict__)  # noqa: S102  # our own example
    return module


@pytest.fixture(scope="module")
def ours() -> ModuleType:
    return module_of("gpt_example", SOURCE.read_text())


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    """The same source, its imports changed and nothing else."""
    pytest.importorskip("torch")
    source = SOURCE.read_text().replace("import taut\n", "import torch as taut\n")
    return module_of("gpt_under_torch", source.replace("from taut", "from torch"))


Compile = Callable[[Any], Any]


def eagerly(function: Any) -> Any:
    return function


def trained(gpt: ModuleType, compile: Compile) -> tuple[list[float], dict[str, Any]]:
    """The losses of some steps under a schedule, and the parameters after them."""
    gpt.taut.manual_seed(0)
    model = gpt.GPT(gpt.Config(**SIZES))
    optimizer = gpt.make_optimizer(model, 1e-2)
    step = compile(gpt.make_step(model, optimizer))
    tokens = np.tile([3, 1, 4, 1, 5, 9, 2, 6], 20)
    data = gpt.batches(tokens, BATCH, SIZES["block"], np.random.default_rng(1))
    losses = []
    for number in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = gpt.rate(number, STEPS, 1e-2)
        losses.append(step(*next(data)).item())
    return losses, {n: p.detach().numpy() for n, p in model.named_parameters()}


def test_starts_from_the_values_that_pytorch_starts_from(
    ours: ModuleType, theirs: ModuleType
) -> None:
    states = []
    for gpt in (ours, theirs):
        gpt.taut.manual_seed(3)
        model = gpt.GPT(gpt.Config(**SIZES))
        states.append({name: value.numpy() for name, value in model.state_dict().items()})
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)


@pytest.mark.parametrize("backend", ["eager", "llvm", "numba"])
def test_trains_as_under_pytorch(
    ours: ModuleType, theirs: ModuleType, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "numba":  # a minute to compile, less than a second as Python
        options = Options(kernels="python")
        monkeypatch.setattr(CompiledFunction, "runtime_options", lambda self: options)
    losses, parameters = trained(ours, lambda step: taut.compile(step, backend=backend))
    expected, after = trained(theirs, eagerly)
    np.testing.assert_allclose(losses, expected, rtol=TOLERANCE)
    assert losses[-1] < losses[0] - 0.1
    for name, value in parameters.items():
        np.testing.assert_allclose(value, after[name], rtol=1e-3, atol=2e-4, err_msg=name)


def test_a_step_is_one_native_call_under_any_schedule(ours: ModuleType) -> None:
    steps: list[Any] = []

    def compile(step: Any) -> Any:
        steps.append(taut.compile(step))
        return steps[-1]

    trained(ours, compile)
    assert steps[0].stats() == {"traces": 1, "calls": STEPS, "native_calls": STEPS}


def test_dropout_draws_the_same_numbers_eager_and_compiled(ours: ModuleType) -> None:
    sizes = {**SIZES, "dropout": 0.2}
    losses = []
    for compile in (eagerly, taut.compile):
        taut.manual_seed(0)
        model = ours.GPT(ours.Config(**sizes))
        step = compile(ours.make_step(model, ours.make_optimizer(model, 1e-2)))
        x = taut.randint(0, SIZES["vocabulary"], (BATCH, SIZES["block"]))
        losses.append([step(x, x).item() for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=TOLERANCE)


def test_samples_what_pytorch_samples(ours: ModuleType, theirs: ModuleType) -> None:
    written = []
    for gpt, compile in ((ours, taut.compile), (theirs, eagerly)):
        gpt.taut.manual_seed(5)
        model = gpt.GPT(gpt.Config(**SIZES)).eval()
        start = np.array([1, 2, 3])
        tokens = gpt.sample(compile(model), start, 20, SIZES["block"], temperature=0.7, top_k=6)
        written.append(list(tokens))
    assert written[0] == written[1]


def test_a_model_sees_only_what_came_before(ours: ModuleType) -> None:
    taut.manual_seed(0)
    model = ours.GPT(ours.Config(**SIZES)).eval()
    x = taut.randint(0, SIZES["vocabulary"], (1, SIZES["block"]))
    other = x.clone()
    other[0, 3] = (other[0, 3] + 1) % SIZES["vocabulary"]
    with taut.no_grad():
        one, two = model(x).numpy(), model(other).numpy()
    np.testing.assert_array_equal(one[:, :3], two[:, :3])
    assert (one[:, 3:] != two[:, 3:]).any()


def test_the_schedule_rises_and_falls_to_a_tenth(ours: ModuleType) -> None:
    rates = [ours.rate(step, 200, 1.0) for step in range(200)]
    assert rates.index(max(rates)) in (9, 10)
    assert max(rates) == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_text_is_encoded_by_its_own_characters(ours: ModuleType) -> None:
    text = ours.Text("abcb" * 10)
    assert text.characters == ["a", "b", "c"]
    assert text.encode("cab!").tolist() == [2, 0, 1]  # what is not in the text is left out
    assert len(text.train) == 36
    assert len(text.held_out) == 4
