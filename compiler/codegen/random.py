"""Random numbers in LLVM, with the bits that `primitives.mt19937` gives.

    emit_uniform(module, dtype)   void(state_in, state_out, out, n)             [0, 1)
    emit_normal(module, dtype)    void(state_in, state_out, out, n)             standard normal
    emit_integers(module)         void(state_in, state_out, out, n, low, high)  i64 in [low, high)
    emit_bernoulli(module)        void(state_in, state_out, out, n, p)          bytes 0 or 1
    emit_permutation(module)      void(state_in, state_out, out, n)             i64, 0 to n - 1

`emit_uniform_between` (low, high) and `emit_normal_scaled` (mean, std) take two more doubles. n and
the bounds of `emit_integers` are i64, p is a double. `out` is contiguous and overlaps no state;
`state_in` may be `state_out`. Each emitter adds an internal function to the module, once, and
returns it.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from ..errors import CompileError
from ..primitives import box_muller, mt19937
from .llvm_cast import round_to
from .mersenne_twister import (
    I8,
    I32,
    I64,
    PTR,
    address,
    copy,
    define,
    fill,
    for_each,
    i64,
    load,
    loop,
    minimum,
    store,
)
from .random_f16 import HALF, normal_f16, uniform_f16
from .vector_math.formats import F32, F64
from .vector_math.lanes import Lanes, Vec

FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
EXTERNS = ("cos", "log", "log1p", "sin")
"""Symbols of the C library that the code may call, all double(double): for normals in float64.

A target without fused multiply-add needs `fma` and `fmaf`, too.
"""

_ELEMENT = {dtypes.f16: HALF, dtypes.f32: FLOAT, dtypes.f64: DOUBLE}
_SCRATCH = 1024  # words drawn at a time where the output cannot hold them


def emit_uniform(module: ir.Module, dtype: DType) -> ir.Function:
    """`mt19937.uniform`; of floats."""
    core = _uniform(module, dtype)
    zero, one = ir.Constant(DOUBLE, 0.0), ir.Constant(DOUBLE, 1.0)
    return _entry(module, core, f"taut_uniform_{dtype.name}", [], lambda args: [zero, one])


def emit_uniform_between(module: ir.Module, dtype: DType) -> ir.Function:
    """`mt19937.uniform_between`; of floats."""
    core = _uniform(module, dtype)
    return _entry(module, core, f"taut_uniform_between_{dtype.name}", [DOUBLE, DOUBLE], list)


def emit_normal(module: ir.Module, dtype: DType) -> ir.Function:
    """`mt19937.normal`; of floats."""
    core = _normal(module, dtype)
    zero, one = ir.Constant(DOUBLE, 0.0), ir.Constant(DOUBLE, 1.0)
    return _entry(module, core, f"taut_normal_{dtype.name}", [], lambda args: [zero, one])


def emit_normal_scaled(module: ir.Module, dtype: DType) -> ir.Function:
    """`mt19937.normal_scaled`; of floats."""
    core = _normal(module, dtype)
    return _entry(module, core, f"taut_normal_scaled_{dtype.name}", [DOUBLE, DOUBLE], list)


def emit_integers(module: ir.Module) -> ir.Function:
    """`mt19937.integers` in i64; low is below high."""
    return _entry(module, _integers(module), "taut_integers", [I64, I64], list)


def emit_bernoulli(module: ir.Module) -> ir.Function:
    """`mt19937.bernoulli` for a scalar p (double)."""
    return _entry(module, _bernoulli(module), "taut_bernoulli", [DOUBLE], list)


def emit_permutation(module: ir.Module) -> ir.Function:
    """`mt19937.permutation`."""
    return _entry(module, _permutation(module), "taut_permutation", [], list)


def _entry(
    module: ir.Module,
    core: ir.Function,
    name: str,
    params: list[ir.Type],
    arguments: Callable[[list[ir.Value]], list[ir.Value]],
) -> ir.Function:
    """The public form of `core`, void(state, out, n, ...): it works on a copy of the state."""
    duplicate = copy(module)

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state_in, state_out, out, count, *rest = function.args
        b.call(duplicate, [state_in, state_out])
        b.call(core, [state_out, out, count, *arguments(rest)])

    return define(module, name, [PTR, PTR, PTR, I64, *params], emit)


class _RandomLanes(Lanes):
    """`Lanes` with what `box_muller` needs besides."""

    def sqrt(self, x: Vec) -> Vec:
        return self.intrinsic("sqrt", x)

    def to_int(self, x: Vec) -> Vec:
        return self.wrap(self.builder.fptosi(x.ir, self.types["int"]), "int")

    def to_float(self, i: Vec) -> Vec:
        return self.wrap(self.builder.sitofp(i.ir, self.types["float"]))

    def splat(self, scalar: ir.Value) -> Vec:
        """A scalar known at run time, in every lane."""
        if not self.width:
            return self.wrap(scalar)
        b, t = self.builder, self.types["float"]
        undefined = ir.Constant(t, ir.Undefined)
        first = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.width), [0] * self.width)
        return self.wrap(b.shuffle_vector(first, undefined, zeros))


def _unit_f32(v: _RandomLanes, words: ir.Value) -> Vec:
    """Words to floats in [0, 1)."""
    return v.to_float(v.wrap(words, "int") & ((1 << 24) - 1)) * 2.0**-24


def _unit_f64(v: _RandomLanes, pairs: ir.Value) -> Vec:
    """Pairs of words, each loaded as one little-endian i64, to doubles in [0, 1)."""
    pair = v.wrap(pairs, "int")
    whole = (pair << 32) | (pair >> 32)  # the first word is the upper half
    return v.to_float(whole & ((1 << 53) - 1)) * 2.0**-53


def _uniform(module: ir.Module, dtype: DType) -> ir.Function:
    """void(state, out, n, low, high): words drawn into the output, then converted in place."""
    if dtype is dtypes.f16:
        return uniform_f16(module, _uniform(module, dtypes.f32))
    element = _ELEMENT[dtype]
    words_each, word = (1, I32) if dtype is dtypes.f32 else (2, I64)
    form, unit = (F32, _unit_f32) if dtype is dtypes.f32 else (F64, _unit_f64)
    draw = fill(module)

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count, *bounds = function.args
        low, high = bounds if dtype is dtypes.f64 else [b.fptrunc(x, FLOAT) for x in bounds]
        span = b.fsub(high, low)
        b.call(draw, [state, out, b.mul(count, i64(words_each))])

        def convert(index: ir.Value, lanes: int) -> None:
            v = _RandomLanes(b, form, lanes)
            bottom, top = v.splat(low), v.splat(high)
            x = v.fma(unit(v, load(b, out, word, index, lanes)), v.splat(span), bottom)
            store(b, v.select(x.equals(top), bottom, x).ir, out, element, index)

        for_each(b, count, 16 // words_each, convert)

    params = [PTR, PTR, I64, DOUBLE, DOUBLE]
    return define(module, f"taut_uniform_core_{dtype.name}", params, emit)


def _normal(module: ir.Module, dtype: DType) -> ir.Function:
    """void(state, out, n, mean, std)"""
    element, few = _ELEMENT[dtype], _few_normals(module, dtype)
    drawn = dtypes.f32 if dtype is dtypes.f16 else dtype
    uniform, transform = _uniform(module, drawn), _transform(module, drawn)
    if dtype is dtypes.f16:
        return normal_f16(module, few, uniform, transform)
    unit = [ir.Constant(DOUBLE, 0.0), ir.Constant(DOUBLE, 1.0)]
    size = i64(box_muller.BLOCK)

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count, mean, std = function.args
        with b.if_then(b.icmp_signed("<", count, i64(mt19937.SMALL_NORMAL))):
            b.call(few, function.args)
            b.ret_void()
        b.call(uniform, [state, out, count, *unit])
        rest = b.and_(count, i64(box_muller.BLOCK - 1))
        with loop(b, i64(0), b.sub(count, rest), box_muller.BLOCK) as index:
            b.call(transform, [address(b, out, element, index), mean, std])
        with b.if_then(b.icmp_signed("!=", rest, i64(0))):
            last = address(b, out, element, b.sub(count, size))
            b.call(uniform, [state, last, size, *unit])
            b.call(transform, [last, mean, std])

    params = [PTR, PTR, I64, DOUBLE, DOUBLE]
    return define(module, f"taut_normal_core_{dtype.name}", params, emit)


def _transform(module: ir.Module, dtype: DType) -> ir.Function:
    """void(data, mean, std): 16 uniforms become 16 normals."""
    emit = _transform_f32 if dtype is dtypes.f32 else _transform_f64
    return define(module, f"taut_box_muller_{dtype.name}", [PTR, DOUBLE, DOUBLE], emit)


def _transform_f32(b: ir.IRBuilder, function: ir.Function) -> None:
    data, mean, std = function.args
    half = box_muller.BLOCK // 2
    v = _RandomLanes(b, F32, half)
    first, second = (v.wrap(load(b, data, FLOAT, i, half)) for i in (0, half))
    scale, shift = v.splat(b.fptrunc(std, FLOAT)), v.splat(b.fptrunc(mean, FLOAT))
    for index, z in zip((0, half), box_muller.normal_pair(v, first, second), strict=True):
        store(b, v.fma(z, scale, shift).ir, data, FLOAT, index)


def _transform_f64(b: ir.IRBuilder, function: ir.Function) -> None:
    data, mean, std = function.args
    half = i64(box_muller.BLOCK // 2)
    v = _RandomLanes(b, F64, 0)
    with loop(b, i64(0), half) as index:
        other = b.add(index, half)
        first, second = (v.wrap(load(b, data, DOUBLE, i)) for i in (index, other))
        radius = v.sqrt(_libm(v, "log", 1.0 - first) * -2.0)
        angle = second * box_muller.TWO_PI
        for place, name in ((index, "cos"), (other, "sin")):
            z = radius * _libm(v, name, angle)
            store(b, v.fma(z, v.wrap(std), v.wrap(mean)).ir, data, DOUBLE, place)


def _libm(v: Lanes, name: str, x: Vec) -> Vec:
    module = v.builder.module
    if name not in module.globals:
        ir.Function(module, ir.FunctionType(DOUBLE, [DOUBLE]), name)
    return v.wrap(v.builder.call(module.globals[name], [x.ir]))


def _few_normals(module: ir.Module, dtype: DType) -> ir.Function:
    """void(state, out, n, mean, std): one after the other, in float64."""
    element, following = _ELEMENT[dtype], _next_normal(module)

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count, mean, std = function.args
        v = Lanes(b, F64, 0)
        with loop(b, i64(0), count) as index:
            z = v.wrap(b.call(following, [state]))
            value = v.fma(z, v.wrap(std), v.wrap(mean)).ir
            store(b, round_to(b, value, dtype), out, element, index)

    params = [PTR, PTR, I64, DOUBLE, DOUBLE]
    return define(module, f"taut_few_normals_{dtype.name}", params, emit)


def _next_normal(module: ir.Module) -> ir.Function:
    """double(state): the spare normal if there is one, else a fresh one that leaves a spare."""
    draw = fill(module)

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state = function.args[0]
        words = b.alloca(I32, 4)
        kept = load(b, state, I32, mt19937.SPARE_VALID)
        spare = address(b, state, I32, mt19937.SPARE)
        with b.if_then(b.icmp_unsigned("!=", kept, ir.Constant(I32, 0))):
            value = load(b, spare, DOUBLE, 0)
            store(b, ir.Constant(I32, 0), state, I32, mt19937.SPARE_VALID)
            store(b, ir.Constant(DOUBLE, 0.0), spare, DOUBLE, 0)
            b.ret(value)
        b.call(draw, [state, words, i64(4)])
        v = _RandomLanes(b, F64, 0)
        first, second = (_unit_f64(v, load(b, words, I64, i)) for i in (0, 1))
        radius = v.sqrt(_libm(v, "log1p", -second) * -2.0)
        angle = first * box_muller.TWO_PI
        store(b, ir.Constant(I32, 1), state, I32, mt19937.SPARE_VALID)
        store(b, (radius * _libm(v, "sin", angle)).ir, spare, DOUBLE, 0)
        b.ret((radius * _libm(v, "cos", angle)).ir)

    return define(module, "taut_next_normal", [PTR], emit, DOUBLE)


def _in_chunks(
    b: ir.IRBuilder,
    state: ir.Value,
    count: ir.Value,
    words_each: int,
    body: Callable[[ir.Value, ir.Value, ir.Value], None],
) -> None:
    """`body(start, size, words)` for each piece of `count` elements, once its words are drawn."""
    draw = fill(b.module)
    words = b.alloca(I32, _SCRATCH)
    step = _SCRATCH // words_each
    with loop(b, i64(0), count, step) as start:
        size = minimum(b, b.sub(count, start), i64(step))
        b.call(draw, [state, words, b.mul(size, i64(words_each))])
        body(start, size, words)


def _integers(module: ir.Module) -> ir.Function:
    """void(state, out, n, low, high)"""

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count, low, high = function.args
        span = b.sub(high, low)

        def narrow(start: ir.Value, size: ir.Value, words: ir.Value) -> None:
            with loop(b, i64(0), size) as index:
                value = b.urem(load(b, words, I32, index), b.trunc(span, I32))
                store(b, b.add(b.zext(value, I64), low), out, I64, b.add(start, index))

        def wide(start: ir.Value, size: ir.Value, words: ir.Value) -> None:
            with loop(b, i64(0), size) as index:
                pair = Lanes(b, F64, 0).wrap(load(b, words, I64, index), "int")
                value = b.urem(((pair << 32) | (pair >> 32)).ir, span)
                store(b, b.add(value, low), out, I64, b.add(start, index))

        is_wide = b.icmp_unsigned(">=", span, i64(mt19937.WIDE_SPAN))
        with b.if_else(is_wide) as (then, otherwise):
            with then:
                _in_chunks(b, state, count, 2, wide)
            with otherwise:
                _in_chunks(b, state, count, 1, narrow)

    return define(module, "taut_integers_core", [PTR, PTR, I64, I64, I64], emit)


def _bernoulli(module: ir.Module) -> ir.Function:
    """void(state, out, n, p)"""

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count, p = function.args

        def compare(start: ir.Value, size: ir.Value, words: ir.Value) -> None:
            target = address(b, out, I8, start)

            def body(index: ir.Value, lanes: int) -> None:
                v = _RandomLanes(b, F64, lanes)
                below = _unit_f64(v, load(b, words, I64, index, lanes)) < v.splat(p)
                byte = ir.VectorType(I8, lanes) if lanes else I8
                store(b, b.zext(below.ir, byte), target, I8, index)

            for_each(b, size, 16, body)

        _in_chunks(b, state, count, 2, compare)

    return define(module, "taut_bernoulli_core", [PTR, PTR, I64, DOUBLE], emit)


def _permutation(module: ir.Module) -> ir.Function:
    """void(state, out, n): each place but the last swaps with itself or a later one."""

    def emit(b: ir.IRBuilder, function: ir.Function) -> None:
        state, out, count = function.args
        with loop(b, i64(0), count) as index:
            store(b, index, out, I64, index)

        def swap(start: ir.Value, size: ir.Value, words: ir.Value) -> None:
            with loop(b, i64(0), size) as index:
                place = b.add(start, index)
                word = b.zext(load(b, words, I32, index), I64)
                other = b.add(place, b.urem(word, b.sub(count, place)))
                here, there = load(b, out, I64, place), load(b, out, I64, other)
                store(b, there, out, I64, place)
                store(b, here, out, I64, other)

        _in_chunks(b, state, b.sub(count, i64(1)), 1, swap)

    return define(module, "taut_permutation_core", [PTR, PTR, I64], emit)


def emit_generator(name: str, module: ir.Module, dtype: DType) -> ir.Function:
    """The generator of a primitive, in the order (state, new state, out, count, numbers...).

    Raises:
        CompileError: no primitive of this name draws, or not in this dtype.
    """
    typed = {
        "uniform": emit_uniform,
        "normal": emit_normal,
        "uniform_between": emit_uniform_between,
        "normal_scaled": emit_normal_scaled,
    }
    untyped = {"integers": emit_integers, "bernoulli": emit_bernoulli}
    if name in typed:
        return typed[name](module, dtype)
    if name in untyped:
        return untyped[name](module)
    raise CompileError(f"no random generator is called {name}")
