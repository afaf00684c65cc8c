"""The step of the example's GPT for each peer, from the same starting values and tokens."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gpt_jax
import numpy as np

SOURCE = Path(__file__).resolve().parents[1] / "examples" / "gpt.py"
VOCABULARY, HEADS, WIDTH, BLOCK, BATCH = 96, 4, 128, 64, 12
RATE = 1e-3


def example(library: str) -> ModuleType:
    """The example as a module over taut or, its imports changed, over PyTorch."""
    source = SOURCE.read_text().replace("import taut\n", f"import {library} as taut\n")
    module = ModuleType(f"gpt_over_{library}")
    module.__file__ = str(SOURCE)
    sys.modules[module.__name__] = module  # dataclasses look there
    code = compile(source.replace("from taut", f"from {library}"), SOURCE, "exec")
    exec(code, vars(module))  # noqa: S102  # our own example
    return module


def _start(model: Any) -> dict[str, Any]:
    """Starting values by name: normal numbers for matrices, ones or zeros for vectors."""
    rng = np.random.default_rng(0)
    start = {}
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        plain = np.full(shape, float("norm" in name and name.endswith("weight")), np.float32)
        normal = 0.02 * rng.normal(size=shape).astype(np.float32)
        start[name] = normal if len(shape) > 1 else plain
    return start


def make_step(peer: str, layers: int = 4) -> Callable[[], Any]:
    """A step on one fixed batch, which returns the loss."""
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (BATCH, BLOCK + 1))
    x, y = np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])
    library = "torch" if peer.startswith("torch") else "taut"
    gpt = example(library)
    model = gpt.GPT(gpt.Config(VOCABULARY, layers, HEADS, WIDTH, BLOCK))
    start = _start(model)
    if peer == "jax":
        step = gpt_jax.make_step(start, layers, HEADS, RATE, gpt.BETAS, gpt.DECAY, gpt.CLIP)
        return lambda: step(x, y)
    torch = gpt.taut
    if library == "torch":
        torch.set_num_threads(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(start[name]))
    own = gpt.make_step(model, gpt.make_optimizer(model, RATE))
    step = own if peer in ("taut-eager", "torch") else torch.compile(own)
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    return lambda: step(*tensors)
