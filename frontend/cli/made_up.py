"""Arrays for a graph's inputs: given ones, and deterministic made-up ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from ...compiler.aval import Aval, evaluate_dim
from ...compiler.errors import IRError
from ...compiler.ir import Graph, Value, bind_sizes, solve_sizes
from ...compiler.primitives.mt19937 import seed_state
from ...compiler.primitives.random import STATE
from ...compiler.text.lexer import suggestion
from ...compiler.text.printer import value_names
from ..core import TensorBase

Array = npt.NDArray[Any]
EXAMPLE_SIZE = 4


def arrays_for(graph: Graph, values: Mapping[str, Any], seed: int) -> list[Array]:
    """An array for each input.

    Args:
        graph: whose inputs.
        values: by the inputs' names: a type to make an array of, a tensor, or a number.  An input
            that is left out is made up, of its own type.
        seed: of what is made up, together with the input's position.

    Raises:
        click.UsageError: a value does not fit, there is no such input, or a size is not known.
    """
    names = input_names(graph)
    unknown = [name for name in values if name not in names]
    if unknown:
        hint = suggestion(unknown[0], names) or f"; it takes {', '.join(names) or 'none'}"
        raise click.UsageError(f"{graph.name} has no input {unknown[0]!r}{hint}")
    given = {
        name: _given(name, v.aval, values[name]) for name, v in names.items() if name in values
    }
    sizes = _sizes(names, given)
    result = []
    for position, (name, value) in enumerate(names.items()):
        found = given.get(name)
        made = _made_up(np.random.default_rng([seed, position]), value.aval, sizes)
        result.append(found if isinstance(found, np.ndarray) else made)
    return result


def input_names(graph: Graph) -> dict[str, Value]:
    """The inputs by their names, as text has them without the `%`."""
    texts = value_names(graph)
    return {graph.names.get(v, texts[v].removeprefix("%")): v for v in graph.inputs}


def _given(name: str, aval: Aval, value: Any) -> Array | tuple[int, ...]:
    """An array, or the shape of one to make up."""
    if isinstance(value, Aval):
        if value.symbols:
            raise click.UsageError(f"--arg {name}: sizes must be numbers here, not {value}")
        _require(value.dtype is aval.dtype and value.ndim == aval.ndim, name, aval, value)
        return tuple(evaluate_dim(dim, {}) for dim in value.shape)
    if isinstance(value, TensorBase):
        got = Aval(value.dtype, value.shape)
        _require(got.dtype is aval.dtype and got.ndim == aval.ndim, name, aval, got)
        return np.asarray(value.array)
    if isinstance(value, bool | int | float) and aval.ndim == 0:
        return _number(name, aval, value)
    raise click.UsageError(f"--arg {name}: the graph takes {aval}, not {value!r}")


def _number(name: str, aval: Aval, value: bool | float) -> Array:
    array: Array = np.asarray(value).astype(aval.dtype.numpy)
    _require(aval.dtype.is_floating_point or bool(array == value), name, aval, value)
    return array


def _require(fits: bool, name: str, aval: Aval, got: object) -> None:
    if not fits:
        raise click.UsageError(f"--arg {name}: the graph takes {aval}, not {got}")


def _sizes(
    names: Mapping[str, Value], given: Mapping[str, Array | tuple[int, ...]]
) -> dict[str, int]:
    """The sizes that have names, read off what is given."""
    shapes = [g.shape if isinstance(g, np.ndarray) else g for g in given.values()]
    try:
        sizes = solve_sizes([names[name].aval for name in given], shapes)
    except IRError as error:
        told = re.sub(r"^argument (\d+)", lambda m: f"--arg {[*given][int(m[1])]}", str(error))
        raise click.UsageError(told) from None
    for name, value in names.items():
        for size in sorted(value.aval.symbols - sizes.keys()):
            example = value.aval.with_shape(
                bind_sizes(value.aval.shape, dict.fromkeys(value.aval.symbols, EXAMPLE_SIZE))
            )
            raise click.UsageError(
                f"the size {size} of {name}: {value.aval} is not known; give it an array or a type "
                f"with numbers, such as --arg '{name}={example}'"
            )
    return sizes


def _made_up(rng: np.random.Generator, aval: Aval, sizes: Mapping[str, int]) -> Array:
    """Standard normal floats; zeros and ones, which are positions and labels almost anywhere."""
    shape = tuple(evaluate_dim(dim, sizes) for dim in aval.shape)
    if aval == STATE:
        return seed_state(int(rng.integers(1 << 32)))
    if aval.dtype.is_floating_point:
        return rng.standard_normal(shape).astype(aval.dtype.numpy)
    return rng.integers(0, 2, shape).astype(aval.dtype.numpy)
