"""LLVM values of generated code: types of dtypes, constants, and vectors made of lanes.

A width of 0 means a scalar.  A value that is the same in all lanes stays a scalar until an
operation with a vector spreads it, so that nothing uniform is computed sixteen times.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from ..dtypes import DType

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()
VOID = ir.VoidType()

_FLOATS = {"f16": F16, "f32": F32, "f64": F64}


def register_type(dtype: DType) -> ir.Type:
    """How a number is held in a register; a bool is one bit."""
    if dtype.kind == "bool":
        return I1
    return _FLOATS.get(dtype.name) or ir.IntType(dtype.bits)


def memory_type(dtype: DType) -> ir.Type:
    """How a number lies in memory; a bool is a byte."""
    return I8 if dtype.kind == "bool" else register_type(dtype)


def vector(element: ir.Type, width: int) -> ir.Type:
    """`width` lanes of a type; the type itself for width 0."""
    return ir.VectorType(element, width) if width else element


def width_of(value: ir.Value) -> int:
    """Lanes of a value, 0 for a scalar."""
    return int(value.type.count) if isinstance(value.type, ir.VectorType) else 0


def element_type(value: ir.Value) -> ir.Type:
    """The type of a scalar, or of a vector's lanes."""
    return value.type.element if isinstance(value.type, ir.VectorType) else value.type


class _Splat(ir.Constant):  # type: ignore[misc]  # llvmlite has no type stubs
    """A vector constant with equal lanes, in LLVM's short spelling."""

    def _get_reference(self) -> str:
        first = self.constant[0]
        return f"splat ({first.type} {first.get_reference()})"


class _Poison(ir.Constant):  # type: ignore[misc]  # llvmlite has no type stubs
    """What may be anything: llvmlite knows only its elder kin, `undef`."""

    def __init__(self, of: ir.Type) -> None:
        self.type, self.constant = of, None

    def _get_reference(self) -> str:
        return "poison"


def constant(element: ir.Type, value: bool | float, width: int = 0) -> ir.Constant:
    """A number, the same in each lane."""
    return _Splat(vector(element, width), value) if width else ir.Constant(element, value)


def index(value: int) -> ir.Constant:
    """A position or size, as i64."""
    return ir.Constant(I64, value)


def poison(of: ir.Type) -> ir.Constant:
    """A value that nobody looks at."""
    return _Poison(of)


def lane_numbers(element: ir.Type, width: int) -> ir.Constant:
    """0, 1, 2, ... in the lanes of an integer vector."""
    return ir.Constant(ir.VectorType(element, width), list(range(width)))


def spread(builder: ir.IRBuilder, value: ir.Value, width: int) -> ir.Value:
    """A scalar in each of `width` lanes; a vector or width 0 is left as it is."""
    if not width or width_of(value):
        return value
    if isinstance(value, ir.Constant):
        return constant(value.type, value.constant, width)
    kind = ir.VectorType(value.type, width)
    first = builder.insert_element(poison(kind), value, ir.Constant(I32, 0))
    return shuffle(builder, first, [0] * width)


def shuffle(
    builder: ir.IRBuilder, value: ir.Value, lanes: Sequence[int], other: ir.Value | None = None
) -> ir.Value:
    """The lanes of `value` (and, counted on, of `other`) at the given places."""
    kind = ir.VectorType(I32, len(lanes))
    places = ir.Constant(kind, list(lanes)) if any(lanes) else _Splat(kind, 0)
    return builder.shuffle_vector(value, poison(value.type) if other is None else other, places)


def halves(builder: ir.IRBuilder, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The lower and the upper half of the lanes; scalars from two lanes."""
    width = width_of(value)
    if width == 2:
        low, high = (builder.extract_element(value, ir.Constant(I32, i)) for i in (0, 1))
        return low, high
    middle = width // 2
    return shuffle(builder, value, range(middle)), shuffle(builder, value, range(middle, width))


def fixed_mask(count: int, width: int) -> ir.Constant | None:
    """True in the first `count` of `width` lanes; None if that is all of them."""
    if count >= width:
        return None
    return ir.Constant(ir.VectorType(I1, width), [lane < count for lane in range(width)])


def first_lanes(builder: ir.IRBuilder, count: ir.Value, width: int) -> ir.Value:
    """True in the first `count` lanes; `count` is an i64 between 0 and 2**31."""
    narrow = spread(builder, builder.trunc(count, I32), width)
    return builder.icmp_signed("<", lane_numbers(I32, width), narrow)


def type_suffix(of: ir.Type) -> str:
    """The spelling of a type in the names of intrinsics: `v16f32`, `i64`, `p0`."""
    if isinstance(of, ir.VectorType):
        return f"v{of.count}{type_suffix(of.element)}"
    return str(of.intrinsic_name)


def intrinsic(
    builder: ir.IRBuilder,
    name: str,
    result: ir.Type,
    operands: Sequence[ir.Value],
    *overloads: ir.Type,
) -> ir.Value:
    """Calls `llvm.<name>`, overloaded on the given types (on the result's if none are given)."""
    suffixes = [type_suffix(t) for t in overloads or (result,)]
    full, module = ".".join(["llvm", name, *suffixes]), builder.module
    if full not in module.globals:
        ir.Function(module, ir.FunctionType(result, [o.type for o in operands]), full)
    return builder.call(module.globals[full], operands)


def addresses(
    builder: ir.IRBuilder, base: ir.Value, positions: ir.Value, element: ir.Type
) -> ir.Value:
    """An address for each lane."""
    result = builder.gep(base, [positions], source_etype=element)
    result.type = vector(POINTER, width_of(positions))  # llvmlite takes each address for a scalar
    return result


def gather(
    builder: ir.IRBuilder, of: ir.Type, places: ir.Value, align: int, mask: ir.Value
) -> ir.Value:
    """Elements from an address for each lane; 0 where the mask is not set."""
    width = width_of(places)
    kind = ir.VectorType(of, width)
    operands = [places, ir.Constant(I32, align), mask, constant(of, 0, width)]
    return intrinsic(builder, "masked.gather", kind, operands, kind, places.type)
