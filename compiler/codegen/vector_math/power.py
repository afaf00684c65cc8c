"""pow, by a logarithm of twice the precision.

|x|**y = 2**(y log2|x|). With |x| = 2**n m, s = (m - 1) / (m + 1) and z = s**2,
log2(m) = s (C0 + z (C1 + z P(z))), where C0 = 2/ln2, C1 = C0/3 and P is a minimax fit as in
`exp_log`. All but P is done in pairs of numbers (high, low), as the absolute error of the exponent,
which may be as large as 1024, becomes the relative error of the result.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .exp_log import EXP, LN2, power_factors, small_to_float, split
from .lanes import Lanes, Vec

# fmt: off
C0 = {"f32": (2.88539, 3.851926e-08), "f64": (2.8853900817779268, 4.0710547481862066e-17)}
C1 = {"f32": (0.9617967, -7.028462e-09), "f64": (0.9617966939259756, 5.0577616648125907e-17)}
LOG2 = {  # relative error of log2(m) 2**-36.7 and 2**-66.3
    "f32": (0.57708025, 0.41184455, 0.3379369),
    "f64": (
        0.5770780163556182, 0.41219858309183105, 0.3205989022934671, 0.2623076993417649,
        0.22198408192133237, 0.19125315428750983, 0.19040448440258137,
    ),
}
# fmt: on
EXPONENT = {"f32": 200.0, "f64": 1200.0}  # beyond it 2**t is 0 or inf


class Pair(NamedTuple):
    """high + low, where low is at most a few ulp of high."""

    high: Vec
    low: Vec


def _sum(large: Vec, small: Pair) -> Pair:
    """large + small, where |large| >= |small| or large is 0."""
    high = large + small.high
    return Pair(high, ((large - high) + small.high) + small.low)


def _product(f: Lanes, a: Pair, b: Pair) -> Pair:
    high = a.high * b.high
    cross = f.fma(a.high, b.low, a.low * b.high)
    return Pair(high, f.fma(a.high, b.high, -high) + cross)


def _pair(f: Lanes, parts: tuple[float, float]) -> Pair:
    return Pair(f.constant(parts[0]), f.constant(parts[1]))


def _log2_short(f: Lanes, m: Vec) -> Pair:
    """log2(m) for sqrt(1/2) <= m < sqrt(2)."""
    name = f.format.name
    t, d = m - 1.0, m + 1.0
    inverse = 1.0 / d
    s_high = t * inverse
    s_low = inverse * f.fma(-s_high, m - (d - 1.0), f.fma(-s_high, d, t))
    s = Pair(s_high, s_low)
    z = _product(f, s, s)
    c0, c1 = _pair(f, C0[name]), _pair(f, C1[name])
    inner = _sum(c1.high, Pair(z.high * f.horner(z.high, LOG2[name]), c1.low))
    term = _product(f, z, inner)
    return _product(f, s, _sum(c0.high, Pair(term.high, term.low + c0.low)))


def log2_pair(f: Lanes, a: Vec) -> Pair:
    """log2(a) for positive a, subnormal ones too; -inf for 0, inf for inf, NaN for NaN."""
    shift, small = f.format.mantissa + 1, a < f.format.tiny
    n, m = split(f, f.select(small, a * 2.0**shift, a))
    bias = f.select(small, f.constant(f.format.bias + shift), float(f.format.bias))
    result = _sum(small_to_float(f, n) - bias, _log2_short(f, m))
    high = f.select(a < math.inf, result.high, a)
    return Pair(f.select(a.equals(0.0), -math.inf, high), result.low)


def exp2_pair(f: Lanes, t: Pair) -> Vec:
    """2**t, with the polynomial of exp; a low part that is not a number is left out."""
    name, limit = f.format.name, EXPONENT[f.format.name]
    low = f.select(f.abs(t.high) < limit, t.low, 0.0)
    high = f.clamp(t.high, -limit, limit)
    n, bits = f.round_to_bits(high, 1.0)
    part = (high - n) + low  # the difference is exact
    r = part * LN2[name][0]
    rest = f.fma(part, LN2[name][1], f.fma(part, LN2[name][0], -r))
    first, second = power_factors(f, bits)
    return (1.0 + (r + f.fma(r * r, f.horner(r, EXP[name]), rest))) * first * second


def _is_odd(f: Lanes, y: Vec, is_integer: Vec) -> Vec:
    half = y * 0.5
    return is_integer & ~f.intrinsic("trunc", half).equals(half)


def pow(f: Lanes, x: Vec, y: Vec) -> Vec:
    """The power with the special cases of C99, annex F: 1 to any power, and anything to 0, is 1."""
    log = log2_pair(f, f.abs(x))
    product = y * log.high
    low = f.fma(y, log.high, -product) + y * log.low
    one = log.high.equals(0.0) | y.equals(0.0)
    result = exp2_pair(f, Pair(f.select(one, 0.0, product), f.select(one, 0.0, low)))
    is_integer = f.intrinsic("trunc", y).equals(y)
    result = f.select(_is_odd(f, y, is_integer), f.copysign(result, x), result)
    invalid = (x < 0.0) & (x > -math.inf) & ~is_integer
    return f.select(invalid, math.nan, result)
