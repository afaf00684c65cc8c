"""Graphs drawn at random, well formed by construction, and inputs for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..compiler.aval import Aval, evaluate_dim
from ..compiler.ir import Graph, Loc, Value
from ..compiler.primitive import all_primitives
from ..compiler.primitives.mt19937 import seed_state
from ..compiler.primitives.random import STATE
from .random_nodes import Builder

Array = npt.NDArray[Any]

NAMES = ("x", "y", "loss", "layers.0.weight", "α", "a b", "7", 'the "best"', "")


def random_graph(
    rng: np.random.Generator,
    size: int = 12,
    *,
    symbolic: bool = False,
    primitives: Sequence[str] | None = None,
) -> Graph:
    """A well-formed graph of random primitives, with names, locations, checks and donations.

    Positions are in range, exponents and casts are such that every result is defined, and checks
    hold, provided that sizes are at least 1 and inputs are those of `random_inputs`.

    Args:
        rng: where the choices come from.
        size: how many primitives to apply; operands that must be made come on top.
        symbolic: whether some dimensions have the symbolic size `B`.
        primitives: names of those to choose from; by default all that are registered.
    """
    builder = Builder(rng, symbolic)
    names = primitives or [p.name for p in all_primitives() if p.name != "input"]
    known = {p.name: p for p in all_primitives()}
    for name in rng.choice(names, size):
        builder.apply(known[name])
    return _decorated(rng, builder)


def random_inputs(
    rng: np.random.Generator, graph: Graph, sizes: Mapping[str, int] | None = None
) -> list[Array]:
    """An array for each input of `graph`: floats in [-3, 3), small integers, fresh generators.

    Args:
        rng: where the values come from.
        graph: whose inputs.
        sizes: the symbolic sizes; 3 for those left out.
    """
    bound = dict.fromkeys(graph.symbols, 3) | dict(sizes or {})
    return [_random_array(rng, value.aval, bound) for value in graph.inputs]


def _random_array(rng: np.random.Generator, aval: Aval, sizes: Mapping[str, int]) -> Array:
    shape = tuple(evaluate_dim(dim, sizes) for dim in aval.shape)
    if aval == STATE:
        return seed_state(int(rng.integers(1 << 32)))
    if aval.dtype.is_floating_point:
        special = rng.choice([0.0, -0.0, 1.0, -1.0], shape)
        values = np.where(rng.random(shape) < 0.1, special, rng.uniform(-3, 3, shape))
        return values.astype(aval.dtype.numpy)
    low = -4 if aval.dtype.kind == "int" else 0
    return rng.integers(low, 2 if aval.dtype.kind == "bool" else 5, shape).astype(aval.dtype.numpy)


def _decorated(rng: np.random.Generator, builder: Builder) -> Graph:
    """The builder's graph with every result used, and with names, locations and donations."""
    plain = Graph("", tuple(builder.inputs), tuple(builder.made), (), tuple(builder.checks))
    sinks = [n for n in plain.nodes if not any(r in plain.users for r in n.results)]
    outputs = [r for node in sinks for r in node.results]
    outputs += [v for v in builder.made if rng.random() < 0.1]
    values = [*plain.inputs, *(r for n in plain.nodes for r in n.results)]
    return plain.replace(
        name=str(rng.choice(["step", "<lambda>", "model.forward", ""])),
        outputs=tuple(outputs),
        donations=_donations(rng, plain.inputs, outputs),
        names=_names(rng, values),
        locs={n: _locs(rng) for n in plain.nodes if rng.random() < 0.7},
    )


def _donations(
    rng: np.random.Generator, inputs: Sequence[Value], outputs: Sequence[Value]
) -> tuple[int | None, ...]:
    free = {position: value.aval for position, value in enumerate(inputs)}
    found: list[int | None] = []
    for output in outputs:
        fitting = [p for p, a in free.items() if a == output.aval and rng.random() < 0.5]
        found.append(fitting[0] if fitting else None)
        free.pop(fitting[0] if fitting else -1, None)
    return tuple(found)


def _names(rng: np.random.Generator, values: Sequence[Value]) -> dict[Value, str]:
    names: dict[str, Value] = {}
    for value in values:
        if rng.random() < 0.6:
            name = str(rng.choice(NAMES))
            names.setdefault(name if rng.random() < 0.3 else f"{name}{len(names)}", value)
    return {value: name for name, value in reversed(names.items())}


def _locs(rng: np.random.Generator) -> tuple[Loc, ...]:
    files = ("mlp.py", "/home/a b/träin.py", "<stdin>")
    return tuple(
        Loc(str(rng.choice(files)), int(rng.integers(1, 99)), 5, grad=bool(rng.random() < 0.3))
        for _ in range(rng.integers(0, 4))
    )
