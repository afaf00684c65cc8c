"""The cases: one program for each peer, from the same numbers.

A case returns a step that can be called again and again.  A step returns a float (the loss, or a
checksum of the result), by which the peers' answers are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gpt_step
import numpy as np

Step = Callable[[], Any]
PEERS = ("taut", "taut-eager", "torch", "torch-compiled", "jax")


def numbers(*shape: int, seed: int = 0) -> Any:
    """Standard normal numbers, the same for every peer."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def frameworks(peer: str) -> tuple[Any, Any, Any]:
    """The peer's torch-like module, its `nn` and its `optim`."""
    if peer.startswith("taut"):
        import taut

        return taut, taut.nn, taut.optim
    import torch

    torch.set_num_threads(1)
    return torch, torch.nn, torch.optim


def compiled(peer: str, torch: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as the peer runs it: compiled, unless the peer is an eager one."""
    return function if peer in ("taut-eager", "torch") else torch.compile(function)


def trained(peer: str, sizes: tuple[int, ...], batch: int, activation: str, adam: bool) -> Step:
    """A step of a fully connected network on one fixed batch, mean squared error."""
    if peer == "jax":
        return _trained_jax(sizes, batch, activation, adam)
    torch, nn, optim = frameworks(peer)
    layers: list[Any] = []
    for number, (rows, columns) in enumerate(pairwise(sizes)):
        linear = nn.Linear(rows, columns)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(numbers(columns, rows, seed=number) / rows**0.5))
            linear.bias.zero_()
        layers += [linear] + ([getattr(nn, activation)()] if activation else [])
    model = nn.Sequential(*(layers[:-1] if activation else layers))
    optimizer = (
        optim.Adam(model.parameters(), lr=1e-3) if adam else optim.SGD(model.parameters(), lr=1e-3)
    )
    criterion = nn.MSELoss()
    shape = (batch,) if batch else ()
    x = torch.from_numpy(numbers(*shape, sizes[0], seed=100))
    y = torch.from_numpy(numbers(*shape, sizes[-1], seed=101))

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = compiled(peer, torch, step)
    return lambda: run(x, y)


def _article(peer: str) -> Step:
    """The article's loop, which never sets its gradients to zero; a small rate keeps it tame."""
    torch, nn, optim = frameworks(peer)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 10), nn.Linear(10, 1))
    optimizer = optim.SGD(model.parameters(), lr=1e-9)
    criterion = nn.MSELoss()
    x, y = torch.tensor([1.0]), torch.tensor([2.0])

    def step(x: Any, y: Any) -> Any:
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = compiled(peer, torch, step)
    return lambda: run(x, y)


def _trained_jax(sizes: tuple[int, ...], batch: int, activation: str, adam: bool) -> Step:
    import jax
    import jax.numpy as jnp

    weights = [
        (jnp.asarray(numbers(c, r, seed=i) / r**0.5), jnp.zeros(c, jnp.float32))
        for i, (r, c) in enumerate(pairwise(sizes))
    ]
    shape = (batch,) if batch else ()
    x = jnp.asarray(numbers(*shape, sizes[0], seed=100))
    y = jnp.asarray(numbers(*shape, sizes[-1], seed=101))
    act = {"": lambda h: h, "ReLU": jax.nn.relu, "Tanh": jnp.tanh, "GELU": jax.nn.gelu}[activation]

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        h = x
        for number, (w, b) in enumerate(params):
            h = h @ w.T + b
            h = act(h) if number < len(params) - 1 else h
        return jnp.mean((h - y) ** 2)

    tree = jax.tree_util.tree_map
    state: Any = [weights]
    if adam:
        zeros = tree(jnp.zeros_like, weights)
        state = [weights, zeros, zeros, jnp.zeros((), jnp.float32)]

    def step(state: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(state[0], x, y)
        if not adam:
            return [tree(lambda p, g: p - 1e-3 * g, state[0], grads)], loss
        params, m, v, t = state
        t = t + 1
        m = tree(lambda m, g: m + 0.1 * (g - m), m, grads)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t

        def update(p: Any, m: Any, v: Any) -> Any:
            return p - (1e-3 / c1) * m / (jnp.sqrt(v) / jnp.sqrt(c2) + 1e-8)

        return [tree(update, params, m, v), m, v, t], loss

    compiled_step = jax.jit(step)

    def run() -> Any:
        nonlocal state
        state, loss = compiled_step(state, x, y)
        return loss

    return run


def _function(peer: str, shape: tuple[int, ...], name: str) -> Step:
    """A function of one array, without training."""
    data = numbers(*shape)
    if peer == "jax":
        import jax

        function = {
            "gelu": lambda x: jax.nn.gelu(x, approximate=True),
            "softmax": lambda x: jax.nn.softmax(x, axis=-1),
        }[name]
        run, x = jax.jit(function), jax.numpy.asarray(data)
        return lambda: run(x).block_until_ready()
    torch, nn, _ = frameworks(peer)
    functional = nn.functional
    own = {
        "gelu": lambda x: functional.gelu(x, approximate="tanh"),
        "softmax": lambda x: functional.softmax(x, -1),
    }[name]
    function, x = compiled(peer, torch, own), torch.from_numpy(data)
    return lambda: function(x)


CASES: dict[str, Callable[[str], Step]] = {
    "article": _article,
    "network": lambda peer: trained(peer, (1, 10, 1), 0, "", adam=False),
    "digits": lambda peer: trained(peer, (64, 128, 64, 10), 64, "ReLU", adam=True),
    "mlp": lambda peer: trained(peer, (784, 256, 256, 10), 64, "Tanh", adam=False),
    "gelu": lambda peer: _function(peer, (1 << 20,), "gelu"),
    "gpt": gpt_step.make_step,
    "softmax": lambda peer: _function(peer, (1024, 512), "softmax"),
}


ABSENT = {"article": ("jax",)}
"""Peers that a case is not written for."""


def checksum(result: Any) -> list[float]:
    """A few numbers by which results of different peers can be compared."""
    array = np.asarray(result.detach() if hasattr(result, "detach") else result, np.float64).ravel()
    return [float(array.sum()), float(np.abs(array).sum()), float(array[0]), float(array[-1])]
