"""Vector math against wider arithmetic: stated ulp bounds, special cases, the same bits everywhere.

The kernels are compiled here by llvmlite alone and linked against nothing, so that a call of a C
library's function would fail to link.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from scipy import special

from taut.compiler.codegen.vector_math import FUNCTIONS, ULP, VectorMath
from taut.compiler.errors import CompileError

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()

Array = np.ndarray[Any, Any]
DTYPES = ("f32", "f64")
WIDTHS = (0, 4, 16)
NUMPY: dict[str, type[np.floating[Any]]] = {"f32": np.float32, "f64": np.float64}
ELEMENT = {"f32": ir.FloatType(), "f64": ir.DoubleType()}
ACCURATE = ("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "sigmoid", "erf")
EXACT = tuple(name for name in FUNCTIONS if ULP[name, "f32"] <= 0.5)
I64 = ir.IntType(64)

WIDE = np.longdouble
wide_enough = pytest.mark.skipif(
    np.finfo(WIDE).nmant < 63, reason="long double is no wider than double here"
)

# ---------------------------------------------------------------- kernels


def vector_type(dtype: str, width: int) -> ir.Type:
    return ir.VectorType(ELEMENT[dtype], width) if width else ELEMENT[dtype]


def add_loop(module: ir.Module, name: str, dtype: str, width: int) -> None:
    """A function `loop{width}(operands..., result, n)` that maps `name` over arrays."""
    operands, t = FUNCTIONS[name].operands, vector_type(dtype, width)
    pointers = [ELEMENT[dtype].as_pointer()] * (operands + 1)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, I64]), f"loop{width}")
    entry, loop, done = (function.append_basic_block(n) for n in ("entry", "loop", "done"))
    ir.IRBuilder(entry).branch(loop)
    b = ir.IRBuilder(loop)
    i = b.phi(I64)
    places = [b.bitcast(b.gep(p, [i]), t.as_pointer()) for p in function.args[:-1]]
    values = [b.load(p, align=4) for p in places[:-1]]
    b.store(VectorMath(module).call(name, b, *values), places[-1], align=4)
    after = b.add(i, I64(max(width, 1)))
    i.add_incoming(I64(0), entry)
    i.add_incoming(after, b.block)
    b.cbranch(b.icmp_signed("<", after, function.args[-1]), loop, done)
    ir.IRBuilder(done).ret_void()


def machine(cpu: str, features: str) -> Any:
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=cpu, features=features, opt=3, jit=True, reloc="pic", codemodel="small"
    )


def optimised(module: ir.Module, target: Any) -> Any:
    parsed = llvm.parse_assembly(str(module))
    parsed.triple, parsed.data_layout = llvm.get_process_triple(), str(target.target_data)
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    builder = llvm.create_pass_builder(target, options)
    builder.getModulePassManager().run(parsed, builder)
    return parsed


def host() -> Any:
    return machine(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


@functools.cache
def compiled(name: str, dtype: str, widths: tuple[int, ...] = WIDTHS) -> dict[int, Any]:
    """Entry points by width, with the code that they keep alive."""
    module = ir.Module()
    for width in widths:
        add_loop(module, name, dtype, width)
    code = host().emit_object(optimised(module, host()))
    builder = llvm.JITLibraryBuilder().add_object_img(code)
    for width in widths:
        builder.export_symbol(f"loop{width}")
    jit = llvm.create_lljit_compiler(host())
    library = builder.link(jit, f"{name}.{dtype}.{widths}")
    arguments = [ctypes.c_void_p] * (FUNCTIONS[name].operands + 1) + [ctypes.c_int64]
    prototype = ctypes.CFUNCTYPE(None, *arguments)
    return {w: (prototype(library[f"loop{w}"]), jit, library) for w in widths}


def run(name: str, dtype: str, *operands: Array, width: int = 16) -> Array:
    """`name` over arrays of one length."""
    n = operands[0].size
    pad = -n % 16
    inputs = [np.pad(np.asarray(x, NUMPY[dtype]), (0, pad)) for x in operands]
    result = np.empty_like(inputs[0])
    entry = compiled(name, dtype)[width][0]
    entry(*(x.ctypes.data for x in (*inputs, result)), result.size)
    return result[:n]


# ---------------------------------------------------------------- references and samples


def erf_wide(x: Array) -> Array:
    """The series of Abramowitz and Stegun 7.1.6, all of whose terms have one sign."""
    x = np.clip(x, -6.1, 6.1)  # where erf is 1 to 17 digits
    term = total = x.copy()
    for n in range(1, 140):
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    return np.asarray(2 / np.sqrt(4 * np.arctan(WIDE(1))) * np.exp(-x * x) * total)


REFERENCE: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ACCURATE if hasattr(np, name)},
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": lambda x: erf_wide(x) if x.dtype == WIDE else special.erf(x),
    "pow": np.power,
}


def errors(dtype: str, got: Array, exact: Array) -> Array:
    """Distances in ulp, of each exact result's binade; inf for a wrong NaN, infinity or sign."""
    info = np.finfo(NUMPY[dtype])
    _, exponent = np.frexp(exact)
    lowest = int(np.log2(info.smallest_normal)) + 1
    ulp = np.ldexp(exact.dtype.type(1), np.maximum(exponent, lowest) - info.nmant - 1)
    distance = np.abs(got.astype(exact.dtype) - exact) / ulp
    half = np.ldexp(exact.dtype.type(1), int(np.log2(info.max)) - info.nmant - 2)
    overflow = np.abs(exact) >= exact.dtype.type(info.max) + half
    right = np.isinf(got) & (np.signbit(got) == np.signbit(exact))
    distance = np.where(overflow, np.where(right, 0, np.inf), distance)
    either, both = np.isnan(got) | np.isnan(exact), np.isnan(got) & np.isnan(exact)
    return np.where(either, np.where(both, 0, np.inf), distance)


def check(name: str, dtype: str, *operands: Array) -> None:
    """The bound holds for all; the message has the worst operands."""
    got = run(name, dtype, *operands)
    with np.errstate(all="ignore"):
        wide = [x.astype(np.float64 if dtype == "f32" else WIDE) for x in operands]
        found = errors(dtype, got, REFERENCE[name](*wide))
    worst = int(np.argmax(found))
    assert found[worst] <= ULP[name, dtype], (found[worst], [x[worst] for x in operands])


def bit_patterns(start: int, stop: int, step: int) -> Array:
    return np.arange(start, stop, step, dtype=np.uint64).astype(np.uint32).view(np.float32)


@functools.cache
def samples(count: int = 20_000) -> Array:
    """Doubles: random bits, and many at the scales and places where a function turns or ends."""
    rng = np.random.default_rng(0)
    turns = np.round(rng.uniform(-1e6, 1e6, count)) * (np.pi / 2)
    parts = [
        rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64),
        *(rng.uniform(-limit, limit, count) for limit in (0.1, 1, 4, 40, 750)),
        1 + rng.standard_normal(count) * np.exp(rng.uniform(-36, 0, count)),
        turns * (1 + rng.integers(-2, 3, count) * 2.0**-53),
        SPECIAL["f64"],
    ]
    return np.concatenate(parts)


def specials(dtype: str) -> Array:
    info = np.finfo(NUMPY[dtype])
    positive: list[Any] = [
        *(0, 1, 2, 3, 0.5, 1.5, 2.5, 10, 1e-3, info.eps, 1 - info.epsneg, 1 + info.eps, np.inf),
        *(info.smallest_normal, info.smallest_subnormal, info.smallest_normal / 3, info.max),
        *(2.0**info.nmant, 2.0 ** (info.nmant + 1) - 1, 2.0 ** (info.nmant + 1) + 2, 1e30),
    ]
    return np.array([*positive, *(-x for x in positive), np.nan], NUMPY[dtype])


SPECIAL = {dtype: specials(dtype) for dtype in DTYPES}


def same(a: Array, b: Array) -> Array:
    """Where two results agree in value and sign, any NaN being the same."""
    equal = (a == b) & (np.signbit(a) == np.signbit(b))
    return np.asarray(equal | (np.isnan(a) & np.isnan(b)))


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("name", ACCURATE)
def test_f32_bound_on_a_sample_of_all_bit_patterns(name: str) -> None:
    for start in range(0, 1 << 32, 1 << 30):
        check(name, "f32", bit_patterns(start, start + (1 << 30), 1021))
    check(name, "f32", SPECIAL["f32"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCURATE)
def test_f32_bound_on_every_61st_bit_pattern(name: str) -> None:
    for start in range(0, 1 << 32, 1 << 21):
        check(name, "f32", bit_patterns(start + start % 61, start + (1 << 21), 61))


@wide_enough
@pytest.mark.parametrize("name", ACCURATE)
def test_f64_bound(name: str) -> None:
    check(name, "f64", samples())


@wide_enough
@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_bound(dtype: str) -> None:
    rng, count = np.random.default_rng(1), 100_000
    largest = float(np.log(np.finfo(NUMPY[dtype]).max)) * 1.05
    near_one = 1 + rng.uniform(-1, 1, count) * np.exp(rng.uniform(-15, 0, count))
    with np.errstate(all="ignore"):
        anything = np.exp(rng.uniform(-largest, largest, count))
        for base in (near_one, anything):  # y log(x) is uniform, to the ends and beyond
            x = np.abs(base).astype(NUMPY[dtype])
            y = (rng.uniform(-largest, largest, count) / np.log(x)).astype(NUMPY[dtype])
            check("pow", dtype, x, y)
    signed = rng.uniform(-10, 10, count).astype(NUMPY[dtype])
    check("pow", dtype, signed, np.round(rng.uniform(-20, 20, count)).astype(NUMPY[dtype]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_is_exact_where_the_result_is_a_number_of_the_format(dtype: str) -> None:
    digits = np.finfo(NUMPY[dtype]).nmant + 1
    cases = [(b, e) for b, e in itertools.product(range(1, 100), range(40)) if b**e < 2**digits]
    x, y = np.array(cases, NUMPY[dtype]).T
    assert run("pow", dtype, x, y).tolist() == [float(b**e) for b, e in cases]


# ---------------------------------------------------------------- special cases


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACCURATE)
def test_zeros_infinities_and_nan_give_what_numpy_gives(name: str, dtype: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], NUMPY[dtype])
    with np.errstate(all="ignore"):
        expected = REFERENCE[name](x).astype(x.dtype)
    assert same(run(name, dtype, x), expected).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["expm1", "log1p", "sin", "tan", "tanh"])
def test_the_smallest_numbers_come_through(name: str, dtype: str) -> None:
    tiny = np.finfo(NUMPY[dtype]).smallest_subnormal
    x = np.array([tiny, -tiny, 5 * tiny, -7 * tiny], NUMPY[dtype])
    assert run(name, dtype, x).tolist() == x.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_underflows_gradually(dtype: str) -> None:
    tiny = np.finfo(NUMPY[dtype]).smallest_subnormal
    lowest = float(np.log(tiny.astype(WIDE)))
    x = np.array([lowest + 0.1, lowest - 0.6, lowest - 0.8, -1e4], NUMPY[dtype])
    assert run("exp", dtype, x).tolist() == [tiny, tiny, 0, 0]
    assert run("sigmoid", dtype, x).tolist() == [tiny, tiny, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_special_cases(dtype: str) -> None:
    x, y = np.array(list(itertools.product(SPECIAL[dtype], repeat=2)), NUMPY[dtype]).T
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    got = run("pow", dtype, x, y)
    ends = ~np.isfinite(expected) | (expected == 0) | (np.abs(expected) == 1)
    ends &= ~np.isclose(np.abs(expected), 1, rtol=1e-6) | (np.abs(x) == 1) | (y == 0)
    wrong = ends & ~same(got, expected)
    assert not wrong.any(), list(zip(x[wrong], y[wrong], got[wrong], expected[wrong], strict=True))
    assert (np.signbit(got) == np.signbit(expected))[~np.isnan(expected)].all()


# ---------------------------------------------------------------- exact functions


def torch_rem(x: Array, y: Array) -> Array:
    """`torch.remainder` as its documentation and its scalar kernel have it."""
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest)


def propagating(order: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda x, y: np.where(np.isnan(x) | order(x, y), x, y)


EXACT_REFERENCE: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("sqrt", "floor", "ceil", "trunc", "abs", "copysign")},
    "round": np.round,
    "maximum": propagating(np.greater),
    "minimum": propagating(np.less),
    "rem": torch_rem,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_exact_functions(name: str, dtype: str) -> None:
    rng, count = np.random.default_rng(2), 50_000
    integer = np.uint32 if dtype == "f32" else np.uint64
    top = np.iinfo(integer).max
    random = rng.integers(0, top, (2, count), integer, endpoint=True).view(NUMPY[dtype])
    moderate = np.round(rng.uniform(-50, 50, (2, count)) * 4).astype(NUMPY[dtype]) / 4
    pairs = np.array(list(itertools.product(SPECIAL[dtype], repeat=2)), NUMPY[dtype]).T
    operands = np.concatenate([random, moderate, pairs], axis=1)[: FUNCTIONS[name].operands]
    with np.errstate(all="ignore"):
        expected = EXACT_REFERENCE[name](*operands)
    got = run(name, dtype, *operands)
    wrong = ~same(got, expected)
    assert not wrong.any(), (operands[:, wrong][:, :3], got[wrong][:3], expected[wrong][:3])


def test_extrema_and_remainder_agree_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x, y = np.array(list(itertools.product([-7.5, -2, 0.5, 3, np.nan, np.inf], repeat=2))).T
    for name, theirs in (("maximum", "maximum"), ("minimum", "minimum"), ("rem", "remainder")):
        expected = getattr(torch, theirs)(torch.from_numpy(x), torch.from_numpy(y)).numpy()
        assert same(run(name, "f64", x, y), expected).all(), name


# ---------------------------------------------------------------- the code


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_widths_give_the_same_bits(name: str, dtype: str) -> None:
    x = (
        samples()[::37].astype(NUMPY[dtype])
        if dtype == "f64"
        else bit_patterns(0, 1 << 32, 1_000_003)
    )
    operands = [x, np.roll(x, 5)][: FUNCTIONS[name].operands]
    scalar, *vectors = (run(name, dtype, *operands, width=w) for w in WIDTHS)
    for got in vectors:
        assert same(got, scalar).all()


@pytest.mark.skipif(not llvm.get_process_triple().startswith("x86_64"), reason="names x86 CPUs")
@pytest.mark.parametrize("cpu", ["haswell", "skylake-avx512"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_code_for_other_machines_calls_no_library(dtype: str, cpu: str) -> None:
    target = machine(cpu, "")
    for name in FUNCTIONS:
        module = ir.Module()
        add_loop(module, name, dtype, 16)
        assembly = target.emit_assembly(optimised(module, target))
        called = re.findall(r"^\s+(?:call|jmp)q?\s+(\w\S*|\".*\")", assembly, re.MULTILINE)
        assert all("taut" in symbol for symbol in called), (name, called)


def test_a_function_is_emitted_once_a_type() -> None:
    module = ir.Module()
    t = vector_type("f32", 8)
    function = ir.Function(module, ir.FunctionType(t, [t]), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    math = VectorMath(module)
    once = math.call("exp", builder, function.args[0])
    builder.ret(math.call("exp", builder, once))
    defined = [f.name for f in module.functions if not f.is_declaration]
    assert defined == ["f", "taut.exp.v8f32"]


def test_errors_say_what_is_wrong() -> None:
    module = ir.Module()
    types = [ir.FloatType(), ir.DoubleType(), ir.IntType(32)]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), types), "f")
    builder, math = ir.IRBuilder(function.append_basic_block()), VectorMath(module)
    x, y, i = function.args
    with pytest.raises(CompileError, match="no 'gamma'; it has exp, expm1, log,"):
        math.call("gamma", builder, x)
    with pytest.raises(CompileError, match=r"pow takes 2 operand\(s\) .* got \(float, double\)"):
        math.call("pow", builder, x, y)
    with pytest.raises(CompileError, match="float and double and vectors of them, not on i32"):
        math.call("exp", builder, i)
