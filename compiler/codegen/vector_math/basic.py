"""Rounding, signs, extrema and the remainder: exact or correctly rounded functions."""

from __future__ import annotations

import math

from .branches import repeat
from .lanes import Lanes, Vec


def sqrt(f: Lanes, x: Vec) -> Vec:
    """The square root; NaN for negative numbers."""
    return f.intrinsic("sqrt", x)


def floor(f: Lanes, x: Vec) -> Vec:
    """The next integer below or at x."""
    return f.intrinsic("floor", x)


def ceil(f: Lanes, x: Vec) -> Vec:
    """The next integer above or at x."""
    return f.intrinsic("ceil", x)


def trunc(f: Lanes, x: Vec) -> Vec:
    """The next integer towards zero."""
    return f.intrinsic("trunc", x)


def round(f: Lanes, x: Vec) -> Vec:
    """The nearest integer, of two the even one, as NumPy and PyTorch round."""
    return f.intrinsic("roundeven", x)


def abs(f: Lanes, x: Vec) -> Vec:
    """The magnitude."""
    return f.abs(x)


def copysign(f: Lanes, x: Vec, y: Vec) -> Vec:
    """The magnitude of x with the sign of y."""
    return f.copysign(x, y)


def maximum(f: Lanes, x: Vec, y: Vec) -> Vec:
    """The larger one; NaN if either is NaN; the second of two zeros, whatever their signs."""
    return f.select(x.is_nan(), x, f.select(x > y, x, y))


def minimum(f: Lanes, x: Vec, y: Vec) -> Vec:
    """The smaller one; NaN if either is NaN; the second of two zeros, whatever their signs."""
    return f.select(x.is_nan(), x, f.select(x < y, x, y))


def _divide_down(f: Lanes, a: Vec, b: Vec) -> Vec:
    """a less the rounded quotient times b: exact, and smaller than a by about 2**mantissa.

    A quotient too large for the format is avoided by larger multiples of b.
    """
    for _ in range(2):
        b = f.select(f.abs(a / b).equals(math.inf), b * 2.0**f.format.bias, b)
    return f.fma(-(a / b), b, a)


def _fmod(f: Lanes, a: Vec, b: Vec) -> Vec:
    """a modulo b for non-negative operands, exactly.

    While the quotient is 2**mantissa or more, and hence an integer, the multiple of b next to a is
    taken off; this may change the sign, which is mended at the end. b = inf leaves a as it is.
    """

    def is_large(rest: Vec) -> Vec:
        size = f.abs(rest)
        return (size >= b * 2.0**f.format.mantissa) & (size < math.inf) & (b > 0.0)

    rest = repeat(f, is_large, lambda rest: _divide_down(f, rest, b), a)
    result = f.fma(-f.intrinsic("trunc", rest / b), b, rest)
    result = f.select(result < 0.0, result + b, result)
    return f.select(a < b, a, result)


def rem(f: Lanes, x: Vec, y: Vec) -> Vec:
    """The remainder with the sign of y, as `torch.remainder`: C's fmod, plus y if the signs differ.

    A remainder of zero has the sign of x. Like fmod it is exact for any quotient.
    """
    result = f.copysign(_fmod(f, f.abs(x), f.abs(y)), x)
    opposite = (result < 0.0) ^ (y < 0.0)
    return f.select(opposite & (f.abs(result) > 0.0), result + y, result)
