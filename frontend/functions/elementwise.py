"""Elementwise functions of one tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...compiler import dtypes
from ...compiler.primitive import Primitive
from ...compiler.primitives import elementwise as E
from ..core import shape_of
from ..create import filled
from ..tape import apply
from .conversion import clone
from .labels import named
from .logic import chosen, eq, ne
from .operands import UnaryFunction, as_float, described, unary

if TYPE_CHECKING:
    from ..tensor import Tensor

exp = unary(E.exp, "exp")
expm1 = unary(E.expm1, "expm1")
log = unary(E.log, "log")
log1p = unary(E.log1p, "log1p")
sqrt = unary(E.sqrt, "sqrt")
sin = unary(E.sin, "sin")
cos = unary(E.cos, "cos")
tanh = unary(E.tanh, "tanh")
sigmoid = unary(E.sigmoid, "sigmoid")
erf = unary(E.erf, "erf")


def log2(input: Tensor) -> Tensor:
    """Logarithm to base 2."""
    return named(apply(E.div, log(input), math.log(2)), "Log2")


def log10(input: Tensor) -> Tensor:
    """Logarithm to base 10."""
    return named(apply(E.div, log(input), math.log(10)), "Log10")


def power_of_number(base: float, x: Tensor) -> Tensor:
    """base to the power of x; the base is spelt out, so that the power is taken in x's dtype."""
    return apply(E.pow_, filled(shape_of(x), base, x.dtype), x)


def exp2(input: Tensor) -> Tensor:
    """2 to the power of input."""
    return named(power_of_number(2.0, as_float(input)), "Exp2")


def tan(input: Tensor) -> Tensor:
    """Tangent."""
    return named(apply(E.div, sin(input), cos(input)), "Tan")


def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine."""
    return _halved(E.sub, expm1(input), expm1(neg(as_float(input))), "Sinh")


def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine."""
    return _halved(E.add, exp(input), exp(neg(as_float(input))), "Cosh")


def _halved(combine: Primitive, x: Tensor, y: Tensor, label: str) -> Tensor:
    return named(apply(E.mul, apply(combine, x, y), 0.5), label)


def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(input)."""
    return named(reciprocal(sqrt(input)), "Rsqrt")


def reciprocal(input: Tensor) -> Tensor:
    """1 / input."""
    return named(apply(E.div, 1.0, as_float(input)), "Reciprocal")


def neg(input: Tensor) -> Tensor:
    """-input."""
    if input.dtype is dtypes.boolean:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
            "invert a mask, use the `~` or `logical_not()` operator instead."
        )
    return apply(E.neg, input)


def abs(input: Tensor) -> Tensor:
    """|input|."""
    return apply(E.abs_, input)


def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 by the sign of each element."""
    return clone(input) if input.dtype is dtypes.boolean else apply(E.sign, input)


def _rounding(primitive: Primitive, name: str) -> UnaryFunction:
    def function(input: Tensor) -> Tensor:
        return apply(primitive, input) if input.dtype.is_floating_point else clone(input)

    return described(function, name, f"{primitive.doc}; integers stay as they are.")  # type: ignore[no-any-return]  # the function itself


floor = _rounding(E.floor, "floor")
ceil = _rounding(E.ceil, "ceil")
trunc = _rounding(E.trunc, "trunc")
_round = _rounding(E.round_, "round")


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Rounded to the nearest integer, ties to even, or to a number of decimals."""
    if not decimals:
        return _round(input)
    scale = 10.0 ** math.fabs(decimals)
    if decimals > 0:
        return named(apply(E.div, _round(apply(E.mul, input, scale)), scale), "RoundBackward1")
    return named(apply(E.mul, _round(apply(E.div, input, scale)), scale), "RoundBackward1")


def frac(input: Tensor) -> Tensor:
    """What truncation drops."""
    return named(apply(E.sub, input, trunc(input)), "Frac")


def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """nan and infinities replaced: by `nan`, and by the given or the largest finite numbers."""
    if not input.dtype.is_floating_point:
        return clone(input)
    largest = float(np.finfo(input.dtype.numpy.name).max)
    result = chosen(ne(input, input), nan, input)
    result = chosen(eq(input, math.inf), largest if posinf is None else posinf, result)
    result = chosen(eq(input, -math.inf), -largest if neginf is None else neginf, result)
    return named(result, "NanToNum")
