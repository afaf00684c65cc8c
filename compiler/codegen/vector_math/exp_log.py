"""exp, expm1, log and log1p.

exp: x = n ln2 + r with n an integer and |r| <= ln2/2, then exp(x) = 2**n (1 + r + r**2 P(r)). ln2
is taken in two parts (Cody and Waite); the first subtraction is exact, as it is one fma.

log: x = 2**n (1 + t) with sqrt(1/2) <= 1 + t < sqrt(2), then log(x) = n ln2 + log(1 + t). With
s = t / (2 + t), h = t**2/2 and z = s**2, log(1 + t) = 2 atanh(s) = t - (h - s (h + z Q(z))), which
keeps the leading t unrounded (the form of FreeBSD's msun).

P and Q are minimax fits: Lawson's algorithm in 45 digits, with the coefficients rounded to the
format one after the other, lowest first, and the others fitted again.
"""

from __future__ import annotations

import math

from .lanes import Lanes, Vec

LN2 = {"f32": (0.6931472, -1.9046543e-09), "f64": (0.6931471805599453, 2.3190468138462996e-17)}
LOG2_E = 1.4426950408889634
# fmt: off
EXP = {  # relative error of exp 2**-28.2 and 2**-57.9
    "f32": (0.49999994, 0.1666652, 0.041668244, 0.00836884, 0.0013822973),
    "f64": (
        0.5000000000000011, 0.16666666666666433, 0.04166666666652631, 0.00833333333348208,
        0.001388888894464009, 0.0001984126953318746, 2.480149203806182e-05, 2.7557562364078095e-06,
        2.763063438390932e-07, 2.500782189502884e-08,
    ),
}
LOG = {  # relative error of log(1 + t) 2**-30.2 and 2**-59.5
    "f32": (0.66666776, 0.39977574, 0.29871237),
    "f64": (
        0.6666666666666735, 0.3999999999940985, 0.28571428743496347, 0.22222198454917044,
        0.18183570725412634, 0.15313880160570703, 0.14797721859186308,
    ),
}
# fmt: on
EXP_RANGE = {"f32": (-104.0, 89.0), "f64": (-746.0, 710.0)}  # beyond it exp is 0 or inf


def exp_reduced(f: Lanes, x: Vec) -> tuple[Vec, Vec, Vec, Vec]:
    """n (in the low bits of integers), r, its rounding error and q = r**2 P(r).

    exp(x) = 2**n (1 + r + error + q), for |x| < 2**(mantissa - 2).
    """
    high, low = LN2[f.format.name]
    n, bits = f.round_to_bits(x, LOG2_E)
    exact = f.fma(n, -high, x)
    r = f.fma(n, -low, exact)
    error = f.fma(n, -low, exact - r)
    return bits, r, error, r * r * f.horner(r, EXP[f.format.name])


def power_factors(f: Lanes, bits: Vec) -> tuple[Vec, Vec]:
    """Two powers of two whose product is 2**n, for results from subnormal to infinite.

    Multiplied by one after the other, a result is rounded once: when it gets subnormal.
    """
    fields = bits - (f.format.to_bits(f.format.magic) - 2 * f.format.bias)  # n + 2 bias > 0
    first = fields >> 1
    place = f.format.mantissa
    return f.from_bits(first << place), f.from_bits((fields - first) << place)


def exp(f: Lanes, x: Vec) -> Vec:
    """e**x."""
    bits, r, _, q = exp_reduced(f, f.clamp(x, *EXP_RANGE[f.format.name]))
    first, second = power_factors(f, bits)
    return (1.0 + (r + q)) * first * second


def expm1(f: Lanes, x: Vec) -> Vec:
    """e**x - 1.

    With h = 2**(n - 1), which stays finite, it is 2 ((h - 1/2) + h r + h (q + error)). What the
    first sum rounds off is kept too, as its terms nearly cancel for some n.
    """
    low, high = -(f.format.mantissa + 4.0), EXP_RANGE[f.format.name][1]
    bits, r, error, q = exp_reduced(f, f.clamp(x, low, high))
    h = f.power_of_two(bits - 1)
    constant = h - 0.5
    total = f.fma(h, r, constant)
    rest = f.fma(h, r, constant - total)
    result = 2.0 * (total + f.fma(h, q + error, rest))
    return f.select(f.abs(x) < 2.0 ** -(f.format.mantissa + 3), x, result)  # also keeps -0.0


def split(f: Lanes, x: Vec) -> tuple[Vec, Vec]:
    """n + bias and m, with x = 2**n m and sqrt(1/2) <= m < sqrt(2), for positive normal x."""
    low, one = f.format.to_bits(math.sqrt(0.5)), f.format.to_bits(1.0)
    shifted = f.bits(x) + (one - low)
    m = f.from_bits((shifted & ((1 << f.format.mantissa) - 1)) + low)
    return shifted >> f.format.mantissa, m


def small_to_float(f: Lanes, n: Vec) -> Vec:
    """Integers in [0, 2**mantissa) as floats; AVX2 has no such conversion for 64 bits."""
    offset = 2.0**f.format.mantissa
    return f.from_bits(n | f.format.to_bits(offset)) - offset


def log_sum(f: Lanes, n: Vec, t: Vec) -> Vec:
    """n ln2 + log(1 + t)."""
    high, low = LN2[f.format.name]
    s = t / (t + 2.0)
    z, h = s * s, 0.5 * t * t
    q = f.fma(z, f.horner(z, LOG[f.format.name]), h)
    return f.fma(n, high, t - (h - f.fma(s, q, n * low)))


def log_edges(f: Lanes, x: Vec, zero: float, result: Vec) -> Vec:
    """`result`, but -inf at `zero`, NaN below, and inf and NaN as they are."""
    result = f.select(x > zero, result, f.select(x.equals(zero), -math.inf, math.nan))
    return f.select(x < math.inf, result, x)


def log(f: Lanes, x: Vec) -> Vec:
    """The natural logarithm; subnormal numbers are scaled up first."""
    shift, small = f.format.mantissa + 1, x < f.format.tiny
    n, m = split(f, f.select(small, x * 2.0**shift, x))
    bias = f.select(small, f.constant(f.format.bias + shift), float(f.format.bias))
    return log_edges(f, x, 0.0, log_sum(f, small_to_float(f, n) - bias, m - 1.0))


def log1p(f: Lanes, x: Vec) -> Vec:
    """log(1 + x), where t = (1 + x) / 2**n - 1 is x / 2**n + (1 / 2**n - 1), rounded once."""
    n, _ = split(f, 1.0 + x)
    place = f.format.mantissa
    steps = (n - f.format.bias) << place
    scaled = f.from_bits(f.bits(x) - steps)
    quarter = f.from_bits(f.format.to_bits(4.0) - steps)  # 4 / 2**n: 1 / 2**n may be subnormal
    unit = f.fma(quarter, 0.25, -1.0)
    t = unit + f.select((n - f.format.bias).equals(0), x, scaled)
    result = log_sum(f, small_to_float(f, n) - float(f.format.bias), t)
    return f.select(x.equals(0.0), x, log_edges(f, x, -1.0, result))
