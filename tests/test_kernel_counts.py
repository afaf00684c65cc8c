"""How many kernels known programs take: the table by which fusion is judged."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import taut
from taut import nn, optim
from taut.compiler.pipeline import run_passes
from taut.compiler.schedule import schedule
from taut.compiler.schedule.program import Program, RunKernel, RunMatmul, RunSweep
from taut.frontend.testing import assert_same_bits, random_inputs
from taut.nn import functional as F
from taut.runtime.compile import compile_program
from taut.runtime.host import host_target

Function = Callable[..., Any]


def numbers(*shape: int) -> Any:
    values = np.random.default_rng([1, *shape]).standard_normal(shape)
    return taut.from_numpy(values.astype(np.float32))


ROWS = numbers(64, 40)
IMAGES, LABELS = numbers(64, 64), taut.arange(64) % 10
HEADS = [numbers(2, 4, 16, 8) for _ in range(3)]
TOKENS = numbers(2, 16, 32)


def with_gradients(function: Function) -> Function:
    """The function's result and its gradients with respect to all floating arguments."""

    def both(cotangent: Any, *arguments: Any) -> list[Any]:
        given = [
            a.detach().requires_grad_(True) if a.dtype.is_floating_point else a for a in arguments
        ]
        result = function(*given)
        result.backward(cotangent)
        return [result, *(a.grad for a in given if a.requires_grad)]

    return both


def written(function: Function) -> Function:
    """One with weights of ones and biases of zeros as arguments."""
    return lambda x, *parameters: function(x, (x.shape[-1],), *parameters)


def layers(*sizes: int) -> nn.Module:
    parts: list[nn.Module] = []
    for given, made in pairwise(sizes):
        parts += [nn.Linear(given, made), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def training(model: nn.Module, make: Function, loss: Function, clip: float = 0) -> Function:
    """A step that trains a model."""
    optimizer = make(model.parameters())

    def step(x: Any, target: Any) -> Any:
        optimizer.zero_grad()
        value = loss(model(x), target)
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return value

    return step


class Block(nn.Module):
    """A transformer's block, normalised first."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out, self.heads = nn.Linear(width, width), heads
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def split(self, x: Any) -> Any:
        batch, length, width = x.shape
        return x.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x: Any) -> Any:
        y = self.before(x)
        q, k, v = (self.split(layer(y)) for layer in (self.q, self.k, self.v))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(z.transpose(1, 2).reshape(*x.shape))
        return x + self.down(F.gelu(self.up(self.between(x))))


def program_of(function: Function, *arguments: Any) -> Program:
    compiled = taut.compile(function)
    compiled(*arguments)
    return schedule(run_passes(compiled.graph()), host_target())


def counts(program: Program) -> tuple[int, int]:
    """Steps that run kernels by themselves, and products, with the kernels that follow them."""
    kernels = sum(isinstance(step, RunKernel | RunSweep) for step in program.steps)
    return kernels, sum(isinstance(part, RunMatmul) for part in program.parts)


FUNCTIONS: dict[str, tuple[Function, list[Any], int, int]] = {
    # name: function, arguments, kernels forward, kernels forward and backward
    "gelu": (F.gelu, [ROWS], 1, 1),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), [ROWS], 1, 1),
    "softmax": (lambda x: F.softmax(x, -1), [ROWS], 1, 1),
    "log_softmax": (lambda x: F.log_softmax(x, -1), [ROWS], 1, 1),
    "logsumexp": (lambda x: taut.logsumexp(x, -1), [ROWS], 1, 1),
    "variance": (lambda x: x.var(-1), [ROWS], 1, 1),
    "layer norm": (written(F.layer_norm), [ROWS, numbers(40), numbers(40)], 1, 1),
    "rms norm": (written(F.rms_norm), [ROWS, numbers(40)], 1, 1),
    "cross entropy": (F.cross_entropy, [numbers(64, 10), LABELS], 1, 1),
    "mean square": (F.mse_loss, [ROWS, numbers(64, 40) * 2], 1, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    function, arguments, forward, both = FUNCTIONS[name]
    assert counts(program_of(function, *arguments)) == (forward, 0)
    cotangent = numbers(*function(*arguments).shape)
    assert counts(program_of(with_gradients(function), cotangent, *arguments)) == (both, 0)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_without_dropout(causal: bool) -> None:
    program = program_of(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal), *HEADS
    )
    assert counts(program) == (0, 2)


OPTIMIZERS: dict[str, Function] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": optim.Adam,
    "AdamW": lambda p: optim.AdamW(p, amsgrad=True),
}


@pytest.mark.parametrize("clip", [0, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_digits_step(name: str, clip: float) -> None:
    """Weights are updated after the products of their gradients, biases in one sweep.

    The loss, its gradient and the check of the labels follow the last product.  With clipping all
    six updates are one sweep, and so are the six norms.
    """
    step = training(layers(64, 128, 64, 10), OPTIMIZERS[name], F.cross_entropy, clip)
    program = program_of(step, IMAGES, LABELS)
    assert counts(program) == ((7, 8) if clip else (4, 8))
    assert segments(program) == ([6, 6] if clip else [3])


def segments(program: Program) -> list[int]:
    """How many segments each sweep has."""
    return [len(step.runs) for step in program.steps if isinstance(step, RunSweep)]


@pytest.mark.parametrize("hidden", [2, 6])
def test_more_layers_take_no_more_code(hidden: int) -> None:
    step = training(layers(20, *[30] * hidden, 10), optim.Adam, F.cross_entropy)
    program = program_of(step, numbers(64, 20), LABELS)
    assert segments(program) == [hidden + 1]
    assert len(program.kernels) == 5


def test_a_network_of_four_layers_with_adam() -> None:
    step = training(layers(256, 512, 384, 256, 10), optim.Adam, F.cross_entropy)
    program = program_of(step, numbers(64, 256), LABELS)
    assert counts(program) == (5, 11)
    assert segments(program) == [4]


def test_a_transformer_block() -> None:
    block = Block()
    with taut.no_grad():
        assert counts(program_of(block.forward, TOKENS)) == (1, 8)
    step = program_of(training(block, optim.AdamW, F.mse_loss, 1.0), TOKENS, TOKENS * 2)
    assert counts(step) == (13, 24)
    assert segments(step)[-2:] == [16, 16]


def test_a_block_that_fuses_gives_the_bits_of_one_that_does_not() -> None:
    step = taut.compile(training(Block(), optim.AdamW, F.mse_loss, 1.0))
    step(TOKENS, TOKENS * 2)
    graph = run_passes(step.graph())
    arrays = [abs(a) for a in random_inputs(np.random.default_rng(1), graph)]
    fused, apart = (
        compile_program(schedule(graph, host_target(), fuse=fuse))(arrays) for fuse in (True, False)
    )
    assert_same_bits(fused, apart)


def heads_of(x: Any) -> Any:
    batch, length, width = x.shape
    return x.reshape(batch, length, 4, width // 4).transpose(1, 2)


MOVES: dict[str, tuple[Function, list[Any], int, int]] = {
    # name: function, arguments, kernels, products
    "transposed": (lambda x: x.t() * 2 + x.t().exp(), [ROWS], 1, 0),
    "reshaped": (lambda x: x.reshape(8, 320).t().reshape(-1).tanh(), [ROWS], 1, 0),
    "expanded": (lambda x: x[:, :1].expand(64, 40) + x[0].expand(64, 40) * x, [ROWS], 1, 0),
    "sliced": (lambda x: x[::2, 1:].flip(0).t() - 1, [ROWS], 1, 0),
    "permuted": (lambda x: heads_of(x).permute(2, 0, 3, 1).unsqueeze(1).relu(), [TOKENS], 1, 0),
    "reduced": (lambda x: (heads_of(x) * 2).sum(-1).transpose(1, 2), [TOKENS], 1, 0),
    "outer": (lambda x: x[:, 0][:, None] * x[0][None, :], [ROWS], 1, 0),
    "normalised": (
        lambda x: F.softmax(heads_of(x).transpose(-1, -2), -2).flatten(1),
        [TOKENS],
        1,
        0,
    ),
    "products": (
        lambda x: heads_of(x) @ heads_of(x).transpose(-1, -2),
        [TOKENS],
        0,
        1,
    ),
    "product of a slice": (lambda x: x[8:40, 8:].t() @ x[8:40], [ROWS], 0, 1),
    "merged heads": (
        lambda x: (heads_of(x) @ heads_of(x)[:, :, :8]).transpose(1, 2).reshape(2, 16, 32),
        [TOKENS],
        0,
        1,
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_cost_no_kernel(name: str) -> None:
    function, arguments, kernels, products = MOVES[name]
    program = program_of(function, *arguments)
    assert counts(program) == (kernels, products)
    assert len(program.steps) == max(kernels, products), "neither copies nor calls"
