"""sin, cos and tan.

x = n pi/2 + r - error with |r| <= pi/4 (Cody and Waite, pi/2 in three parts; the first subtraction
is exact as it is one fma, and what the second rounds off is kept), then polynomials in r and a
choice by n mod 4. Arguments beyond `LIMIT` take a slow path, see `payne_hanek`. The polynomials are
minimax fits as in `exp_log`:

    sin(r) = r + r**3 S(r**2)    cos(r) = 1 - r**2/2 + r**4 C(r**2)    tan(r) = r + r**3 T(r**2)

`error` is subtracted, not added, in such an order that -0.0 comes through as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from .branches import rarely
from .lanes import Lanes, Vec
from .payne_hanek import is_far, reduce_far

# fmt: off
HALF_PI = {  # the first part rounded down: for -0.0 the second must be positive
    "f32": (1.570796251296997, 7.549790126404332e-08, -1.7151245100058819e-15),
    "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
LIMIT = {"f32": 2.0**17, "f64": 2.0**30}  # where n is still found to within one
SIN = {  # relative error 2**-28.0 and 2**-58.0
    "f32": (-0.16666655, 0.008332189, -0.0001951819),
    "f64": (
        -0.16666666666666632, 0.008333333333322422, -0.0001984126982977069, 2.755731366873051e-06,
        -2.5050753279446368e-08, 1.5896459903983514e-10,
    ),
}
COS = {  # relative error 2**-33.0 and 2**-63.8
    "f32": (0.041666646, -0.0013887308, 2.443211e-05),
    "f64": (
        0.04166666666666659, -0.0013888888888872234, 2.4801587288353953e-05,
        -2.7557314039594246e-07, 2.0875682329762474e-09, -1.1357598986419464e-11,
    ),
}
TAN = {  # relative error 2**-29.4 and 2**-56.1
    "f32": (
        0.3333335, 0.13332671, 0.054059736, 0.021280773, 0.010843955, 7.476134e-05, 0.004385368,
    ),
    "f64": (
        0.33333333333332743, 0.1333333333341938, 0.053968253924397996, 0.021869489663355328,
        0.008863218399086839, 0.0035922959792616003, 0.001454716050982978, 0.0005952411512658117,
        0.0002218592814355526, 0.00013759903505384575, -2.7901472058827455e-05,
        9.08471954746857e-05, -4.563081505470141e-05, 2.1044964999975006e-05,
    ),
}
# fmt: on


@dataclass(frozen=True)
class Angle:
    """x = n pi/2 + r - error."""

    n: Vec  # integers, of which the lowest two bits count
    r: Vec
    error: Vec

    @property
    def is_odd(self) -> Vec:
        """Where sin and cos change places."""
        return (self.n & 1).equals(1)


def reduce_near(f: Lanes, x: Vec) -> Angle:
    """The reduction for |x| <= LIMIT."""
    first, second, third = HALF_PI[f.format.name]
    n, bits = f.round_to_bits(x, 0.6366197723675814)
    exact = f.fma(n, -first, x)
    product = n * second
    r = exact - product
    missed = f.fma(n, third, f.fma(n, second, -product))
    return Angle(bits, r, (product - (exact - r)) + missed)


def reduce(f: Lanes, x: Vec) -> Angle:
    """The reduction for any x; r is NaN for infinities and NaN."""
    limit, near = LIMIT[f.format.name], reduce_near(f, x)
    values = (near.n, near.r, near.error)
    return Angle(*rarely(f, is_far(f, x, limit), lambda: reduce_far(f, x, limit, values), values))


def sin_of(f: Lanes, angle: Angle) -> Vec:
    """sin(r - error)."""
    r = angle.r
    z = r * r
    return r - f.fma(r * z, -f.horner(z, SIN[f.format.name]), angle.error)


def cos_of(f: Lanes, angle: Angle) -> Vec:
    """cos(r - error), where the rounding error of 1 - r**2/2 is kept."""
    r = angle.r
    z = r * r
    half = 0.5 * z
    large = 1.0 - half
    small = f.fma(z * z, f.horner(z, COS[f.format.name]), r * angle.error)
    return large + (((1.0 - large) - half) + small)


def tan_of(f: Lanes, angle: Angle) -> tuple[Vec, Vec]:
    """t and e with tan(r - error) = t - e."""
    r = angle.r
    z = r * r
    cubic = (r * z) * f.horner(z, TAN[f.format.name])
    t = r + cubic
    return t, f.fma(angle.error, f.fma(t, t, 1.0), (t - r) - cubic)


def _sin_of_turns(f: Lanes, angle: Angle, odd: Vec) -> Vec:
    """sin(n pi/2 + r): cos where `odd`, and the sign by the second bit of n."""
    value = f.select(odd, cos_of(f, angle), sin_of(f, angle))
    return f.from_bits(f.bits(value) ^ ((angle.n & 2) << (f.format.bits - 2)))


def sin(f: Lanes, x: Vec) -> Vec:
    """The sine."""
    angle = reduce(f, x)
    return _sin_of_turns(f, angle, angle.is_odd)


def cos(f: Lanes, x: Vec) -> Vec:
    """The cosine: the sine of a quarter turn more."""
    angle = reduce(f, x)
    angle = Angle(angle.n + 1, angle.r, angle.error)
    return _sin_of_turns(f, angle, angle.is_odd)


def tan(f: Lanes, x: Vec) -> Vec:
    """The tangent: that of r, or -1 over it for odd n, where a Newton step takes in all errors."""
    angle = reduce(f, x)
    t, e = tan_of(f, angle)
    q = -1.0 / t
    inverse = f.fma(q, f.fma(q, t, 1.0) - q * e, q)
    return f.select(angle.is_odd, inverse, t - e)
