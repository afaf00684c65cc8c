"""The LLVM back end: kernels, steps and products built by hand, compiled, compared with NumPy.

What must not depend on the machine, on vector width or on a size being static is compared bit for
bit; `interpret` says in which order reductions add up.
"""

from __future__ import annotations

import ctypes
import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from taut.compiler import dtypes
from taut.compiler.aval import Aval, Dim, evaluate_dim, symbol
from taut.compiler.codegen.flatten import flatten
from taut.compiler.codegen.llvm import emit_llvm
from taut.compiler.codegen.spec import ProgramSpec
from taut.compiler.codegen.vector_math import ULP
from taut.compiler.dtypes import DType
from taut.compiler.errors import CompileError
from taut.compiler.primitive import Elementwise, all_primitives, get
from taut.compiler.schedule.interpret import run_kernel
from taut.compiler.schedule.loops import (
    Compute,
    Const,
    Index,
    Instruction,
    Kernel,
    KernelBuffer,
    Lanes,
    Load,
    Position,
    Reduce,
    Stage,
    Store,
)
from taut.compiler.schedule.program import (
    Buffer,
    MatrixView,
    Program,
    RunCall,
    RunCheck,
    RunCopy,
    RunKernel,
    RunMatmul,
    Step,
)
from taut.compiler.target import CHUNK, Target
from taut.runtime.host import host_target
from taut.runtime.native import emit_object, link

Array = np.ndarray[Any, np.dtype[Any]]
F32, F64, I64, BOOL = dtypes.f32, dtypes.f64, dtypes.i64, dtypes.boolean
N = symbol("n")


def narrow_target() -> Target:
    """This machine without its widest vectors."""
    host = host_target()
    kept = [f for f in host.features.split(",") if not f.startswith(("+avx512", "+evex512"))]
    off = [f"-{f[1:]}" for f in host.features.split(",") if f.startswith("+avx512")]
    return replace(host, features=",".join(kept + off), vector_bits=256)


TARGETS = [pytest.param(host_target(), id="host"), pytest.param(narrow_target(), id="narrow")]

# --- building and running -------------------------------------------------------------------------


class Sketch:
    """A kernel being written."""

    def __init__(
        self, *extents: Dim, lanes: Lanes = "outer", symbols: tuple[str, ...] = ()
    ) -> None:
        self.extents, self.lanes, self.symbols = extents, lanes, symbols
        self.buffers: list[KernelBuffer] = []
        self.stages: list[tuple[tuple[Dim, ...], list[Instruction]]] = [((), [])]
        self.dtypes: list[DType] = []

    def read(self, dtype: DType = F32) -> int:
        self.buffers.append(KernelBuffer(f"in{len(self.buffers)}", dtype, False))
        return len(self.buffers) - 1

    def write(self, dtype: DType = F32) -> int:
        self.buffers.append(KernelBuffer(f"out{len(self.buffers)}", dtype, True))
        return len(self.buffers) - 1

    def stage(self, *extents: Dim) -> None:
        self.stages.append((extents, []))

    def _new(self, dtype: DType) -> int:
        self.dtypes.append(dtype)
        return len(self.dtypes) - 1

    def _add(self, instruction: Any) -> int:
        self.stages[-1][1].append(instruction)
        return int(instruction.register)

    def load(
        self, buffer: int, *index: Dim, offset: Dim = 0, data: tuple[tuple[int, Dim], ...] = ()
    ) -> int:
        dtype = self.buffers[buffer].dtype
        return self._add(Load(self._new(dtype), buffer, Index(offset, index, data), dtype))

    def const(self, value: Any, dtype: DType = F32) -> int:
        return self._add(Const(self._new(dtype), value, dtype))

    def position(self, *index: Dim, dtype: DType = I64) -> int:
        return self._add(Position(self._new(dtype), Index(0, index), dtype))

    def op(self, name: str, *operands: int, dtype: DType | None = None) -> int:
        source = self.dtypes[operands[-1]]
        result = dtype or source
        return self._add(Compute(self._new(result), name, operands, source, result))

    def reduce(self, combine: str, operand: int, dtype: DType | None = None) -> int:
        source = self.dtypes[operand]
        result = dtype or source
        return self._add(Reduce(self._new(result), combine, operand, source, result))

    def store(
        self,
        buffer: int,
        value: int,
        *index: Dim,
        offset: Dim = 0,
        data: tuple[tuple[int, Dim], ...] = (),
        combine: Literal["set", "add"] = "set",
    ) -> None:
        where, dtype = Index(offset, index, data), self.buffers[buffer].dtype
        self.stages[-1][1].append(Store(buffer, where, value, dtype, combine))

    def kernel(self, name: str = "kernel") -> Kernel:
        stages = tuple(Stage(e, tuple(body)) for e, body in self.stages if body)
        buffers = tuple(self.buffers)
        return Kernel(name, buffers, self.extents, stages, self.lanes, self.symbols)


def program_of(kernel: Kernel, shapes: Sequence[tuple[Dim, ...]]) -> Program:
    """A program that runs one kernel: buffers that it writes are outputs."""
    avals = [Aval(b.dtype, shape) for b, shape in zip(kernel.buffers, shapes, strict=True)]
    sides: dict[bool, list[Aval]] = {False: [], True: []}
    buffers = []
    for buffer, aval in zip(kernel.buffers, avals, strict=True):
        side = sides[buffer.written]
        kind: Any = "output" if buffer.written else "input"
        buffers.append(Buffer(buffer.name, aval, kind, len(side)))
        side.append(aval)
    steps = (RunKernel(kernel, tuple(range(len(buffers)))),)
    return make_program(buffers, steps, symbols=kernel.symbols)


def make_program(
    buffers: Sequence[Buffer],
    steps: Sequence[Step],
    donations: tuple[int | None, ...] | None = None,
    symbols: tuple[str, ...] = (),
) -> Program:
    """A program over buffers; each temporary has a slot of its own."""
    by_kind = {
        kind: [b.aval for b in buffers if b.kind == kind] for kind in ("input", "output", "temp")
    }
    return Program(
        "program",
        tuple(by_kind["input"]),
        tuple(by_kind["output"]),
        donations or (None,) * len(by_kind["output"]),
        tuple(buffers),
        tuple(aval.nbytes for aval in by_kind["temp"]),
        tuple(steps),
        ("check 0", "check 1"),
        symbols,
    )


class Native:
    """A compiled program."""

    def __init__(
        self,
        program: Program,
        target: Target | None = None,
        externs: Any = None,
        parts: Sequence[int] = (),
    ) -> None:
        """`parts` splits the call of the one kernel at these points of its first loop."""
        target = target or host_target()
        self.spec: ProgramSpec = emit_llvm(program, target)
        source = self.spec.source
        if parts:
            (call,) = re.findall(rf"  call .*i64 0, i64 {parts[-1]}\)\n", source)
            whole = f"i64 0, i64 {parts[-1]})"
            ranges = [f"i64 {i}, i64 {j})" for i, j in itertools.pairwise(parts)]
            source = source.replace(call, "".join(call.replace(whole, r) for r in ranges))
        image = emit_object(source, target, 1, self.spec.externs)
        address, self._keep = link([image], self.spec.entry, externs or {})
        self._entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(address)

    def __call__(self, *arrays: Array, **sizes: int) -> int:
        """Runs on the inputs, then the outputs that are not donated; the program's result."""
        layout, spec = self.spec.layout, self.spec
        table = np.zeros(layout.words, np.int64)
        words = [*layout.inputs, *(w for w in layout.outputs if w is not None)]
        slots = [np.full(evaluate_dim(s, sizes), 0xA5, np.uint8) for s in spec.slots]
        for word, array in zip([*words, *layout.slots], [*arrays, *slots], strict=True):
            assert array.flags.c_contiguous
            table[word] = array.ctypes.data
        for word, name in zip(layout.symbols, spec.symbols, strict=True):
            table[word] = sizes[name]
        result = self._entry(table.ctypes.data)
        assert table[0] == 1
        return int(result)


def run(kernel: Kernel, *arrays: Array, target: Target | None = None, **sizes: int) -> None:
    """Compiles one kernel and runs it on the arrays of its buffers."""
    native = Native(program_of(kernel, [a.shape for a in arrays]), target)
    written = [b.written for b in kernel.buffers]
    order = sorted(range(len(arrays)), key=lambda i: written[i])
    assert native(*(arrays[i] for i in order), **sizes) == 0


def meaning(kernel: Kernel, *arrays: Array, **sizes: int) -> list[Array]:
    """What the kernel does to copies of the arrays."""
    copies = [a.copy() for a in arrays]
    run_kernel(kernel, [a.reshape(-1) for a in copies], sizes)
    return copies


def random(shape: Any, dtype: DType = F32, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if dtype.kind == "float":
        return np.asarray(rng.standard_normal(shape) * 3).astype(dtype.numpy)
    if dtype.kind == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    low, high = (0, 200) if dtype.kind == "uint" else (-100, 100)
    return np.asarray(rng.integers(low, high, shape)).astype(dtype.numpy)


def assert_same(actual: Array, expected: Array) -> None:
    """Equal bit for bit, but for what kind of nan a nan is."""
    np.testing.assert_array_equal(actual, expected)
    if actual.dtype.kind == "f":
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual)[numbers], np.signbit(expected)[numbers])


# --- elementwise ----------------------------------------------------------------------------------


def sums_of(*extents: Dim, symbols: tuple[str, ...] = ()) -> Kernel:
    """out = a + b over contiguous arrays."""
    steps = [1]
    for extent in reversed(extents[1:]):
        steps.insert(0, extent * steps[0])  # type: ignore[arg-type]  # ints but in the first place
    k = Sketch(*extents, symbols=symbols)
    a, b, out = k.read(), k.read(), k.write()
    k.store(out, k.op("add", k.load(a, *steps), k.load(b, *steps)), *steps)
    return k.kernel("sums")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("n", [1, 10, 16, 17, 31, 32, 48, 64, 65, 100, 640])
def test_a_static_loop_in_lanes(n: int, target: Target) -> None:
    a, b, out = random(n + 8), random(n + 8, seed=1), np.full(n + 8, 7, np.float32)
    run(sums_of(n), a, b, out, target=target)
    assert_same(out, np.where(np.arange(n + 8) < n, a + b, np.float32(7)))


@pytest.mark.parametrize("target", TARGETS)
def test_a_symbolic_loop_in_lanes(target: Target) -> None:
    native = Native(program_of(sums_of(N, symbols=("n",)), [(N,)] * 3), target)
    for n in (0, 1, 2, 7, 16, 33, 64, 100):
        a, b, out = random(n), random(n, seed=1), np.full(n + 8, 7, np.float32)
        native(a, b, out, n=n)
        assert_same(out, np.append(a + b, np.full(8, 7, np.float32)))


def test_threads_may_share_a_loop() -> None:
    """Calls for parts of the first loop, which meet at multiples of `CHUNK`."""
    k = Sketch(1000)
    a, out = k.read(dtypes.u8), k.write(dtypes.u8)
    k.store(out, k.op("add", k.load(a, 1), k.load(a, 1)), 1)
    native = Native(program_of(k.kernel(), [(1000,)] * 2), parts=(0, 3 * CHUNK, 13 * CHUNK, 1000))
    x, result = random(1000, dtypes.u8), np.zeros(1000, np.uint8)
    native(x, result)
    assert_same(result, x + x)


def test_static_extents_of_one_block_make_no_loop() -> None:
    for n, loops in ((10, 0), (32, 0), (64, 1), (100, 1)):
        text = emit_llvm(program_of(sums_of(n), [(n,)] * 3), host_target()).source
        assert text.count("= phi ") == loops


def test_loops_that_memory_does_not_tell_apart_become_one() -> None:
    assert flatten(sums_of(4, 1, 6, 5)).extents == (120,)
    assert flatten(sums_of(N, 5, symbols=("n",))).extents == (N * 5,)
    k = Sketch(4, 6)
    a, out = k.read(), k.write()
    k.store(out, k.load(a, 0, 1), 6, 1)
    assert flatten(k.kernel()).extents == (4, 6)


def test_nested_symbolic_loops_are_joined_and_right() -> None:
    a, b, out = (random((7, 5), seed=i) for i in range(3))
    run(sums_of(N, 5, symbols=("n",)), a, b, out, n=7)
    assert_same(out, a + b)


@pytest.mark.parametrize("shape", [(3, 5), (20, 33), (1, 40), (40, 1)])
def test_index_maps(shape: tuple[int, int]) -> None:
    """Broadcast, transposed, reversed and strided operands in one kernel."""
    rows, columns = shape
    k = Sketch(rows, columns)
    row, turned, flipped, every = k.read(), k.read(), k.read(), k.read()
    out = k.write()
    total = k.op("add", k.load(row, 0, 1), k.load(turned, 1, rows))
    total = k.op("add", total, k.load(flipped, columns, -1, offset=columns - 1))
    total = k.op("add", total, k.load(every, 2 * columns, 2, offset=1))
    k.store(out, total, columns, 1)
    arrays = random(columns), random((columns, rows)), random(shape, seed=2)
    wide, result = random((rows, 2 * columns), seed=3), np.zeros(shape, np.float32)
    run(k.kernel(), *arrays, wide, result)
    expected = arrays[0] + arrays[1].T + arrays[2][:, ::-1] + wide[:, 1::2]
    assert_same(result, expected)


@pytest.mark.parametrize("n", [5, 16, 40])
def test_stores_in_other_orders(n: int) -> None:
    """Reversed, strided and scattered positions; bools lie in memory as bytes."""
    k = Sketch(n)
    a, order = k.read(), k.read(I64)
    reverse, strided, scattered, positive = k.write(), k.write(), k.write(), k.write(BOOL)
    value = k.load(a, 1)
    k.store(reverse, value, -1, offset=n - 1)
    k.store(strided, value, 3, offset=2)
    k.store(scattered, value, 0, data=((k.load(order, 1), 1),))
    k.store(positive, k.op("lt", k.const(0.0), value, dtype=BOOL), -1, offset=n - 1)
    x, places = random(n), np.random.default_rng(1).permutation(n)
    outs = [np.zeros(size, np.float32) for size in (n, 3 * n, n)]
    flags = np.zeros(n, bool)
    run(k.kernel(), x, places, *outs, flags)
    assert_same(outs[0], x[::-1])
    assert_same(outs[1].reshape(n, 3)[:, 2], x)
    assert_same(outs[2][places], x)
    assert_same(flags, (x > 0)[::-1])


def cases() -> list[Any]:
    """Each elementwise primitive at each dtype that it has code for."""
    found = []
    for primitive in all_primitives():
        lowering = primitive.lowering
        if not isinstance(lowering, Elementwise) or primitive.name in ("cast", "select"):
            continue
        found += [
            pytest.param(primitive.name, d, id=f"{primitive.name}-{d.name}")
            for d in dtypes.ALL
            if {d.kind, "any"} & lowering.llvm.keys() and accepts(primitive.name, d)
        ]
    return found


def accepts(name: str, dtype: DType) -> bool:
    arity = 2 if "{1}" in get(name).lowering.python else 1  # type: ignore[union-attr]
    try:
        get(name).type_rule(*[Aval(dtype, (1,))] * arity)
    except Exception:  # noqa: BLE001  # the type rule's word is what is asked for
        return False
    return True


def operands_of(name: str, dtype: DType, count: int) -> list[Array]:
    """Numbers of every kind, zeros, extremes and (of floats) nan and infinities."""
    if dtype.kind == "float":
        special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 2.5, -2.5, 1e4, -3.5]
        first = np.concatenate([np.repeat(special, len(special)), random(57, F64)])
        second = np.concatenate([np.tile(special, len(special)), random(57, F64, 1)])
    elif dtype.kind == "bool":
        return [random(200, dtype, i) for i in range(count)]
    else:
        ends = np.iinfo(dtype.long_name)
        special = [ends.min, ends.max, 0, 1, 2, 3, 7, ends.max - 1]
        special += [-1, -2, -7] if dtype.kind == "int" else []
        first = np.repeat(special, len(special)).astype(dtype.numpy)
        second = np.tile(special, len(special)).astype(dtype.numpy)
        if name == "pow":
            second = np.abs(second % dtype.numpy.type(20))
    return [first.astype(dtype.numpy), second.astype(dtype.numpy)][:count]


def wide_enough(primitive: str, dtype: DType) -> float:
    """Relative tolerance: what vector mathematics promises, and what NumPy may be off."""
    compute = F32 if dtype is dtypes.f16 else dtype
    ulps = ULP.get((primitive, compute.name), 0.0)
    exact = dtype.kind != "float" or (ulps == 0 and dtype is not dtypes.f16)
    return 0.0 if exact else (ulps + 4) * float(np.finfo(dtype.long_name).eps)


@pytest.mark.parametrize(("name", "dtype"), cases())
def test_every_elementwise_primitive(name: str, dtype: DType) -> None:
    primitive = get(name)
    arity = 2 if "{1}" in primitive.lowering.python else 1  # type: ignore[union-attr]
    operands = operands_of(name, dtype, arity)
    with np.errstate(all="ignore"):
        expected = np.asarray(primitive.reference(*operands))
    result = dtypes.from_numpy(expected.dtype)
    k = Sketch(len(expected))
    inputs, out = [k.read(dtype) for _ in operands], k.write(result)
    k.store(out, k.op(name, *(k.load(i, 1) for i in inputs), dtype=result), 1)
    actual = np.zeros_like(expected)
    run(k.kernel(name), *operands, actual)
    rtol = wide_enough(name, dtype)
    if rtol == 0:
        assert_same(actual, expected) if name not in ("maximum", "minimum") else (
            np.testing.assert_array_equal(actual, expected)
        )
        return
    tiny = float(np.finfo(dtype.long_name).smallest_subnormal)
    np.testing.assert_allclose(
        actual.astype(float), expected.astype(float), rtol=rtol, atol=2 * tiny
    )


@pytest.mark.parametrize(
    ("source", "target"),
    list(itertools.product(dtypes.ALL, repeat=2)),
    ids=lambda d: d.name,
)
def test_casts(source: DType, target: DType) -> None:
    if source.kind == "float" and target.kind in ("int", "uint"):
        x = np.array([0, -0.0, 1.5, -1.5, 99.99, 0.99, 100], source.numpy)
        x = np.abs(x) if target.kind == "uint" else x
    else:
        (x,) = operands_of("cast", source, 1)
    k = Sketch(len(x))
    a, out = k.read(source), k.write(target)
    k.store(out, k.op("cast", k.load(a, 1), dtype=target), 1)
    actual = np.zeros(len(x), target.numpy)
    run(k.kernel(), x, actual)
    with np.errstate(all="ignore"):
        assert_same(actual, x.astype(target.numpy))


def test_floats_beyond_an_integer_saturate() -> None:
    k = Sketch(5)
    a, signed, unsigned = k.read(), k.write(dtypes.i32), k.write(dtypes.u8)
    x = k.load(a, 1)
    k.store(signed, k.op("cast", x, dtype=dtypes.i32), 1)
    k.store(unsigned, k.op("cast", x, dtype=dtypes.u8), 1)
    numbers, bytes_ = np.zeros(5, np.int32), np.zeros(5, np.uint8)
    run(k.kernel(), np.array([1e20, -1e20, np.nan, np.inf, -3.9], np.float32), numbers, bytes_)
    top = 2**31 - 1
    assert numbers.tolist() == [top, -top - 1, 0, top, -3]
    assert bytes_.tolist() == [255, 0, 0, 255, 0]


def test_f64_becomes_f16_with_one_rounding() -> None:
    x = np.array([1 + 2**-11 + 2**-40, 1 + 2**-11, 65519.999999, 2.0**-25 * (1 + 2**-30), 1e300])
    k = Sketch(len(x))
    a, out = k.read(F64), k.write(dtypes.f16)
    k.store(out, k.op("cast", k.load(a, 1), dtype=dtypes.f16), 1)
    actual = np.zeros(len(x), np.float16)
    run(k.kernel(), x, actual)
    with np.errstate(over="ignore"):
        assert_same(actual, x.astype(np.float16))


def test_integer_division_never_traps() -> None:
    x = np.array([5, -5, 0, -(2**31), -(2**31)], np.int32)
    y = np.array([0, 0, 0, -1, 0], np.int32)
    k = Sketch(5)
    a, b = k.read(dtypes.i32), k.read(dtypes.i32)
    quotient, rest = k.write(dtypes.i32), k.write(dtypes.i32)
    left, right = k.load(a, 1), k.load(b, 1)
    k.store(quotient, k.op("floordiv", left, right), 1)
    k.store(rest, k.op("rem", left, right), 1)
    quotients, rests = np.ones(5, np.int32), np.ones(5, np.int32)
    run(k.kernel(), x, y, quotients, rests)
    assert quotients.tolist() == [0, 0, 0, -(2**31), 0]
    assert rests.tolist() == [0, 0, 0, 0, 0]


def test_select_takes_a_condition_that_is_the_same_for_all_lanes() -> None:
    k = Sketch(20)
    flag, a, b, out = k.read(BOOL), k.read(), k.read(), k.write()
    k.store(out, k.op("select", k.load(flag, 0), k.load(a, 1), k.load(b, 1)), 1)
    x, y, result = random(20), random(20, seed=1), np.zeros(20, np.float32)
    for value in (True, False):
        run(k.kernel(), np.array([value]), x, y, result)
        assert_same(result, x if value else y)


def test_products_and_sums_are_rounded_one_after_the_other() -> None:
    k = Sketch(100)
    a, b, c, out = k.read(), k.read(), k.read(), k.write()
    k.store(out, k.op("add", k.op("mul", k.load(a, 1), k.load(b, 1)), k.load(c, 1)), 1)
    x, y, z = (random(100, seed=i) for i in range(3))
    result = np.zeros(100, np.float32)
    run(k.kernel(), x, y, z, result)
    assert_same(result, x * y + z)


def test_positions_are_numbers() -> None:
    k = Sketch(3, 20)
    out, halves = k.write(I64), k.write()
    k.store(out, k.position(100, 1), 20, 1)
    k.store(halves, k.op("mul", k.position(0, 1, dtype=F32), k.const(0.5)), 20, 1)
    numbers, floats = np.zeros((3, 20), np.int64), np.zeros((3, 20), np.float32)
    run(k.kernel(), numbers, floats)
    assert_same(numbers, np.arange(3)[:, None] * 100 + np.arange(20))
    assert_same(floats, np.broadcast_to(np.arange(20, dtype=np.float32) / 2, (3, 20)))


@pytest.mark.parametrize("lanes", ["outer", "inner", "none"])
def test_rows_at_positions_that_are_data(lanes: Lanes) -> None:
    k = Sketch(50, 20, lanes=lanes)
    table, which, out = k.read(), k.read(I64), k.write()
    k.store(out, k.load(table, 0, 1, data=((k.load(which, 1, 0), 20),)), 20, 1)
    rows, chosen = random((30, 20)), np.random.default_rng(0).integers(0, 30, 50)
    result = np.zeros((50, 20), np.float32)
    run(k.kernel(), rows, chosen, result)
    assert_same(result, rows[chosen])


# --- reductions -----------------------------------------------------------------------------------


def reduction(
    combine: str, rows: Dim, columns: Dim, lanes: Lanes, dtype: DType = F32, axis: int = 1
) -> Kernel:
    """The rows (axis 1) or the columns of a matrix combined."""
    names = tuple(str(d) for d in (rows, columns) if not isinstance(d, int))
    outer, inner = (rows, columns) if axis else (columns, rows)
    k = Sketch(outer, lanes=lanes, symbols=names)
    result = I64 if combine == "argmax" else dtype
    a, out = k.read(dtype), k.write(result)
    k.stage(inner)
    value = k.load(a, columns, 1) if axis else k.load(a, 1, columns)
    total = k.reduce(combine, value, result)
    k.stage()
    k.store(out, total, 1)
    return k.kernel(combine)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("lanes", ["outer", "inner", "none"])
def test_sums_have_one_order(lanes: Lanes, target: Target) -> None:
    """Equal to `interpret` bit for bit: on each machine, with static and with symbolic sizes."""
    symbolic = Native(program_of(reduction("add", 20, N, lanes), [(20, N), (20,)]), target)
    for columns in (1, 2, 10, 16, 17, 64, 65, 100, 200):
        x, result = random((20, columns)) * 100, np.zeros(20, np.float32)
        kernel = reduction("add", 20, columns, lanes)
        _, expected = meaning(kernel, x, result)
        run(kernel, x, result, target=target)
        assert_same(result, expected)
        symbolic(x, result, n=columns)
        assert_same(result, expected)


def test_the_sum_of_nothing_and_of_negative_zeros_is_zero() -> None:
    for lanes, n in itertools.product(("outer", "inner", "none"), (0, 3, 16)):
        native = Native(program_of(reduction("add", 20, N, lanes), [(20, N), (20,)]))  # type: ignore[arg-type]
        result = np.ones(20, np.float32)
        native(np.full((20, n), -0.0, np.float32), result, n=n)
        assert_same(result, np.zeros(20, np.float32))


@pytest.mark.parametrize(("lanes", "axis"), [("inner", 1), ("outer", 0), ("outer", 1), ("none", 1)])
@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_reductions_of_every_dtype(dtype: DType, lanes: Lanes, axis: int) -> None:
    """All of them in one stage."""
    combines = ["max", "min", "argmax"] + ["add", "mul"] * (dtype is not BOOL)
    results = [I64 if c == "argmax" else dtype for c in combines]
    k = Sketch(12, lanes=lanes)
    a, outs = k.read(dtype), [k.write(d) for d in results]
    k.stage(70)
    value = k.load(a, 70, 1) if axis else k.load(a, 1, 12)
    totals = [k.reduce(c, value, d) for c, d in zip(combines, results, strict=True)]
    k.stage()
    for out, total in zip(outs, totals, strict=True):
        k.store(out, total, 1)
    arrays = [random(840, dtype), *(np.zeros(12, d.numpy) for d in results)]
    with np.errstate(over="ignore"):
        expected = meaning(k.kernel(), *arrays)
    run(k.kernel(), *arrays)
    for actual, wanted in zip(arrays, expected, strict=True):
        assert_same(actual, wanted)


@pytest.mark.parametrize("lanes", ["outer", "inner", "none"])
def test_extremes_with_nan_and_ties(lanes: Lanes) -> None:
    x = np.zeros((5, 40), np.float32)
    x[1, [7, 30]] = 3, 3
    x[2, [5, 9, 33]] = np.nan, np.inf, np.nan
    x[3] = -np.inf
    x[4, 39] = 1
    where, largest = np.zeros(5, np.int64), np.zeros(5, np.float32)
    run(reduction("argmax", 5, 40, lanes), x, where)
    run(reduction("max", 5, 40, lanes), x, largest)
    assert where.tolist() == [0, 7, 5, 0, 39]
    np.testing.assert_array_equal(largest, x.max(1))


def test_the_elements_of_a_reduction_may_have_several_loops() -> None:
    k = Sketch(6, lanes="inner")
    a, out = k.read(), k.write()
    k.stage(7, 30)
    total = k.reduce("add", k.load(a, 210, 30, 1))
    k.stage()
    k.store(out, total, 1)
    x, result = random((6, 7, 30)), np.zeros(6, np.float32)
    _, expected = meaning(k.kernel(), x, result)
    run(k.kernel(), x, result)
    assert_same(result, expected)


@pytest.mark.parametrize("n", [10, 70, 80, 100])
def test_a_reduced_value_may_be_the_same_for_all_lanes(n: int) -> None:
    k = Sketch(3, lanes="inner")
    a, out, where = k.read(), k.write(), k.write(I64)
    k.stage(n)
    value = k.load(a, 1, 0)
    total, first = k.reduce("add", value), k.reduce("argmax", value, I64)
    k.stage()
    k.store(out, total, 1)
    k.store(where, first, 1)
    x, result, places = random(3), np.zeros(3, np.float32), np.ones(3, np.int64)
    _, expected, _ = meaning(k.kernel(), x, result, places)
    run(k.kernel(), x, result, places)
    assert_same(result, expected)
    assert not places.any()


def softmax(rows: Dim, columns: Dim, lanes: Lanes, axis: int = 1) -> Kernel:
    """Three stages: maximum, sum of exponentials, quotient."""
    names = tuple(str(d) for d in (rows, columns) if not isinstance(d, int))
    k = Sketch(rows if axis else columns, lanes=lanes, symbols=names)
    inner = columns if axis else rows
    index = (columns, 1) if axis else (1, columns)
    x, y = k.read(), k.write()
    k.stage(inner)
    largest = k.reduce("max", k.load(x, *index))
    k.stage(inner)
    total = k.reduce("add", k.op("exp", k.op("sub", k.load(x, *index), largest)))
    k.stage(inner)
    power = k.op("exp", k.op("sub", k.load(x, *index), largest))
    k.store(y, k.op("div", power, total), *index)
    return k.kernel("softmax")


@pytest.mark.parametrize(("lanes", "axis"), [("inner", 1), ("outer", 0), ("outer", 1), ("none", 1)])
def test_softmax_and_in_place(lanes: Lanes, axis: int) -> None:
    native = Native(program_of(softmax(N, 33, lanes, axis), [(N, 33)] * 2))
    for rows in (1, 2, 7, 33):
        x, y = random((rows, 33)), np.zeros((rows, 33), np.float32)
        native(x, y, n=rows)
        power = np.exp(x.astype(float) - x.max(axis, keepdims=True))
        # one exponential, a sum of 33 and a quotient
        np.testing.assert_allclose(y, power / power.sum(axis, keepdims=True), rtol=1e-5)
        native(x, x, n=rows)
        assert_same(x, y)


def test_scatter_adds_in_order() -> None:
    k = Sketch(100, lanes="none")
    rows, which, out = k.read(), k.read(I64), k.write()
    k.store(out, k.load(rows, 1), 0, data=((k.load(which, 1), 1),), combine="add")
    values, places = random(100) * 1e3, np.random.default_rng(0).integers(0, 7, 100)
    result = random(7, seed=1)
    expected = result.copy()
    np.add.at(expected, places, values)
    run(k.kernel(), values, places, result)
    assert_same(result, expected)


def test_lanes_that_would_collide_are_refused() -> None:
    k = Sketch(100)
    rows, which, out = k.read(), k.read(I64), k.write()
    k.store(out, k.load(rows, 1), 0, data=((k.load(which, 1), 1),), combine="add")
    program = program_of(k.kernel(), [(100,), (100,), (7,)])
    with pytest.raises(CompileError, match="lanes write to one place"):
        emit_llvm(program, host_target())


def test_vectors_are_added_to_memory() -> None:
    k = Sketch(50)
    a, out = k.read(), k.write()
    k.store(out, k.load(a, 1), 2, combine="add")
    x, result = random(50), random(100, seed=1)
    expected = result.copy()
    expected[::2] += x
    run(k.kernel(), x, result)
    assert_same(result, expected)


# --- programs -------------------------------------------------------------------------------------


def doubled(n: Dim, name: str = "double") -> Kernel:
    k = Sketch(n)
    a, out = k.read(), k.write()
    x = k.load(a, 1)
    k.store(out, k.op("add", x, x), 1)
    return k.kernel(name)


def vector_buffer(name: str, kind: Any, position: int, n: int = 20) -> Buffer:
    return Buffer(name, Aval(F32, (n,)), kind, position)


def test_steps_run_in_order_and_equal_kernels_are_one() -> None:
    buffers = [
        vector_buffer("x", "input", 0),
        vector_buffer("a", "temp", 0),
        vector_buffer("b", "temp", 1),
        vector_buffer("y", "output", 0),
    ]
    pairs = [(0, 1, "first"), (1, 2, "second"), (2, 3, "third")]
    program = make_program(buffers, [RunKernel(doubled(20, name), (i, j)) for i, j, name in pairs])
    native = Native(program)
    x, y = random(20), np.zeros(20, np.float32)
    native(x, y)
    assert_same(y, x * 8)
    assert native.spec.source.count("define void") == 1
    assert "noalias" in native.spec.source


def test_a_donated_input_is_updated_in_place() -> None:
    buffers = [vector_buffer("w", "input", 0), vector_buffer("new", "output", 0)]
    program = make_program(buffers, [RunKernel(doubled(20), (0, 1))], donations=(0,))
    native = Native(program)
    w = random(20)
    before = w.copy()
    native(w)
    assert_same(w, before * 2)
    assert "noalias" not in native.spec.source


def test_copies_and_checks() -> None:
    flag = Buffer("ok", Aval(BOOL, ()), "input", 0)
    other = Buffer("fine", Aval(BOOL, ()), "input", 1)
    buffers = [flag, other, vector_buffer("x", "input", 2), vector_buffer("y", "output", 0)]
    native = Native(make_program(buffers, [RunCheck(0, 0), RunCheck(1, 1), RunCopy(2, 3)]))
    for first, second in itertools.product((True, False), repeat=2):
        x, y = random(20), np.zeros(20, np.float32)
        result = native(np.array(first), np.array(second), x, y)
        assert result == (1 if not first else 2 if not second else 0)
        assert_same(y, x if first and second else np.zeros(20, np.float32))


def test_sizes_may_be_quotients() -> None:
    half = (N + 1) // 2
    k = Sketch(half, symbols=("n",))
    a, out = k.read(), k.write()
    k.store(out, k.load(a, 2), 1)
    native = Native(program_of(k.kernel(), [(N,), (half,)]))
    for n in (0, 1, 6, 35):
        x, y = random(n), np.zeros((n + 1) // 2, np.float32)
        native(x, y, n=n)
        assert_same(y, x[::2])


def test_text_is_deterministic_and_says_what_it_needs() -> None:
    square, column = Aval(F32, (2, 3, 3)), Aval(F32, (2, 3, 1))
    buffers = [
        Buffer("a", square, "input", 0),
        Buffer("b", column, "input", 1),
        Buffer("x", column, "output", 0),
        Buffer("regular", Aval(BOOL, (2,)), "output", 1),
    ]
    program = make_program(buffers, [RunCall("solve", F32, (0, 1, 2, 3), (2, 3, 1))])
    spec = emit_llvm(program, host_target())
    assert spec == emit_llvm(program, host_target())
    assert (spec.backend, spec.entry) == ("llvm", "taut_program")
    assert spec.externs == ("taut_solve_f32",)
    received: list[tuple[int, ...]] = []
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3)

    def solve(*arguments: int) -> None:
        received.append(arguments)

    callback = signature(solve)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    arrays = [np.zeros([int(d) for d in b.aval.shape], b.aval.dtype.numpy) for b in buffers]
    Native(program, externs={"taut_solve_f32": address})(*arrays)
    assert received == [(*(a.ctypes.data for a in arrays), 2, 3, 1)]


def test_a_function_that_is_not_there_is_named() -> None:
    buffers = [vector_buffer("x", "input", 0), vector_buffer("y", "output", 0)]
    program = make_program(buffers, [RunCall("eigh", F32, (0, 1))])
    with pytest.raises(CompileError, match="no random generator is called eigh"):
        emit_llvm(program, host_target())


@pytest.mark.parametrize(
    ("function", "dtype", "integers", "floats"),
    [
        ("uniform", F32, (), ()),
        ("uniform", F64, (), ()),
        ("normal", F32, (), ()),
        ("uniform", dtypes.f16, (), ()),
        ("normal", dtypes.f16, (), ()),
        ("integers", I64, (-3, 9), ()),
        ("bernoulli", BOOL, (), (0.3,)),
    ],
)
def test_random_numbers(
    function: str, dtype: DType, integers: tuple[int, ...], floats: tuple[float, ...]
) -> None:
    from taut.compiler.primitives import mt19937

    state = mt19937.seed_state(5)
    count = 50
    aval = Aval(dtypes.u32, (mt19937.STATE_WORDS,))
    buffers = [
        Buffer("state", aval, "input", 0),
        Buffer("draws", Aval(dtype, (count,)), "output", 0),
        Buffer("new", aval, "output", 1),
    ]
    step = RunCall(function, dtype, (0, 1, 2), (count, *integers), floats)
    draws, new = np.zeros(count, dtype.numpy), np.zeros_like(state)
    native = Native(make_program(buffers, [step]))
    native(state, draws, new)
    params: dict[str, Any] = {"shape": (count,)}
    params |= dict(zip(("low", "high"), integers, strict=False)) | dict(
        zip("p", floats, strict=False)
    )
    if function in ("uniform", "normal"):
        params["dtype"] = dtype
    expected, expected_state = get(function).reference(state, **params)
    assert_same(draws, expected)
    assert_same(new, expected_state)


# --- matrix products ------------------------------------------------------------------------------


def product(
    m: Dim,
    n: Dim,
    k: Dim,
    turned: tuple[bool, bool, bool] = (False, False, False),
    dtype: DType = F32,
    batch: int = 1,
    symbols: tuple[str, ...] = (),
) -> Program:
    """A program of one batched product; `turned` says which of x, y and out are column-major."""
    sizes = [(m, k), (k, n), (m, n)]
    kinds: list[Any] = [("input", 0), ("input", 1), ("output", 0)]
    buffers = [
        Buffer(name, Aval(dtype, (batch, *size)), *kind)
        for name, size, kind in zip("xyo", sizes, kinds, strict=True)
    ]
    x, y, out = (
        MatrixView(i, 0, rows if column_major else columns, (rows * columns,), column_major)
        for i, ((rows, columns), column_major) in enumerate(zip(sizes, turned, strict=True))
    )
    return make_program(buffers, [RunMatmul(x, y, out, (batch,), m, n, k, dtype)], symbols=symbols)


def stored(matrix: Array, turned: bool) -> Array:
    return np.ascontiguousarray(np.swapaxes(matrix, -1, -2) if turned else matrix)


def sequential(x: Array, y: Array) -> Array:
    """The product as promised: fused multiply-adds over k in order, in blocks of 256."""
    total = None
    for start in range(0, max(x.shape[-1], 1), 256):
        part = np.zeros((x.shape[-2], y.shape[-1]), np.float32)
        for i in range(start, min(start + 256, x.shape[-1])):
            exact = x[:, i, None].astype(float) * y[None, i, :].astype(float)
            part = (exact + part).astype(np.float32)
        total = part if total is None else part + total
    assert total is not None
    return total


SHAPES = [
    (1, 1, 1),
    (3, 5, 7),
    (8, 32, 8),
    (16, 10, 1),
    (16, 1, 10),
    (1, 10, 16),
    (1, 70, 33),
    (17, 33, 19),
    (64, 10, 64),
    (9, 40, 300),
    (30, 70, 600),
    (2, 3, 0),
    (0, 3, 4),
    (3, 0, 4),
    (300, 20, 20),
    (1, 1100, 300),  # one row: more columns, and more of k, than are added up at a time
    (1, 7, 520),
    (7, 33, 40),  # less than a tile's rows
    (400, 130, 300),  # several blocks of rows, packed where x is column-major
    (353, 140, 9),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("turned", list(itertools.product((False, True), repeat=3)))
def test_products_of_every_layout(turned: tuple[bool, bool, bool], target: Target) -> None:
    """One program with symbolic sizes for all shapes: the same bits for each layout and machine."""
    m, n, k = map(symbol, "mnk")
    native = Native(product(m, n, k, turned, symbols=("m", "n", "k")), target)
    for shape in SHAPES:
        rows, columns, inner = shape
        x, y = random((rows, inner)), random((inner, columns), seed=1)
        out = np.full((columns, rows) if turned[2] else (rows, columns), 7, np.float32)
        native(stored(x, turned[0]), stored(y, turned[1]), out, m=rows, n=columns, k=inner)
        assert_same(out.T if turned[2] else out, sequential(x, y))


@pytest.mark.parametrize("shape", [(16, 1, 10), (9, 40, 300), (1, 40, 300)])
def test_static_sizes_give_the_same_bits(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    x, y, out = random((m, k)), random((k, n), seed=1), np.zeros((m, n), np.float32)
    Native(product(m, n, k))(x, y, out)
    assert_same(out, sequential(x, y))


@pytest.mark.parametrize("dtype", [d for d in dtypes.ALL if d is not BOOL], ids=lambda d: d.name)
def test_products_of_every_dtype(dtype: DType) -> None:
    m, n, k = 13, 21, 270
    for first, second in itertools.product((False, True), repeat=2):
        x, y = random((2, m, k), dtype), random((2, k, n), dtype, 1)
        out = np.zeros((2, m, n), dtype.numpy)
        Native(product(m, n, k, (first, second, False), dtype, batch=2))(
            stored(x, first), stored(y, second), out
        )
        if dtype.kind != "float":
            assert_same(out, x @ y)
            continue
        exact = x.astype(float) @ y.astype(float)
        scale = np.abs(x.astype(float)) @ np.abs(y.astype(float))
        eps = float(np.finfo((F32 if dtype is dtypes.f16 else dtype).long_name).eps)
        rounding = float(np.finfo(dtype.long_name).eps)
        # k roundings of the sum, and one of the result
        assert (np.abs(out - exact) <= k * eps * scale + rounding * np.abs(exact)).all()


def test_products_of_bools_are_refused() -> None:
    with pytest.raises(CompileError, match="no product of bools"):
        emit_llvm(product(2, 2, 2, dtype=BOOL), host_target())


def test_matrices_inside_larger_ones() -> None:
    """Offsets, and leading dimensions larger than a row; nothing around the result is touched."""
    x, y, out = random((20, 30)), random((30, 50), seed=1), np.full((25, 60), 7, np.float32)
    shapes = [Aval(F32, a.shape) for a in (x, y, out)]
    buffers = [
        Buffer("x", shapes[0], "input", 0),
        Buffer("y", shapes[1], "input", 1),
        Buffer("out", shapes[2], "output", 0),
    ]
    views = MatrixView(0, 2 * 30 + 3, 30, ()), MatrixView(1, 5, 50, ()), MatrixView(2, 4, 60, ())
    Native(make_program(buffers, [RunMatmul(*views, (), 17, 41, 11, F32)]))(x, y, out)
    expected = np.full((25, 60), 7, np.float32)
    expected[:17, 4:45] = sequential(x[2:19, 3:14], y[:11, 5:46])
    assert_same(out, expected)


def test_one_function_serves_all_products() -> None:
    buffers = [vector_buffer(name, "temp", i, 4096) for i, name in enumerate("abcd")]
    views = [MatrixView(i, 0, 32, ()) for i in range(4)]
    steps = [
        RunMatmul(views[0], views[1], views[2], (), 32, 32, 32, F32),
        RunMatmul(views[2], views[1], views[3], (), 16, 32, 32, F32),
    ]
    text = emit_llvm(make_program(buffers, steps), host_target()).source
    assert text.count('define void @"taut.product_f32"') == 1
    assert text.count('call void @"taut.product_f32"') == 2
    assert "one_row" not in text, "no product here has one row"
