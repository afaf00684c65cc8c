"""erf, the error function.

Near zero erf(x) = x + x P(x**2). Further out it is 1 - erfc(|x|), where erfc is so small that a
modest relative accuracy is enough: in f32 a polynomial, in f64 exp(-Q(|x|)) with a polynomial Q for
-log erfc. All are minimax fits as in `exp_log`, P and erfc for the error relative to erf.
"""

from __future__ import annotations

from .exp_log import exp_reduced
from .formats import F32
from .lanes import Lanes, Vec

# fmt: off
NEAR_CENTRE = 1.26171875  # P in f32 is in powers of x**2 less this, where P is close to a float
FAR_CENTRE = 2.75  # and -erfc in f32 in powers of |x| less this
NEAR = {  # relative error 2**-30.5 on |x| <= 1.65, 2**-56.1 on |x| <= 1
    "f32": (
        -0.20959337, -0.18660536, 0.04761292, -0.01034369, 0.0018974522, -0.00029824904,
        4.0846993e-05, -4.98812e-06, 5.511283e-07, -4.3095287e-08, 0.0, 0.0,
    ),
    "f64": (
        0.12837916709551256, -0.37612638903183376, 0.11283791670939436, -0.026866170642465787,
        0.00522397760146521, -0.000854832572932824, 0.00012055288135426254,
        -1.4924616140819924e-05, 1.6446030601536492e-06, -1.619843472003875e-07,
        1.3678947902001525e-08, -7.722991885230592e-10,
    ),
}
FAR = {  # absolute error of erfc 2**-26.9 and 2**-56.9
    "f32": (
        -0.00010061422, 0.0005862541, -0.0016126923, 0.0027608601, -0.0032542648, 0.0027527784,
        -0.0016697692, 0.0006549249, -7.134374e-05, -8.4324034e-05, 4.4469027e-05, -6.384466e-06,
    ),
    "f64": (
        5.133213521093414e-07, 1.128373990979072, 0.6366440582036607, 0.1027022817123563,
        -0.018988027551856676, -0.0004135554867658552, 0.001918964271196586,
        -0.0007730572338197438, 0.00013656255402170862, 1.951994543481263e-05,
        -2.2531865152335475e-05, 8.578510999995835e-06, -2.114744912624773e-06,
        3.695572308205629e-07, -4.593235951774537e-08, 3.889957417353669e-09,
        -2.0203243972867035e-10, 4.865088741826167e-12,
    ),
}
# fmt: on


def _erf_f32(f: Lanes, x: Vec) -> Vec:
    """Either case is b + b p(v); which b, v and coefficients, is chosen for each lane."""
    a = f.at_most(f.abs(x), 3.95)  # from here erf rounds to 1
    far = a > 1.65
    v = f.select(far, a - FAR_CENTRE, f.fma(a, a, -NEAR_CENTRE))
    b = f.select(far, 1.0, a)
    p = f.horner(v, [f.select(far, c, d) for c, d in zip(FAR["f32"], NEAR["f32"], strict=True)])
    return f.copysign(f.fma(b, p, b), x)


def _erf_f64(f: Lanes, x: Vec) -> Vec:
    a = f.at_most(f.abs(x), 5.95)  # from here erf rounds to 1
    z = a * a
    near = f.fma(a, f.horner(z, NEAR["f64"]), a)
    bits, r, _, q = exp_reduced(f, -f.horner(a, FAR["f64"]))
    far = 1.0 - f.power_of_two(bits) * (1.0 + (r + q))
    return f.copysign(f.select(a > 1.0, far, near), x)


def erf(f: Lanes, x: Vec) -> Vec:
    """The error function, 2/sqrt(pi) times the integral of exp(-t**2) from 0 to x."""
    return _erf_f32(f, x) if f.format is F32 else _erf_f64(f, x)
