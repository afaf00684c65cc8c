"""A notation for vector arithmetic: LLVM values with Python's operators, on one float format.

A formula over `Lanes` and `Vec` reads as algebra and emits one LLVM instruction an operator:

    z = r * r
    return 1.0 + (r + z * f.horner(r, COEFFICIENTS))

It holds for any number of lanes and for scalars, and gives the same bits in each lane whatever that
number is: nothing is contracted, reordered or passed between lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from llvmlite import ir

from .formats import F32, Format


class _Splat(ir.Constant):  # type: ignore[misc]  # llvmlite has no type stubs
    """A vector constant of equal elements, in LLVM's short spelling: less to write and parse."""

    def _get_reference(self) -> str:
        element = self.constant[0]
        return f"splat ({element.type} {element.get_reference()})"


class Vec:
    """An LLVM value of floats, integers or truth values (`kind`), scalar or vector.

    Numbers mix in freely and become constants. Integers are signed in comparisons; `>>` shifts in
    zeros. Comparisons of floats are ordered: false if an operand is NaN.
    """

    __slots__ = ("ir", "kind", "lanes")

    def __init__(self, lanes: Lanes, kind: str, value: ir.Value) -> None:
        self.lanes, self.kind, self.ir = lanes, kind, value

    def _binary(self, other: Operand, **opcode: str) -> Vec:
        right = self.lanes.lift(other, self.kind)
        emit = getattr(self.lanes.builder, opcode[self.kind])
        return Vec(self.lanes, self.kind, emit(self.ir, right.ir))

    def _compare(self, sign: str, other: Operand) -> Vec:
        right, builder = self.lanes.lift(other, self.kind), self.lanes.builder
        emit = builder.fcmp_ordered if self.kind == "float" else builder.icmp_signed
        return Vec(self.lanes, "mask", emit(sign, self.ir, right.ir))

    def __add__(self, other: Operand) -> Vec:
        return self._binary(other, float="fadd", int="add")

    def __radd__(self, other: float) -> Vec:
        return self.lanes.lift(other, self.kind) + self

    def __sub__(self, other: Operand) -> Vec:
        return self._binary(other, float="fsub", int="sub")

    def __rsub__(self, other: float) -> Vec:
        return self.lanes.lift(other, self.kind) - self

    def __mul__(self, other: Operand) -> Vec:
        return self._binary(other, float="fmul", int="mul")

    def __rmul__(self, other: float) -> Vec:
        return self.lanes.lift(other, self.kind) * self

    def __truediv__(self, other: Operand) -> Vec:
        return self._binary(other, float="fdiv")

    def __rtruediv__(self, other: float) -> Vec:
        return self.lanes.lift(other, self.kind) / self

    def __neg__(self) -> Vec:
        return Vec(self.lanes, "float", self.lanes.builder.fneg(self.ir))

    def __and__(self, other: Operand) -> Vec:
        return self._binary(other, int="and_", mask="and_")

    def __or__(self, other: Operand) -> Vec:
        return self._binary(other, int="or_", mask="or_")

    def __xor__(self, other: Operand) -> Vec:
        return self._binary(other, int="xor", mask="xor")

    def __invert__(self) -> Vec:
        return self ^ -1

    def __lshift__(self, count: Operand) -> Vec:
        return self._binary(count, int="shl")

    def __rshift__(self, count: Operand) -> Vec:
        return self._binary(count, int="lshr")

    def __lt__(self, other: Operand) -> Vec:
        return self._compare("<", other)

    def __le__(self, other: Operand) -> Vec:
        return self._compare("<=", other)

    def __gt__(self, other: Operand) -> Vec:
        return self._compare(">", other)

    def __ge__(self, other: Operand) -> Vec:
        return self._compare(">=", other)

    def equals(self, other: Operand) -> Vec:
        """Where the two are equal (`==` stays Python's)."""
        return self._compare("==", other)

    def is_nan(self) -> Vec:
        """Where a float is not a number."""
        return Vec(self.lanes, "mask", self.lanes.builder.fcmp_unordered("uno", self.ir, self.ir))


Operand: TypeAlias = "Vec | float"


class Lanes:
    """Emits arithmetic on one float format at one width.

    Attributes:
        builder: where instructions go.
        format: the float format.
        width: number of lanes; 0 means scalars.
    """

    def __init__(self, builder: ir.IRBuilder, format: Format, width: int) -> None:
        self.builder, self.format, self.width = builder, format, width
        elements = {
            "float": ir.FloatType() if format is F32 else ir.DoubleType(),
            "int": ir.IntType(format.bits),
            "mask": ir.IntType(1),
        }
        self.types = {kind: ir.VectorType(t, width) if width else t for kind, t in elements.items()}
        self._constants: dict[tuple[str, str], Vec] = {}

    @property
    def suffix(self) -> str:
        """LLVM's spelling of the float type in the names of intrinsics: `v16f32`, `f64`."""
        return f"v{self.width}{self.format.name}" if self.width else self.format.name

    def wrap(self, value: ir.Value, kind: str = "float") -> Vec:
        """An LLVM value in this notation."""
        return Vec(self, kind, value)

    def lift(self, value: Operand, kind: str) -> Vec:
        """`value` itself, or the constant of that kind for a number."""
        if isinstance(value, Vec):
            return value
        key = (kind, repr(value))
        if key not in self._constants:
            self._constants[key] = self._constant(value, kind)
        return self._constants[key]

    def _constant(self, value: float, kind: str) -> Vec:
        number = self.format.rounded(value) if kind == "float" else int(value)
        make = _Splat if self.width else ir.Constant
        return Vec(self, kind, make(self.types[kind], number))

    def constant(self, value: float) -> Vec:
        """A float constant."""
        return self.lift(value, "float")

    def intrinsic(self, name: str, *args: Operand) -> Vec:
        """Call `llvm.<name>`, which maps floats to a float, lane by lane."""
        full, module = f"llvm.{name}.{self.suffix}", self.builder.module
        t = self.types["float"]
        if full not in module.globals:
            ir.Function(module, ir.FunctionType(t, [t] * len(args)), full)
        values = [self.lift(a, "float").ir for a in args]
        return self.wrap(self.builder.call(module.globals[full], values))

    def fma(self, a: Operand, b: Operand, c: Operand) -> Vec:
        """a * b + c, rounded once."""
        return self.intrinsic("fma", a, b, c)

    def abs(self, x: Vec) -> Vec:
        """The magnitude."""
        return self.intrinsic("fabs", x)

    def copysign(self, magnitude: Operand, sign: Vec) -> Vec:
        """The magnitude of one with the sign of the other."""
        return self.intrinsic("copysign", magnitude, sign)

    def select(self, mask: Vec, yes: Operand, no: Operand) -> Vec:
        """`yes` where the mask holds, else `no`; two numbers are taken as floats."""
        kind = yes.kind if isinstance(yes, Vec) else no.kind if isinstance(no, Vec) else "float"
        a, b = self.lift(yes, kind), self.lift(no, kind)
        return Vec(self, kind, self.builder.select(mask.ir, a.ir, b.ir))

    def clamp(self, x: Vec, low: float, high: float) -> Vec:
        """`x` held between two bounds; NaN stays NaN."""
        x = self.select(x < low, low, x)
        return self.select(x > high, high, x)

    def at_most(self, x: Vec, high: float) -> Vec:
        """`x`, but no more than `high`; NaN stays NaN."""
        return self.select(x > high, high, x)

    def bits(self, x: Vec) -> Vec:
        """The bits of floats, as integers."""
        return Vec(self, "int", self.builder.bitcast(x.ir, self.types["int"]))

    def from_bits(self, bits: Vec) -> Vec:
        """The floats that have these bits."""
        return Vec(self, "float", self.builder.bitcast(bits.ir, self.types["float"]))

    def round_to_bits(self, x: Vec, factor: float) -> tuple[Vec, Vec]:
        """x * factor rounded to an integer: as floats, and in the low bits of integers.

        The product is less than 2**(mantissa - 1).
        """
        shifted = self.fma(x, factor, self.format.magic)
        return shifted - self.format.magic, self.bits(shifted)

    def power_of_two(self, bits: Vec) -> Vec:
        """2**n for n in the low bits of integers, within the normal range."""
        return self.from_bits((bits + self.format.bias) << self.format.mantissa)

    def horner(self, x: Vec, coefficients: Sequence[Operand]) -> Vec:
        """c0 + c1 x + c2 x**2 + ..., from the highest power down, one fma each."""
        result: Operand = coefficients[-1]
        for c in reversed(coefficients[:-1]):
            result = self.fma(result, x, c)
        return self.lift(result, "float")
