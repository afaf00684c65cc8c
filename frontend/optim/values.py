"""What the update rules compute with: NumPy arrays at once, traced tensors while tracing.

A rule is written once, with operators that both have (`x *= a`, `x += a * y`, `-x`); the few
functions that are spelled differently are here.  On arrays a step costs a few NumPy calls a
parameter; in a trace the same lines are recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compiler import dtypes
from ...compiler.primitives import elementwise
from ..context import current, untraced
from ..create import filled, zeros_like
from ..functions.arithmetic import maximum
from ..functions.elementwise import sqrt
from ..functions.promotion import converted
from ..tensor import Tensor


def number(container: dict[str, Any], key: str, index: int | None = None) -> Any:
    """A hyperparameter: a number, or while tracing a float64 scalar read anew at each call."""
    trace = current().trace
    value = container[key] if index is None else container[key][index]
    if trace is None:
        return float(value)
    if isinstance(value, Tensor):
        return converted(value, dtypes.f64)
    place = () if index is None else (index,)
    return converted(trace.hyperparameter(container, key, *place), dtypes.f64)


def value_of(tensor: Tensor) -> Any:
    """What a rule computes with in place of a tensor: writing into it writes the tensor."""
    return tensor if current().trace is not None else tensor.array


def written(*tensors: Tensor) -> None:
    """Counts a write to memory that a rule wrote through `value_of`."""
    if current().trace is None:
        for tensor in tensors:
            tensor.storage.version += 1


def fit(scalar: Any, x: Any) -> Any:
    """A float64 scalar in the dtype of `x`; a Python number as it is."""
    return scalar.to(x.dtype) if isinstance(scalar, Tensor) else scalar


def plus(x: Any, scalar: Any, y: Any) -> Any:
    """x + scalar * y, rounded once as PyTorch's `add` with `alpha` is."""
    if isinstance(x, Tensor):
        return x.add(y, alpha=fit(scalar, x))
    return elementwise.fma.reference(y, x.dtype.type(scalar), x)


def advance_by(x: Any, scalar: Any, y: Any) -> None:
    """x <- x + scalar * y, rounded once."""
    if isinstance(x, Tensor):
        x.add_(y, alpha=fit(scalar, x))
    else:
        np.copyto(x, plus(x, scalar, y))


def root(x: Any) -> Any:
    """Square root of an array, a number or a tensor."""
    return sqrt(x) if isinstance(x, Tensor) else np.sqrt(x)


def keep_larger(tensor: Tensor, x: Any) -> Any:
    """Writes the larger of the tensor and `x` into the tensor, elementwise; returns its value."""
    known = value_of(tensor)
    if isinstance(known, Tensor):
        return known.copy_(maximum(known, x))
    np.maximum(known, x, out=known)
    written(tensor)
    return known


def advance(count: Tensor) -> Any:
    """Adds one to a step count; returns it as a float64 number or scalar."""
    value = value_of(count)
    value += 1
    written(count)
    return converted(value, dtypes.f64) if isinstance(value, Tensor) else float(value)


def move_towards(x: Any, end: Any, weight: Any) -> None:
    """x <- x + weight * (end - x), from the nearer end (`Tensor.lerp_`)."""
    if isinstance(x, Tensor):
        x.lerp_(end, fit(weight, x))
    elif weight < 0.5:
        x += weight * (end - x)
    else:
        np.subtract(end, (end - x) * (1 - weight), out=x)


def new_state(like: Tensor) -> Tensor:
    """Zeros of a parameter's shape, real even while tracing."""
    with untraced():
        return zeros_like(like)


def new_count(value: float = 0.0) -> Tensor:
    """A float32 scalar that counts steps, real even while tracing."""
    with untraced():
        return filled((), value, dtypes.f32)


def require(condition: Any, what: str, value: object) -> None:
    """Raises ValueError, in PyTorch's words, unless the condition holds."""
    if not condition:
        raise ValueError(f"Invalid {what}: {value}")
