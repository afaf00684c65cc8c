"""tanh and sigmoid, without forming exp(x).

With x = n ln2 + h, s = 2**n and u = tanh(h/2), exp(x) is s (1 + u) / (1 - u), so that for example

    tanh(x/2) = (exp(x) - 1) / (exp(x) + 1) = ((s - 1) + (s + 1) u) / ((s + 1) + (s - 1) u)

and tanh on a short interval is h + h**3 T(h**2), with a very short T (minimax fits as in
`exp_log`). Three roundings (numerator, denominator, quotient) would make errors of 2.5 ulp; so a
constant near the result is split off first, exactly, and the quotient is only a small correction.
"""

from __future__ import annotations

from .exp_log import LN2, LOG2_E, power_factors
from .lanes import Lanes, Vec

# fmt: off
TANH = {  # relative error of tanh(h) 2**-31.1 and 2**-56.7 on |h| <= ln2/2
    "f32": (-0.33333322, 0.13332422, -0.053733714, 0.01947197),
    "f64": (
        -0.3333333333333262, 0.13333333333140776, -0.05396825379026667, 0.02186948057014523,
        -0.008863037854416443, 0.0035892578396329463, -0.00143145574464926, 0.0004763196134325943,
    ),
}
TANH_HALF = {  # relative error of 2 tanh(h/2) 2**-32.5 and 2**-57.7 on |h| <= ln2/2
    "f32": (-0.083333306, 0.0083319675, -0.00082371774),
    "f64": (
        -0.08333333333333116, 0.008333333332983403, -0.0008432539494442348, 8.542722427895991e-05,
        -8.649673371428227e-06, 8.408951070965139e-07,
    ),
}
# fmt: on
TANH_ONE = {"f32": 9.02, "f64": 19.1}  # from here tanh rounds to 1
SIGMOID_ZERO = {"f32": 104.0, "f64": 746.0}  # below minus this sigmoid rounds to 0


def tanh(f: Lanes, x: Vec) -> Vec:
    """The hyperbolic tangent.

    |x| = n ln2/2 + h, where n is rounded down, and u = tanh(h). With m = 2**-n the constant is
    c = 1 - m and the rest (k u - c) / d, where d is the denominator above and k = 3 - m: the
    numerator above less c d. For n = 0 the result is u.
    """
    half, one = LN2[f.format.name][0] / 2, f.format.to_bits(1.0)
    a = f.at_most(f.abs(x), TANH_ONE[f.format.name])
    n, bits = f.round_to_bits(f.fma(a, 2 * LOG2_E, -0.5), 1.0)
    h = f.fma(n, -half, a)  # n is small: one part of ln2 is enough
    z = h * h
    u = f.fma(z * h, f.horner(z, TANH[f.format.name]), h)
    exponent = bits << f.format.mantissa
    s, m = f.from_bits(exponent + one), f.from_bits(one - exponent)
    c = 1.0 - m
    return f.copysign(c + f.fma(3.0 - m, u, -c) / f.fma(s - 1.0, u, s + 1.0), x)


def sigmoid(f: Lanes, x: Vec) -> Vec:
    """1 / (1 + exp(-x)).

    |x| = -n ln2 + h. With t = 2**n and v = 2 tanh(h/2), sigmoid(-|x|) is t q where
    q = (2 - v) / d and d = 2 (1 + t) + (1 - t) v. The constant is c = 1 - t/2 and the rest
    (w - k v) / d, where w = t**2 - t and k = 2 - t + w/2. The product with t is taken in two steps,
    for the sake of subnormal results. For x > 0 the result is one minus that.
    """
    high, low = LN2[f.format.name]
    a = f.at_most(f.abs(x), SIGMOID_ZERO[f.format.name])
    n, bits = f.round_to_bits(a, -LOG2_E)
    h = f.fma(n, low, f.fma(n, high, a))
    z = h * h
    v = f.fma(z * h, f.horner(z, TANH_HALF[f.format.name]), h)
    first, second = power_factors(f, bits)
    t = first * second
    w = f.fma(t, t, -t)
    k = f.fma(w, 0.5, 2.0 - t)
    q = f.fma(t, -0.5, 1.0) + f.fma(-k, v, w) / f.fma(1.0 - t, v, 2.0 + (t + t))
    tail = q * first * second
    return f.select(f.bits(x) < 0, tail, 1.0 - tail)
