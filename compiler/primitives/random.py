"""Random numbers as pure functions: each takes the generator's state and returns it advanced.

The state is the Mersenne Twister's words, its position and the cached normal, as one array, so that
a program threads it like any other value and draws what eager mode draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import dtypes
from ..aval import Aval, Shape
from ..dtypes import DType
from ..errors import IRError
from ..primitive import Call, Primitive, no_gradient, register
from . import batching, mt19937

STATE = Aval(dtypes.u32, (mt19937.STATE_WORDS,))


def _require_state(state: Aval) -> None:
    if state != STATE:
        raise IRError(f"expected a generator's state {STATE}, got {state}")


def _draw_type(state: Aval, *, dtype: DType, shape: Shape) -> tuple[Aval, Aval]:
    _require_state(state)
    if not dtype.is_floating_point:
        raise IRError(f"draws floats, not {dtype.name}")
    return Aval(dtype, shape), STATE


def _primitive(
    name: str,
    type_rule: Callable[..., Any],
    reference: Callable[..., Any],
    doc: str,
    from_type: tuple[str, ...],
) -> Primitive:
    lowering, batch = Call(name), batching.draw
    return Primitive(name, type_rule, reference, no_gradient, lowering, doc, from_type, batch=batch)


def _sampler(name: str, reference: Callable[..., Any], doc: str) -> Primitive:
    def draw(state: Any, *, dtype: DType, shape: tuple[int, ...]) -> Any:
        return reference(state, shape, dtype)

    types = ("dtype", "shape")
    return register(
        Primitive(name, _draw_type, draw, no_gradient, Call(name), doc, types, batch=batching.draw)
    )


uniform = _sampler("uniform", mt19937.uniform, "numbers from [0, 1)")
normal = _sampler("normal", mt19937.normal, "numbers from the standard normal distribution")


def _scaled_sampler(name: str, reference: Callable[..., Any], params: str, doc: str) -> Primitive:
    """A sampler with two numbers of its own, which enter before rounding as PyTorch has it."""
    first, second = params.split()

    def type_rule(state: Aval, *, dtype: DType, shape: Shape, **numbers: float) -> Any:
        if set(numbers) != {first, second}:
            raise IRError(f"takes {first} and {second}, got {', '.join(numbers)}")
        return _draw_type(state, dtype=dtype, shape=shape)

    def draw(state: Any, *, dtype: DType, shape: tuple[int, ...], **numbers: float) -> Any:
        return reference(state, numbers[first], numbers[second], shape, dtype)

    types = ("dtype", "shape")
    return register(
        Primitive(name, type_rule, draw, no_gradient, Call(name), doc, types, batch=batching.draw)
    )


uniform_between = _scaled_sampler(
    "uniform_between", mt19937.uniform_between, "low high", "numbers from [low, high)"
)
normal_scaled = _scaled_sampler(
    "normal_scaled", mt19937.normal_scaled, "mean std", "normal numbers of this mean and deviation"
)


def _integers_type(state: Aval, *, low: int, high: int, shape: Shape) -> tuple[Aval, Aval]:
    _require_state(state)
    if low >= high:
        raise IRError(f"low = {low} must be below high = {high}")
    return Aval(dtypes.i64, shape), STATE


def _integers_reference(state: Any, *, low: int, high: int, shape: tuple[int, ...]) -> Any:
    return mt19937.integers(state, low, high, shape, dtypes.i64)


integers = register(
    Primitive(
        "integers",
        _integers_type,
        _integers_reference,
        no_gradient,
        Call("integers"),
        "integers from [low, high)",
        from_type=("shape",),
        batch=batching.draw,
    )
)


def _bernoulli_type(state: Aval, *, p: float, shape: Shape) -> tuple[Aval, Aval]:
    _require_state(state)
    if not 0 <= p <= 1:
        raise IRError(f"p = {p} is not a probability")
    return Aval(dtypes.boolean, shape), STATE


bernoulli = register(
    Primitive(
        "bernoulli",
        _bernoulli_type,
        lambda state, *, p, shape: mt19937.bernoulli(state, p, shape),
        no_gradient,
        Call("bernoulli"),
        "true with probability p",
        from_type=("shape",),
        batch=batching.draw,
    )
)
