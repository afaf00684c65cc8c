"""Known programs, as users write them: how many kernels they take, and that fusing changes no bit.

The counts are what is reached, as `f.kernels()` tells: a kernel that runs for several tensors of
one shape counts once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut
import taut.nn.functional as F
from taut import nn, optim
from taut.compiler.pipeline import run_passes
from taut.compiler.schedule import schedule
from taut.frontend.testing import assert_same_bits, random_inputs
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target

Function = Callable[..., Any]


# --- forward --------------------------------------------------------------------------------------


def written_gelu(x: Any) -> Any:
    return 0.5 * x * (1 + taut.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def written_softmax(x: Any) -> Any:
    e = (x - x.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


def written_layer_norm(x: Any) -> Any:
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()


ONE_KERNEL: dict[str, Function] = {
    "gelu": F.gelu,
    "tanh gelu": lambda x: F.gelu(x, approximate="tanh"),
    "written gelu": written_gelu,
    "silu": F.silu,
    "softmax": lambda x: F.softmax(x, 1),
    "softmax of columns": lambda x: F.softmax(x, 0),
    "written softmax": written_softmax,
    "log softmax": lambda x: F.log_softmax(x, 1),
    "log softmax of columns": lambda x: F.log_softmax(x, 0),
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:], x[0], x[1]),
    "written layer norm": written_layer_norm,
    "rms norm": lambda x: F.rms_norm(x, x.shape[1:]),
    "standardise": lambda x: (x - x.mean(0)) / x.std(0),
    "mean squared error": lambda x: F.mse_loss(x, x.flip(0)),
    "binary cross entropy": lambda x: F.binary_cross_entropy_with_logits(x, x.sigmoid()),
    "transposed sum": lambda x: (x.t() + 1) * x.t().exp(),
    "total": lambda x: (x * x).sum(),
}


def numbers(*shape: int) -> Any:
    rng = np.random.default_rng(7)
    return taut.from_numpy(rng.normal(size=shape).astype(np.float32))


QUICK = [pytest.param(name, marks=pytest.mark.quick) for name in ("gelu", "softmax")]


@pytest.mark.parametrize("name", [*QUICK, *(n for n in ONE_KERNEL if n not in ("gelu", "softmax"))])
def test_is_one_kernel(name: str) -> None:
    function = taut.compile(ONE_KERNEL[name])
    function(numbers(64, 100))
    assert len(function.kernels()) == 1


def backward_of(function: Function) -> Function:
    def gradient(x: Any) -> Any:
        leaf = x.detach().requires_grad_()
        return taut.autograd.grad((function(leaf) * x).sum(), leaf)[0]

    return gradient


@pytest.mark.parametrize(
    ("name", "count"), [("gelu", 1), ("tanh gelu", 1), ("softmax", 1), ("written layer norm", 1)]
)
def test_gradients(name: str, count: int) -> None:
    function = taut.compile(backward_of(ONE_KERNEL[name]))
    function(numbers(64, 100))
    assert len(function.kernels()) == count


# --- training -------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Function] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD with all": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, amsgrad=True),
}


def updater(name: str, parameters: int) -> Any:
    """An optimizer's step alone."""
    tensors = [nn.Parameter(numbers(30, 40)) for _ in range(parameters)]
    for tensor in tensors:
        tensor.grad = numbers(30, 40)
    optimizer = OPTIMIZERS[name](tensors)
    step = taut.compile(optimizer.step)
    step()
    return step


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("parameters", [1, 5])
def test_an_update_is_one_kernel_and_one_of_numbers(name: str, parameters: int) -> None:
    step = updater(name, parameters)
    assert len(step.kernels()) == 2
    assert step.ir("memory").count(": kernel ") == 1 + (parameters == 1)
    assert step.ir("memory").count(" over 5 segments") == (parameters > 1)


def training(layers: int) -> Any:
    """A compiled step of a network with so many hidden layers."""
    hidden = [part for _ in range(layers) for part in (nn.Linear(16, 16), nn.Tanh())]
    net = nn.Sequential(nn.Linear(8, 16), *hidden, nn.Linear(16, 5))
    optimizer = optim.Adam(net.parameters())

    def step(x: Any, target: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), target)
        loss.backward()
        optimizer.step()
        return loss

    compiled = taut.compile(step)
    compiled(numbers(32, 8), taut.arange(32) % 5)
    return compiled


def test_more_layers_take_no_more_kernels() -> None:
    shallow, deep = training(2), training(6)
    assert len(shallow.kernels()) == len(deep.kernels()) == 7
    assert deep.stats() == {"traces": 1, "calls": 1, "native_calls": 1}


# --- bits -----------------------------------------------------------------------------------------

SIZES = [(2, 5), (7, 100), (64, 100), (100, 1000), (3, 100_003)]
"""Rows and columns: less than a vector, whole blocks, and more than fits into one chunk of work."""


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_fusing_changes_no_bit(shape: tuple[int, int]) -> None:
    functions = [*ONE_KERNEL.values(), backward_of(F.gelu)]
    together = taut.compile(lambda x: [function(x) for function in functions])
    results = together(numbers(*shape))
    alone = [taut.compile(function)(numbers(*shape)) for function in functions]
    assert_same_bits([r.numpy() for r in results], [r.numpy() for r in alone])
    assert_unfused_is_the_same(together)


def test_a_training_step_is_the_same_to_the_bit() -> None:
    assert_unfused_is_the_same(training(2))


def assert_unfused_is_the_same(function: Any) -> None:
    """One kernel for each node gives the same bits."""
    graph, rng = run_passes(function.graph()), np.random.default_rng(1)
    arrays = [abs(a) if a.dtype.kind == "i" else a for a in random_inputs(rng, graph)]
    fused, unfused = (
        compile_program(schedule(graph, host_target(), fuse=fuse))(arrays) for fuse in (True, False)
    )
    assert_same_bits(fused, unfused)


@pytest.mark.parametrize(("activation", "share"), [(nn.Tanh, 0.75), (nn.SiLU, 0.8)])
def test_recomputing_takes_less_memory_and_changes_no_bit(
    activation: Any, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporaries of a step whose activations' derivatives are computed again, and are not."""
    net = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(64, 64), activation())))

    def step(x: Any) -> Any:
        net.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        return loss

    compiled = taut.compile(step)
    compiled(numbers(256, 64))
    graph = run_passes(compiled.graph())
    again = schedule(graph, host_target())
    monkeypatch.setattr("taut.compiler.schedule.fuse.recompute", lambda _: None)
    kept = schedule(graph, host_target())
    assert sum(map(int, again.slots)) <= share * sum(map(int, kept.slots))
    arrays = random_inputs(np.random.default_rng(1), graph)
    assert_same_bits(compile_program(again)(arrays), compile_program(kept)(arrays))
