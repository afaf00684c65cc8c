"""Arguments of sin, cos and tan of any size, after Payne and Hanek.

x = M 2**E with an integer M of 53 bits. Those binary digits of 2/pi that make multiples of 4 with
M 2**E do not matter. M times the 192 digits after them, modulo 2**192, is x 2/pi modulo 4; its
upper 128 bits are kept: two for n and the others for r, of which even the worst double leaves over
60 that are significant.

It is scalar code, called for those lanes that need it and kept apart from the kernels' loops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llvmlite import ir

from .branches import rarely
from .formats import F64
from .lanes import Lanes, Vec

TWO_OVER_PI = int(  # floor(2**1280 2/pi)
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921c"
    "fe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d08"
    "56033046fc7b6babf0cfbc209af4361d",
    16,
)
HALF_PI, HALF_PI_LOW = 1.5707963267948966, 6.123233995736766e-17
_I1, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (1, 32, 64, 128))
_DOUBLE = ir.DoubleType()
_RESULT = ir.LiteralStructType([_I64, _DOUBLE, _DOUBLE])


def is_far(f: Lanes, x: Vec, limit: float) -> Vec:
    """Where |x| is beyond the limit, but finite."""
    size = f.abs(x)
    return (size > limit) & (size < math.inf)


def reduce_far(f: Lanes, x: Vec, limit: float, near: Sequence[Vec]) -> list[Vec]:
    """n, r and error with x = n pi/2 + r - error where x is far, and those of `near` elsewhere."""
    b = f.builder
    if f.width:
        result = b.call(_vector(b.module, f, limit), [x.ir, *(v.ir for v in near)])
        values = _unpack(b, result)
    else:
        values = _reduce_one(f, x.ir)
    return [f.wrap(value, v.kind) for value, v in zip(values, near, strict=True)]


def _pack(b: ir.IRBuilder, type: ir.Type, values: Sequence[ir.Value]) -> ir.Value:
    """A structure of values."""
    result = ir.Constant(type, ir.Undefined)
    for i, value in enumerate(values):
        result = b.insert_value(result, value, i)
    return result


def _unpack(b: ir.IRBuilder, structure: ir.Value) -> list[ir.Value]:
    return [b.extract_value(structure, i) for i in range(3)]


def _function(module: ir.Module, name: str, type: ir.FunctionType) -> ir.Function:
    """A function kept out of the optimiser, which would spend longer on it than on most kernels.

    (Not `minsize` or `optsize`: these turn 128-bit shifts into calls of a run-time library.)
    """
    function = ir.Function(module, type, name)
    for attribute in ("noinline", "nounwind", "optnone"):
        function.attributes.add(attribute)
    return function


def _digits(module: ir.Module) -> ir.GlobalVariable:
    """2/pi as 64-bit words, the first of them zero, so that a window may begin before the point."""
    words = [0] + [(TWO_OVER_PI >> shift) & (2**64 - 1) for shift in range(1280 - 64, -1, -64)]
    type = ir.ArrayType(_I64, len(words))
    table = ir.GlobalVariable(module, type, "taut.two_over_pi")
    table.linkage, table.global_constant = "internal", True
    table.initializer = ir.Constant(type, [_I64(w) for w in words])
    return table


def _window(b: ir.IRBuilder, position: ir.Value) -> list[ir.Value]:
    """192 bits of the digits from a bit's position on, as three words."""
    fshl = b.module.declare_intrinsic("llvm.fshl", (_I64,), ir.FunctionType(_I64, [_I64] * 3))
    table, first = _digits(b.module), b.lshr(position, _I64(6))
    words = []
    for i in range(4):
        place = b.gep(table, [_I64(0), b.add(first, _I64(i))], inbounds=True)
        words.append(b.load(place, align=8))
    return [b.call(fshl, [words[i], words[i + 1], position]) for i in range(3)]


def _turns(b: ir.IRBuilder, magnitude: ir.Value) -> ir.Value:
    """|x| 2/pi modulo 4 in units of 2**-126, from the bits of |x| >= 1."""
    exponent = b.lshr(magnitude, _I64(52))
    mantissa = b.or_(b.and_(magnitude, _I64(2**52 - 1)), _I64(2**52))
    window = _window(b, b.sub(exponent, _I64(1075 - 62)))  # E = exponent - 1075
    m, (high, middle, low) = b.zext(mantissa, _I128), (b.zext(w, _I128) for w in window)
    total = b.shl(b.mul(m, high), _I128(64))
    total = b.add(total, b.mul(m, middle))
    return b.add(total, b.lshr(b.mul(m, low), _I128(64)))


def _two_doubles(f: Lanes, fraction: ir.Value) -> tuple[Vec, Vec]:
    """A positive 128-bit integer over 2**128, as a double and what did not fit into it."""
    b = f.builder
    type = ir.FunctionType(_I128, [_I128, _I1])
    ctlz = b.module.declare_intrinsic("llvm.ctlz", (_I128, _I1), type)
    zeros = b.call(ctlz, [fraction, _I1(0)])
    normal = b.shl(fraction, zeros)
    scale = f.from_bits((1023 - 53 - f.wrap(b.trunc(zeros, _I64), "int")) << 52)
    pieces = (b.lshr(normal, _I128(75)), b.and_(b.lshr(normal, _I128(22)), _I128(2**53 - 1)))
    high, low = (f.wrap(b.sitofp(b.trunc(p, _I64), _DOUBLE)) for p in pieces)
    return high * scale, low * (scale * 2.0**-53)


def _emit_scalar(function: ir.Function) -> None:
    """The body of `double -> {n, r, error}`."""
    b = ir.IRBuilder(function.append_basic_block("entry"))
    f = Lanes(b, F64, 0)
    bits = f.bits(f.wrap(function.args[0]))
    turns = _turns(b, (bits & (F64.sign - 1)).ir)
    n = f.wrap(b.trunc(b.lshr(b.add(turns, _I128(2**125)), _I128(126)), _I64), "int")
    fraction = b.shl(turns, _I128(2))  # of a quarter turn, signed
    negative = b.icmp_signed("<", fraction, _I128(0))
    high, low = _two_doubles(f, b.select(negative, b.neg(fraction), fraction))
    r = high * HALF_PI
    rest = f.fma(low, HALF_PI, f.fma(high, HALF_PI_LOW, f.fma(high, HALF_PI, -r)))
    sign = (bits ^ (f.wrap(b.zext(negative, _I64), "int") << 63)) & F64.sign
    r, error = (f.from_bits(f.bits(v) ^ sign) for v in (r, -rest))
    n = f.select(bits < 0, 0 - n, n)
    b.ret(_pack(b, _RESULT, [n.ir, r.ir, error.ir]))


def _scalar(module: ir.Module) -> ir.Function:
    """The reduction of one double, emitted once a module."""
    name = "taut.reduce_far"
    if name not in module.globals:
        _emit_scalar(_function(module, name, ir.FunctionType(_RESULT, [_DOUBLE])))
    return module.globals[name]


def _reduce_one(f: Lanes, x: ir.Value) -> list[ir.Value]:
    """n, r and error of one number, in the types of its format."""
    b, own = f.builder, f.types["float"]
    wide = x if f.format is F64 else b.fpext(x, _DOUBLE)
    n, r, error = _unpack(b, b.call(_scalar(b.module), [wide]))
    if f.format is F64:
        return [n, r, error]
    short = b.fptrunc(r, own)
    missed = b.fsub(b.fpext(short, _DOUBLE), b.fsub(r, error))
    return [b.trunc(n, f.types["int"]), short, b.fptrunc(missed, own)]


def _vector(module: ir.Module, f: Lanes, limit: float) -> ir.Function:
    """`x, n, r, error -> {n, r, error}` for vectors, emitted once a module and type."""
    name = f"taut.reduce_far.{f.suffix}"
    if name not in module.globals:
        values = [f.types["int"], f.types["float"], f.types["float"]]
        type = ir.FunctionType(ir.LiteralStructType(values), [f.types["float"], *values])
        function = _function(module, name, type)
        b = ir.IRBuilder(function.append_basic_block("entry"))
        _emit_lanes(Lanes(b, f.format, f.width), limit, *function.args)
    return module.globals[name]


def _emit_lanes(f: Lanes, limit: float, x: ir.Value, *start: ir.Value) -> None:
    """A loop over the lanes that replaces the values of far ones."""
    b, entry = f.builder, f.builder.block
    loop, done = b.append_basic_block("lane"), b.append_basic_block("done")
    b.branch(loop)
    b.position_at_end(loop)
    i, *values = (b.phi(v.type) for v in (_I32(0), *start))
    mended = _mend_lane(f, limit, x, i, values)
    after = b.add(i, _I32(1))
    phis = zip((i, *values), (_I32(0), *start), (after, *mended), strict=True)
    for phi, first, following in phis:
        phi.add_incoming(first, entry)
        phi.add_incoming(following, b.block)
    b.cbranch(b.icmp_unsigned("<", after, _I32(f.width)), loop, done)
    b.position_at_end(done)
    b.ret(_pack(b, b.function.function_type.return_type, mended))


def _mend_lane(
    f: Lanes, limit: float, x: ir.Value, i: ir.Value, values: Sequence[ir.Value]
) -> list[ir.Value]:
    """The values, with lane i replaced if it is far."""
    b, one = f.builder, Lanes(f.builder, f.format, 0)
    lane = b.extract_element(x, i)

    def replace() -> list[Vec]:
        pairs = zip(values, _reduce_one(one, lane), strict=True)
        return [f.wrap(b.insert_element(old, new, i)) for old, new in pairs]

    usual = [f.wrap(v) for v in values]
    return [v.ir for v in rarely(one, is_far(one, one.wrap(lane), limit), replace, usual)]
