"""The random generator: bits and states equal PyTorch's, and native code equals the reference."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import platform
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import ir

from taut.compiler import dtypes
from taut.compiler.codegen import random as native_random
from taut.compiler.dtypes import DType
from taut.compiler.primitives import box_muller, mt19937
from taut.compiler.primitives.mt19937 import State

SEEDS: tuple[int, ...] = (
    *(0, 1, 2, 3, 5, 7, 42, 99, 100, 123, 999, 1234, 2024, 31337, 65536, 10**9 + 7, 2**31),
    *(2**32 - 1, 2**32 + 1, 2**63 + 5, 2**64 - 1, -1, -7, -(2**63)),
)
SIZES = (0, 1, 2, 7, 15, 16, 17, 31, 32, 100, 624, 625, 10000)
FLOATS = (dtypes.f16, dtypes.f32, dtypes.f64)
Array = npt.NDArray[Any]
Result = tuple[Array, State]


class Draw(NamedTuple):
    """The same draw from both libraries, given a size and a dtype."""

    ours: Callable[[State, int, DType], Result]
    theirs: Callable[[Any, int, Any], Any]


def _just_above_one(dtype: DType) -> float:
    return 1 + 2 * float(np.finfo(dtype.long_name).eps)


DRAWS = {
    "rand": Draw(
        lambda s, n, d: mt19937.uniform(s, (n,), d),
        lambda torch, n, d: torch.rand(n, dtype=d),
    ),
    "randn": Draw(
        lambda s, n, d: mt19937.normal(s, (n,), d),
        lambda torch, n, d: torch.randn(n, dtype=d),
    ),
    "uniform_": Draw(
        lambda s, n, d: mt19937.uniform_between(s, -0.37, 1.9, (n,), d),
        lambda torch, n, d: torch.empty(n, dtype=d).uniform_(-0.37, 1.9),
    ),
    "uniform_rounded_up": Draw(  # half of the results would be the upper bound
        lambda s, n, d: mt19937.uniform_between(s, 1.0, _just_above_one(d), (n,), d),
        lambda torch, n, d: torch.empty(n, dtype=d).uniform_(1.0, 1 + 2 * torch.finfo(d).eps),
    ),
    "normal_": Draw(
        lambda s, n, d: mt19937.normal_scaled(s, 0.3, 1.7, (n,), d),
        lambda torch, n, d: torch.empty(n, dtype=d).normal_(0.3, 1.7),
    ),
    "randint": Draw(
        lambda s, n, d: mt19937.integers(s, -5, 17, (n,), dtypes.i64),
        lambda torch, n, d: torch.randint(-5, 17, (n,)),
    ),
    "randint_float": Draw(
        lambda s, n, d: mt19937.integers(s, -5, 17, (n,), d),
        lambda torch, n, d: torch.randint(-5, 17, (n,), dtype=d),
    ),
    "randint_wide": Draw(
        lambda s, n, d: mt19937.integers(s, -(2**62), 2**62 + 9, (n,), dtypes.i64),
        lambda torch, n, d: torch.randint(-(2**62), 2**62 + 9, (n,)),
    ),
    "randperm": Draw(
        lambda s, n, d: mt19937.permutation(s, n),
        lambda torch, n, d: torch.randperm(n),
    ),
    # With a tensor of probabilities PyTorch takes the portable way on every processor.
    "bernoulli_f64": Draw(
        lambda s, n, d: mt19937.bernoulli(s, 0.3, (n,)),
        lambda torch, n, d: torch.bernoulli(torch.full((n,), 0.3, dtype=torch.float64)).bool(),
    ),
    "bernoulli_f32": Draw(
        lambda s, n, d: mt19937.bernoulli(s, np.full(n, 0.3, np.float32), (n,)),
        lambda torch, n, d: torch.bernoulli(torch.full((n,), 0.3)).bool(),
    ),
}


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def seeded(seed: int) -> State:
    return frozen(mt19937.seed_state(seed))


def frozen(state: State) -> State:
    """The state, read-only: a function that wrote its argument would raise."""
    state.flags.writeable = False
    return state


def torch_state(torch: Any) -> Array:
    return np.asarray(torch.get_rng_state().numpy())


def assert_same_bits(actual: Array, expected: Array) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.tobytes() != expected.tobytes():
        np.testing.assert_array_equal(actual, expected)
        raise AssertionError("equal numbers of different bits: signs of zeros")


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
@pytest.mark.parametrize("name", DRAWS)
def test_each_draw_equals_pytorch(torch: Any, name: str, dtype: DType) -> None:
    ours, theirs = DRAWS[name]
    for seed in SEEDS:
        state = seeded(seed)
        torch.manual_seed(seed)
        for size in SIZES if seed < 10 else SIZES[:-1]:  # the states run on from size to size
            actual, state = ours(state, size, dtype)
            expected = theirs(torch, size, getattr(torch, dtype.long_name)).numpy()
            assert_same_bits(actual, expected)
            assert_same_bits(mt19937.to_torch_state(frozen(state)), torch_state(torch))


@pytest.mark.quick
def test_mixed_calls_keep_the_same_state(torch: Any) -> None:
    choice = np.random.default_rng(0)
    state = seeded(3)
    torch.manual_seed(3)
    for name in choice.choice(list(DRAWS), 400):
        size, dtype = int(choice.choice([0, 1, 3, 5, 20, 33, 300])), FLOATS[choice.integers(3)]
        actual, state = DRAWS[name].ours(frozen(state), size, dtype)
        expected = DRAWS[name].theirs(torch, size, getattr(torch, dtype.long_name)).numpy()
        assert_same_bits(actual, expected)
        assert_same_bits(mt19937.to_torch_state(state), torch_state(torch))


def test_shapes(torch: Any) -> None:
    torch.manual_seed(0)
    for draw, theirs in ((mt19937.uniform, torch.rand), (mt19937.normal, torch.randn)):
        for shape in ((), (3, 0), (2, 3, 5)):
            state = mt19937.from_torch_state(torch_state(torch))
            assert_same_bits(draw(state, shape, dtypes.f32)[0], theirs(shape).numpy())


@pytest.mark.parametrize(
    "dtype", [dtypes.i64, dtypes.i32, dtypes.u8, dtypes.f64], ids=lambda d: d.name
)
def test_integers_of_every_span(torch: Any, dtype: DType) -> None:
    spans = (1, 2, 255, 2**28 - 1, 2**28, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**53, 2**64 - 1)
    limit = {"u8": 255, "i32": 2**32 - 1, "f64": 2**53}.get(dtype.name, 2**64)
    state = seeded(11)
    torch.manual_seed(11)
    for span in (s for s in spans if s <= limit):
        low = 0 if dtype is dtypes.u8 else -((span + 1) // 2)
        actual, state = mt19937.integers(state, low, low + span, (50,), dtype)
        expected = torch.randint(low, low + span, (50,), dtype=getattr(torch, dtype.long_name))
        assert_same_bits(actual, expected.numpy())


def test_integers_refuse_an_empty_interval() -> None:
    with pytest.raises(RuntimeError, match="'from' to be less than 'to', but got from=3 >= to=3"):
        mt19937.integers(seeded(0), 3, 3, (2,), dtypes.i64)


def _is_intel() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return "GenuineIntel" in (cpuinfo.read_text() if cpuinfo.exists() else platform.processor())


@pytest.mark.skipif(_is_intel(), reason="PyTorch with MKL draws otherwise on Intel processors")
def test_dropout_draws_bernoulli(torch: Any) -> None:
    torch.manual_seed(5)
    kept = torch.nn.functional.dropout(torch.ones(40, 30), 0.3).numpy() != 0
    actual, state = mt19937.bernoulli(seeded(5), 0.7, (40, 30))
    assert_same_bits(actual, kept)
    assert_same_bits(mt19937.to_torch_state(state), torch_state(torch))


@pytest.mark.parametrize("seed", [0, 1, 42, 1337])
@pytest.mark.parametrize(("fan_in", "fan_out"), [(1, 10), (64, 128), (784, 30)])
def test_initial_linear_layers_equal_pytorch(
    torch: Any, seed: int, fan_in: int, fan_out: int
) -> None:
    torch.manual_seed(seed)
    layer = torch.nn.Linear(fan_in, fan_out)
    # kaiming_uniform_(weight, a=sqrt(5)), as torch.nn computes its bound
    std = math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(fan_in)
    bounds = (math.sqrt(3.0) * std, 1 / math.sqrt(fan_in))
    state = seeded(seed)
    for parameter, bound in zip((layer.weight, layer.bias), bounds, strict=True):
        shape = tuple(parameter.shape)
        actual, state = mt19937.uniform_between(state, -bound, bound, shape, dtypes.f32)
        assert_same_bits(actual, parameter.detach().numpy())


@pytest.mark.parametrize("seed", [0, 1, 42, 1337])
@pytest.mark.parametrize("shape", [(10, 3), (100, 16), (2, 5)])
def test_initial_embeddings_equal_pytorch(torch: Any, seed: int, shape: tuple[int, int]) -> None:
    torch.manual_seed(seed)
    expected = torch.nn.Embedding(*shape).weight.detach().numpy()
    assert_same_bits(mt19937.normal(seeded(seed), shape, dtypes.f32)[0], expected)


def _untemper(word: int) -> int:
    """The word of the block that the generator turns into `word`."""
    word ^= word >> 18
    word ^= (word << 15) & 0xEFC60000
    bits = word
    for _ in range(5):
        bits = word ^ ((bits << 7) & 0x9D2C5680)
    word = bits & 0xFFFFFFFF
    for _ in range(3):
        bits = word ^ (bits >> 11)
    return bits


def _state_that_draws(words: list[int]) -> State:
    state = mt19937.seed_state(0)
    state[: len(words)] = [0, *(_untemper(word) for word in words[1:])]
    state[mt19937.POSITION] = 1
    return state


def test_extreme_uniforms_give_pytorchs_normals(torch: Any) -> None:
    """Log of 1 and of 2**-24, angles at and around each eighth of a turn: signs of zero and all."""
    top = 2**24 - 1
    eighths = [min(k * 2**21 + d, top) for k in range(9) for d in (-1, 0, 1) if k * 2**21 + d >= 0]
    radii = [0, 1, top, top - 1, 2**23, 2**23 - 1, 4913933]  # the last: mantissa near sqrt(1/2)
    words = [0, *(w for a in eighths for r in radii for w in [r] * 8 + [a] * 8)][: 16 * 38 + 1]
    torch.set_rng_state(torch.from_numpy(mt19937.to_torch_state(_state_that_draws(words))))
    state = _state_that_draws(words)
    assert mt19937.draw(state, 608)[0].tolist() == words[1:]
    actual, state = mt19937.normal(state, (608,), dtypes.f32)
    assert_same_bits(actual, torch.randn(608).numpy())
    assert np.isfinite(actual).all()


class _ExactLanes(box_muller.NumpyLanes):
    def fma(self, a: Array, b: Array | float, c: Array | float) -> Array:
        return box_muller.fma_f32(a, b, c)


def test_the_quick_fma_is_exact_for_every_uniform() -> None:
    quick, exact = box_muller.NumpyLanes(), _ExactLanes()
    for start in range(0, 1 << 24, 1 << 16):
        u = np.arange(start, start + (1 << 16), dtype=np.uint32).astype(np.float32)
        u *= 2.0**-24
        assert_same_bits(box_muller.log(quick, 1.0 - u), box_muller.log(exact, 1.0 - u))
        angle = u * box_muller.TWO_PI
        for pair in zip(
            box_muller.sine_cosine(quick, angle), box_muller.sine_cosine(exact, angle), strict=True
        ):
            assert_same_bits(*pair)


def _nearest(value: Fraction, dtype: type[np.floating[Any]]) -> float:
    """`value` rounded to even, by comparing neighbours of a first guess."""
    guess = dtype(float(value))
    near = [np.nextafter(guess, dtype(end)) for end in (-np.inf, np.inf)]
    even = [guess, *near] if guess.tobytes()[0] % 2 == 0 else [*near, guess]
    return float(min(even, key=lambda x: abs(Fraction(float(x)) - value)))


singles = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)
doubles = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(singles, singles, singles)
def test_fma_f32_rounds_once(a: float, b: float, c: float) -> None:
    actual = box_muller.fma_f32(np.array([a], np.float32), b, c)
    assert actual[0] == _nearest(Fraction(a) * Fraction(b) + Fraction(c), np.float32)


@given(doubles, doubles, doubles)
def test_fma_f64_rounds_once(a: float, b: float, c: float) -> None:
    actual = box_muller.fma_f64(np.array([a]), b, c)
    assert actual[0] == _nearest(Fraction(a) * Fraction(b) + Fraction(c), np.float64)


@pytest.mark.parametrize("sign", [1, -1])
def test_fma_next_to_half_way(sign: int) -> None:
    """The product lacks so little of half a unit that a wider sum is half-way: 1 + u is nearest."""
    u, v = 2.0**-23, 2.0**-52
    singles = np.array([sign * 2.0**-12 * (1 + u)], np.float32)
    assert box_muller.fma_f32(singles, 2.0**-12 * (1 - u), 1 + u).tolist() == [1 + u]
    doubles = np.array([sign * 2.0**-26 * (1 + v)])
    assert box_muller.fma_f64(doubles, 2.0**-27 * (1 - v), 1 + v).tolist() == [1 + v]


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64])
def test_seeds_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match=r"expected a seed in \[-2\*\*63, 2\*\*64\)"):
        mt19937.seed_state(seed)


def test_states_travel_to_pytorch_and_back(torch: Any) -> None:
    torch.manual_seed(9)
    for size in (0, 3, 10, 615, 1, 16):  # spares, a block's end
        torch.randn(size)
        data = torch_state(torch)
        state = mt19937.from_torch_state(data)
        assert_same_bits(mt19937.to_torch_state(state), data)
        assert mt19937.initial_seed(state) == torch.initial_seed() == 9
    for _ in range(3):
        state = mt19937.normal(state, (7,), dtypes.f32)[1]
    torch.set_rng_state(torch.from_numpy(mt19937.to_torch_state(state)))
    assert_same_bits(
        mt19937.normal(state, (9,), dtypes.f64)[0], torch.randn(9, dtype=torch.float64).numpy()
    )


@pytest.mark.parametrize("spoil", [lambda d: d[:-1], np.zeros_like, lambda d: d.astype(np.int16)])
def test_bad_torch_states_are_refused(spoil: Callable[[Array], Array]) -> None:
    with pytest.raises(RuntimeError, match="RNG state"):
        mt19937.from_torch_state(spoil(mt19937.to_torch_state(seeded(0))))


def test_a_small_draw_twists_only_when_the_block_is_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    extend = mt19937._extend

    def counted(block: Array, blocks: int) -> Array:
        made.append(blocks)
        return extend(block, blocks)

    monkeypatch.setattr(mt19937, "_extend", counted)
    state = seeded(0)
    for _ in range(62 * 3 + 1):
        state = mt19937.uniform(state, (10,), dtypes.f32)[1]
    assert made == [1, 1, 1]


# ---- native code


class Kernel(NamedTuple):
    """An emitter, NumPy's name of what it writes, its further arguments, and its reference."""

    emit: Callable[[ir.Module], ir.Function]
    output: str
    args: tuple[int | float, ...]
    reference: Callable[[State, int], Result]


def _floating(
    emit: Callable[[ir.Module, DType], ir.Function],
    reference: Callable[..., Result],
    dtype: DType,
    *args: float,
) -> Kernel:
    return Kernel(
        lambda module: emit(module, dtype),
        dtype.long_name,
        args,
        lambda state, n: reference(state, *args, (n,), dtype),
    )


def _integers(low: int, high: int) -> Kernel:
    def reference(state: State, n: int) -> Result:
        return mt19937.integers(state, low, high, (n,), dtypes.i64)

    return Kernel(native_random.emit_integers, "int64", (low, high), reference)


NATIVE = {
    "integers": _integers(-5, 17),
    "integers_wide": _integers(-(2**62), 2**62 + 9),
    "permutation": Kernel(native_random.emit_permutation, "int64", (), mt19937.permutation),
    "bernoulli": Kernel(
        native_random.emit_bernoulli, "bool", (0.3,), lambda s, n: mt19937.bernoulli(s, 0.3, (n,))
    ),
}
for _dtype in FLOATS:
    NATIVE |= {
        f"uniform_{_dtype.name}": _floating(native_random.emit_uniform, mt19937.uniform, _dtype),
        f"normal_{_dtype.name}": _floating(native_random.emit_normal, mt19937.normal, _dtype),
        f"uniform_between_{_dtype.name}": _floating(
            native_random.emit_uniform_between, mt19937.uniform_between, _dtype, -0.37, 1.9
        ),
        f"uniform_rounded_up_{_dtype.name}": _floating(
            native_random.emit_uniform_between,
            mt19937.uniform_between,
            _dtype,
            1.0,
            _just_above_one(_dtype),
        ),
        f"normal_scaled_{_dtype.name}": _floating(
            native_random.emit_normal_scaled, mt19937.normal_scaled, _dtype, 0.3, 1.7
        ),
    }


def _module() -> ir.Module:
    """All emitters in one module, each behind an exported function of the record's name."""
    module = ir.Module()
    for name, kernel in NATIVE.items():
        function = kernel.emit(module)
        assert kernel.emit(module) is function
        export = ir.Function(module, function.function_type, name)
        builder = ir.IRBuilder(export.append_basic_block())
        builder.call(function, export.args)
        builder.ret_void()
    return module


class Native:
    """The module compiled and linked against EXTERNS alone."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features().flatten()
        target = llvm.Target.from_default_triple()

        def machine() -> Any:
            return target.create_target_machine(
                llvm.get_host_cpu_name(), features, opt=3, jit=True, reloc="pic", codemodel="small"
            )

        module = llvm.parse_assembly(str(_module()))
        module.verify()
        module.triple = llvm.get_process_triple()
        module.data_layout = str(machine().target_data)
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        passes = llvm.create_pass_builder(machine(), options)
        passes.getModulePassManager().run(module, passes)
        library = llvm.JITLibraryBuilder().add_object_img(machine().emit_object(module))
        libm = ctypes.CDLL(ctypes.util.find_library("m"))
        for symbol in native_random.EXTERNS:
            address = ctypes.cast(getattr(libm, symbol), ctypes.c_void_p).value
            library.import_symbol(symbol, address)
        for name in NATIVE:
            library.export_symbol(name)
        self._compiler = llvm.create_lljit_compiler(machine(), suppress_errors=True)
        self._code = library.link(self._compiler, "random")

    def call(self, name: str, state: State, size: int, *, in_place: bool) -> Result:
        """Draw into the middle of a larger array, whose rest must stay as it is."""
        _, dtype, args, _ = NATIVE[name]
        kinds = [ctypes.c_double if isinstance(a, float) else ctypes.c_int64 for a in args]
        pointers = [ctypes.c_void_p] * 3
        function = ctypes.CFUNCTYPE(None, *pointers, ctypes.c_int64, *kinds)(self._code[name])
        before = state.copy()
        after = before if in_place else np.zeros_like(before)
        out = np.ones(size + 2, dtype)
        begin = out[1:].ctypes.data
        function(before.ctypes.data, after.ctypes.data, begin, size, *args)
        assert (out[0], out[-1]) == (1, 1)
        if not in_place:
            assert_same_bits(before, state)
        return out[1:-1], after


@pytest.fixture(scope="module")
def native() -> Native:
    return Native()


@pytest.mark.parametrize("name", NATIVE)
def test_native_code_equals_the_reference(native: Native, name: str) -> None:
    for seed in (0, 1, -7, 2**63 + 5):
        state = seeded(seed)
        for size in (*SIZES[:-1], 623, 1023, 1024, 1025, 3000):
            expected, following = NATIVE[name].reference(state, size)
            for in_place in (False, True):
                actual, after = native.call(name, state, size, in_place=in_place)
                assert_same_bits(actual, expected)
                assert_same_bits(after, following)
            state = frozen(following)


def test_native_draws_mix(native: Native) -> None:
    choice = np.random.default_rng(1)
    state = seeded(8)
    for name in choice.choice(list(NATIVE), 300):
        size = int(choice.choice([0, 1, 3, 5, 20, 33, 300]))
        expected, following = NATIVE[name].reference(state, size)
        actual, state = native.call(name, state, size, in_place=True)
        assert_same_bits(actual, expected)
        assert_same_bits(state, following)
