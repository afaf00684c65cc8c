"""The example's GPT and its training step, as one would write them for JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Parameters = dict[str, Any]


def logits_of(parameters: Parameters, x: Any, layers: int, heads: int) -> Any:
    """Tokens (batch, block) to logits; parameters are those of the example, by their names."""
    import jax
    import jax.numpy as jnp

    p = parameters
    batch, block = x.shape

    def norm(name: str, h: Any) -> Any:
        centred = h - h.mean(-1, keepdims=True)
        spread = jnp.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        return centred / spread * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(name: str, h: Any) -> Any:
        return h @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def attention(name: str, h: Any) -> Any:
        qkv = jnp.split(linear(f"{name}.qkv", h), 3, axis=-1)
        q, k, v = (t.reshape(batch, block, heads, -1).transpose(0, 2, 1, 3) for t in qkv)
        scores = q @ k.transpose(0, 1, 3, 2) / np.float32(q.shape[-1] ** 0.5)
        seen = jnp.tril(jnp.ones((block, block), bool))
        y = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1) @ v
        return linear(f"{name}.project", y.transpose(0, 2, 1, 3).reshape(batch, block, -1))

    h = p["tokens.weight"][x] + p["places.weight"][:block]
    for number in range(layers):
        name = f"blocks.{number}"
        h = h + attention(f"{name}.attention", norm(f"{name}.norm1", h))
        wide = linear(f"{name}.network.0", norm(f"{name}.norm2", h))
        h = h + linear(f"{name}.network.2", jax.nn.gelu(wide, approximate=False))
    return norm("norm", h) @ p["tokens.weight"].T


def make_step(
    start: Parameters, layers: int, heads: int, lr: float, betas: Any, decay: float, clip: float
) -> Callable[[Any, Any], Any]:
    """A step like the example's: cross entropy, clipping by the norm, AdamW."""
    import jax
    import jax.numpy as jnp

    tree = jax.tree_util.tree_map

    def loss_of(parameters: Parameters, x: Any, y: Any) -> Any:
        chances = jax.nn.log_softmax(logits_of(parameters, x, layers, heads), axis=-1)
        return -jnp.take_along_axis(chances, y[..., None], axis=-1).mean()

    def step(state: Any, x: Any, y: Any, lr: Any) -> Any:
        parameters, m, v, count = state
        loss, grads = jax.value_and_grad(loss_of)(parameters, x, y)
        norms = [jnp.sqrt((g * g).sum()) for g in grads.values()]
        total = jnp.sqrt((jnp.stack(norms) ** 2).sum())
        grads = tree(lambda g: g * jnp.minimum(clip / (total + 1e-6), 1.0), grads)
        count = count + 1
        m = tree(lambda m, g: m + (1 - betas[0]) * (g - m), m, grads)
        v = tree(lambda v, g: betas[1] * v + (1 - betas[1]) * g * g, v, grads)
        c1, c2 = 1 - betas[0] ** count, 1 - betas[1] ** count

        def update(p: Any, m: Any, v: Any) -> Any:
            kept = p * (1 - lr * decay) if p.ndim >= 2 else p
            return kept - lr / c1 * m / (jnp.sqrt(v) / jnp.sqrt(c2) + 1e-8)

        return (tree(update, parameters, m, v), m, v, count), loss

    compiled = jax.jit(step)
    parameters = {name: jnp.asarray(value) for name, value in start.items()}
    zeros = tree(jnp.zeros_like, parameters)
    state: Any = (parameters, zeros, zeros, jnp.zeros((), jnp.float32))

    def run(x: Any, y: Any) -> Any:
        nonlocal state
        state, loss = compiled(state, x, y, jnp.float32(lr))
        return loss.block_until_ready()

    return run
