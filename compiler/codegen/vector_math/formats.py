"""The float formats that vector math is written for."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """An IEEE 754 binary format.

    Attributes:
        name: the dtype's spelling, `f32` or `f64`.
        bits: width of the format, and of the integer that holds its bits.
        mantissa: stored bits of the significand; also the place of the exponent field.
        code: the format's letter in `struct`.
    """

    name: str
    bits: int
    mantissa: int
    code: str

    @property
    def bias(self) -> int:
        """What the exponent field of 1.0 holds; also the largest exponent."""
        return (1 << (self.bits - self.mantissa - 2)) - 1

    @property
    def sign(self) -> int:
        """The sign bit alone."""
        return 1 << (self.bits - 1)

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return float(2.0 ** (1 - self.bias))

    @property
    def magic(self) -> float:
        """1.5 * 2**mantissa.

        A sum with it is rounded to an integer, half to even, which stands in the sum's low bits.
        """
        return 1.5 * 2.0**self.mantissa

    def to_bits(self, value: float) -> int:
        """The bits of `value` rounded to this format."""
        return int.from_bytes(struct.pack("<" + self.code, value), "little")

    def rounded(self, value: float) -> float:
        """`value` rounded to this format."""
        return float(struct.unpack("<" + self.code, struct.pack("<" + self.code, value))[0])


F32 = Format("f32", 32, 23, "f")
F64 = Format("f64", 64, 52, "d")
