"""Normal numbers from uniform ones to PyTorch's last bit: the Box-Muller transform.

PyTorch fills float32 tensors with a vectorised transform whose logarithm, sine and cosine are the
float32 polynomials of the Cephes library (S. Moshier), contracted to fused multiply-adds. They are
written here once, over anything that understands Python's operators: NumPy arrays run them through
`NumpyLanes`, generated code through its own `Lanes`, so that both give the same bits. The float64
transform takes its functions from the C library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Lane = Any  # float32 or int32 lanes; they understand + - * & | ^ << >> and <

BLOCK = 16
"""Numbers that PyTorch transforms at a time: eight radii, then eight angles."""
TWO_PI = 2.0 * math.pi

_CHUNK = 1 << 11  # pairs that are transformed together: temporaries stay in the cache


def _singles(*values: float) -> tuple[float, ...]:
    """The nearest float32 values."""
    return tuple(np.array(values, np.float32).tolist())


_LOG = _singles(
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_LN2 = _singles(0.693359375, -2.12194440e-4)  # high part, exact in few bits, and the rest
_SQRT_HALF = 0.707106781186547524
_SIN = _singles(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = _singles(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_FOUR_OVER_PI = 1.27323954473516
_QUARTER_PI = _singles(0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)  # its summands


class Lanes(Protocol):
    """What the float32 functions need beyond operators."""

    def fma(self, a: Lane, b: Lane, c: Lane) -> Lane:
        """a * b + c, rounded once; b and c may be Python floats that float32 can hold."""

    def sqrt(self, a: Lane) -> Lane:
        """The square root."""

    def select(self, mask: Lane, yes: Lane, no: Lane) -> Lane:
        """`yes` where the mask holds, else `no`."""

    def bits(self, a: Lane) -> Lane:
        """The bits of floats, as int32."""

    def from_bits(self, i: Lane) -> Lane:
        """The floats that have these bits."""

    def to_int(self, a: Lane) -> Lane:
        """Floats cut to int32."""

    def to_float(self, i: Lane) -> Lane:
        """The floats equal to int32s."""


def log(m: Lanes, x: Lane) -> Lane:
    """The natural logarithm of normal positive floats (Cephes' `logf`)."""
    bits = m.bits(x)
    exponent = m.to_float((bits >> 23) - 126)
    x = m.from_bits((bits & 0x007FFFFF) | 0x3F000000)  # mantissa in [0.5, 1)
    small = x < _SQRT_HALF
    exponent = m.select(small, exponent - 1.0, exponent)
    x = m.select(small, (x - 1.0) + x, x - 1.0)
    square = x * x
    y = m.fma(x, _LOG[0], _LOG[1])
    for coefficient in _LOG[2:]:
        y = m.fma(y, x, coefficient)
    y = m.fma(y * x, square, exponent * _LN2[1])
    y = y - square * 0.5  # this product and the next are exact
    return (x + y) + exponent * _LN2[0]


def sine_cosine(m: Lanes, x: Lane) -> tuple[Lane, Lane]:
    """Sine and cosine of floats in [0, 2 pi] (Cephes' `sinf`, `cosf`)."""
    octant = (m.to_int(x * _FOUR_OVER_PI) + 1) & ~1
    y = m.to_float(octant)
    x = (x - y * _QUARTER_PI[0]) - y * _QUARTER_PI[1]  # both products are exact
    x = m.fma(y, -_QUARTER_PI[2], x)
    sine, cosine = _sine_cosine_near_zero(m, x)
    direct = (octant & 2) < 2  # an even number of quarter turns was taken off
    sine_sign = (octant & 4) << 29
    cosine_sign = (((octant - 2) & 4) ^ 4) << 29
    return (
        m.from_bits(m.bits(m.select(direct, sine, cosine)) ^ sine_sign),
        m.from_bits(m.bits(m.select(direct, cosine, sine)) ^ cosine_sign),
    )


def _sine_cosine_near_zero(m: Lanes, x: Lane) -> tuple[Lane, Lane]:
    """Both functions on [-pi/4, pi/4]."""
    square = x * x
    sine = m.fma(m.fma(square, _SIN[0], _SIN[1]), square, _SIN[2])
    cosine = m.fma(m.fma(square, _COS[0], _COS[1]), square, _COS[2])
    return (
        m.fma(sine * square, x, x),
        m.fma(cosine * square, square, square * -0.5) + 1.0,
    )


def normal_pair(m: Lanes, first: Lane, second: Lane) -> tuple[Lane, Lane]:
    """Two independent standard normals from two uniforms in [0, 1), float32."""
    radius = m.sqrt(log(m, 1.0 - first) * -2.0)
    sine, cosine = sine_cosine(m, second * TWO_PI)
    return radius * cosine, radius * sine


class NumpyLanes:
    """`Lanes` on float32 arrays; Python scalars take the arrays' type."""

    def fma(self, a: Floats, b: Floats | float, c: Floats | float) -> Floats:
        """The sum in float64, where the product is exact, rounded to float32.

        Rounding twice can differ from rounding once. It does not for any of the 2**24 uniforms
        that `log` and `sine_cosine` are given here: a test goes through them all.
        """
        total = a.astype(np.float64)
        total *= b
        total += c
        return total.astype(np.float32)

    def sqrt(self, a: Floats) -> Floats:
        """The square root."""
        return np.sqrt(a)

    def select(self, mask: npt.NDArray[np.bool_], yes: Floats, no: Floats) -> Floats:
        """`yes` where the mask holds, else `no`."""
        return np.where(mask, yes, no)

    def bits(self, a: Floats) -> Ints:
        """The bits of floats."""
        return a.view(np.int32)

    def from_bits(self, i: Ints) -> Floats:
        """The floats that have these bits."""
        return i.view(np.float32)

    def to_int(self, a: Floats) -> Ints:
        """Floats cut to integers."""
        return a.astype(np.int32)

    def to_float(self, i: Ints) -> Floats:
        """Integers as floats."""
        return i.astype(np.float32)


def transform_f32(uniforms: Floats, mean: float, std: float) -> Floats:
    """Normal numbers from uniform ones in blocks of 16, as PyTorch orders them; shape (16 k,)."""
    pairs = uniforms.reshape(-1, 2, BLOCK // 2)
    result = np.empty_like(pairs)
    mean, std = _singles(mean, std)
    lanes = NumpyLanes()
    for start in range(0, len(pairs), _CHUNK // 8):
        rows = slice(start, start + _CHUNK // 8)
        normals = normal_pair(lanes, pairs[rows, 0], pairs[rows, 1])
        result[rows, 0], result[rows, 1] = (fma_f32(z, std, mean) for z in normals)
    return result.reshape(-1)


def transform_f64(uniforms: Doubles, mean: float, std: float) -> Doubles:
    """`transform_f32` in float64, with the C library's functions rather than NumPy's own."""
    pairs = uniforms.reshape(-1, 2, BLOCK // 2)
    radius = np.sqrt(-2.0 * _libm(math.log, 1.0 - pairs[:, 0]))
    angle = TWO_PI * pairs[:, 1]
    standard = np.stack((radius * _libm(math.cos, angle), radius * _libm(math.sin, angle)), axis=1)
    return fma_f64(standard, std, mean).reshape(-1)


def _libm(function: Callable[[float], float], x: Doubles) -> Doubles:
    """`function` of each element; NumPy's vectorised ones differ from libm's in the last bit."""
    return np.fromiter(map(function, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def fma_f32(a: Floats, b: Floats | float, c: Floats | float) -> Floats:
    """a * b + c rounded once to float32 (a result below 2**-126 may be rounded twice).

    Python floats among the operands are ones that float32 can hold.
    """
    if isinstance(c, float) and c == 0.0:
        return a * b + 0.0
    product = np.multiply(a, b, dtype=np.float64)
    total = np.add(product, c, dtype=np.float64)
    if _half_way(total).any():
        total = _sum_to_odd(product, np.asarray(c, np.float64))
    return total.astype(np.float32)


def _half_way(x: Doubles) -> npt.NDArray[np.bool_]:
    """Whether numbers lie half-way between two neighbouring float32s (of normal size)."""
    result: npt.NDArray[np.bool_] = (x.view(np.uint64) & 0x1FFFFFFF) == 0x10000000
    return result


def fma_f64(a: Doubles, b: float, c: float) -> Doubles:
    """a * b + c rounded once to float64, for operands whose exponents are not extreme.

    Source: S. Boldo, G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms
    using rounding to odd", IEEE Transactions on Computers 57 (2008).
    """
    if c == 0.0:
        return a * b + 0.0
    product, product_rest = _two_product(a, np.float64(b))
    high, low = _two_sum(product_rest, np.float64(c))
    total, rest = _two_sum(product, high)
    return total + _sum_to_odd(low, rest)


def _two_sum(a: Doubles, b: Doubles | np.float64) -> tuple[Doubles, Doubles]:
    """The rounded sum and its exact error (D. Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Doubles, b: np.float64) -> tuple[Doubles, Doubles]:
    """The rounded product and its exact error (T. Dekker)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _split(a), _split(np.asarray(b))
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _split(a: Doubles) -> tuple[Doubles, Doubles]:
    """`a` as a sum of two numbers of at most 26 bits each."""
    scaled = a * 134217729.0  # 2**27 + 1
    high = scaled - (scaled - a)
    return high, a - high


def _sum_to_odd(a: Doubles, b: Doubles) -> Doubles:
    """a + b rounded to odd: an inexact sum takes the neighbour whose last bit is set."""
    total, error = _two_sum(a, b)
    even = (total.view(np.uint64) & 1) == 0
    toward = np.nextafter(total, np.copysign(np.inf, error))
    return np.where(even & (error != 0), toward, total)
