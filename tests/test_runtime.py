"""Options, this machine, native code, and programs that can be called: on LLVM text by hand."""

from __future__ import annotations

import ctypes
import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from taut.compiler.aval import Aval, symbol
from taut.compiler.codegen.calls import parse_symbol
from taut.compiler.codegen.spec import ProgramSpec
from taut.compiler.dtypes import boolean, f16, f32, f64
from taut.compiler.errors import CheckFailed, CompileError, IRError
from taut.compiler.evaluate import evaluate
from taut.compiler.target import Target
from taut.compiler.text.parser import parse_graph
from taut.runtime import externs, host, native
from taut.runtime.compile import compile_graph, compile_keyed, compile_spec
from taut.runtime.executable import Executable, aligned_copy
from taut.runtime.keys import program_key
from taut.runtime.options import Options

B = symbol("B")
UNCACHED = Options(cache=False)

# y[i] = x[i] + x[i] by way of the arena, once the check holds; words: counter, x, ok, y, slot, B
TWICE = """
define i32 @twice(ptr %table) {
entry:
  %count = load i64, ptr %table
  %count.next = add i64 %count, 1
  store i64 %count.next, ptr %table
  %x.at = getelementptr i64, ptr %table, i64 1
  %ok.at = getelementptr i64, ptr %table, i64 2
  %y.at = getelementptr i64, ptr %table, i64 3
  %slot.at = getelementptr i64, ptr %table, i64 4
  %size.at = getelementptr i64, ptr %table, i64 5
  %x = load ptr, ptr %x.at
  %ok = load ptr, ptr %ok.at
  %y = load ptr, ptr %y.at
  %slot = load ptr, ptr %slot.at
  %size = load i64, ptr %size.at
  %flag = load i8, ptr %ok
  %good = icmp ne i8 %flag, 0
  br i1 %good, label %head, label %bad
head:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %body, label %done
body:
  %x.i = getelementptr float, ptr %x, i64 %i
  %slot.i = getelementptr float, ptr %slot, i64 %i
  %y.i = getelementptr float, ptr %y, i64 %i
  %value = load float, ptr %x.i
  %sum = fadd float %value, %value
  store float %sum, ptr %slot.i
  %again = load float, ptr %slot.i
  store float %again, ptr %y.i
  %i.next = add i64 %i, 1
  br label %head
done:
  ret i32 0
bad:
  ret i32 1
}
"""


def twice(**changes: Any) -> ProgramSpec:
    x = Aval(f32, (B,))
    fields: dict[str, Any] = {
        "name": "twice",
        "backend": "llvm",
        "source": TWICE,
        "entry": "twice",
        "externs": (),
        "inputs": (x, Aval(boolean)),
        "outputs": (x,),
        "donations": (None,),
        "slots": (B * 4,),
        "symbols": ("B",),
        "checks": ("x must be good",),
    }
    return ProgramSpec(**fields | changes)


@pytest.fixture
def program() -> Executable:
    return compile_spec(twice(), UNCACHED)


def floats(count: int) -> npt.NDArray[np.float32]:
    return np.arange(count, dtype=np.float32)


YES, NO = np.array(True), np.array(False)

# --- options --------------------------------------------------------------------------------------


def test_options_come_from_the_environment() -> None:
    assert Options.from_environment({}) == Options()
    environment = {
        "TAUT_BACKEND": "numba",
        "TAUT_KERNELS": "python",
        "TAUT_CHECK": "1",
        "TAUT_CACHE": "0",
        "TAUT_OPT_LEVEL": "3",
        "TAUT_CACHE_DIR": "/elsewhere",
        "TAUT_FUSE": "0",
    }
    expected = Options("numba", "python", "strict", 3, True, False, Path("/elsewhere"), fuse=False)
    assert Options.from_environment(environment) == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TAUT_BACKEND", "gcc", "TAUT_BACKEND is 'gcc'; it must be 'llvm' or 'numba'"),
        ("TAUT_KERNELS", "yes", "TAUT_KERNELS is 'yes'; it must be 'compiled' or 'python'"),
        ("TAUT_CHECK", "maybe", "TAUT_CHECK is 'maybe'; it must be '0' or '1'"),
        ("TAUT_FUSE", "no", "TAUT_FUSE is 'no'; it must be '0' or '1'"),
        ("TAUT_OPT_LEVEL", "9", "TAUT_OPT_LEVEL is '9'; it must be '0' or '1' or '2' or '3'"),
    ],
)
def test_a_bad_variable_is_named_with_what_it_may_be(name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        Options.from_environment({name: value})
    assert str(caught.value) == message


def test_options_given_in_python_are_checked_too() -> None:
    with pytest.raises(ValueError, match="backend is 'cuda'"):
        Options(backend="cuda")


def test_python_kernels_are_those_of_the_numba_back_end() -> None:
    assert Options(kernels="python").emitter == "numba"
    assert Options().emitter == "llvm"


# --- this machine ---------------------------------------------------------------------------------


def test_the_host_is_described_once() -> None:
    target = host.host_target()
    assert target is host.host_target()
    assert target.cores >= 1
    assert target.vector_bits in (128, 256, 512)
    assert target.triple
    assert target.data_layout


def test_vector_width_follows_from_features() -> None:
    full = dict.fromkeys(["avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl"], True)
    assert host.vector_bits("x86_64-unknown-linux-gnu", full) == 512
    assert host.vector_bits("x86_64-unknown-linux-gnu", full | {"avx512vl": False}) == 256
    assert host.vector_bits("x86_64-unknown-linux-gnu", {}) == 128
    assert host.vector_bits("aarch64-unknown-linux-gnu", {"neon": True}) == 128


def test_cache_sizes_are_read_or_assumed(tmp_path: Path) -> None:
    assert host.cache_sizes(tmp_path / "missing") == host.USUAL_CACHES
    levels = [
        ("1", "Data", "48K"),
        ("1", "Instruction", "32K"),
        ("2", "Unified", "2M"),
        ("3", "Unified", "36M"),
    ]
    for number, values in enumerate(levels):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for file, text in zip(("level", "type", "size"), values, strict=True):
            (folder / file).write_text(f"{text}\n")
    assert host.cache_sizes(tmp_path) == (48 << 10, 2 << 20, 36 << 20)
    (tmp_path / "index2" / "size").write_text("what\n")
    assert host.cache_sizes(tmp_path) == host.USUAL_CACHES


# --- native code ----------------------------------------------------------------------------------


def test_text_that_is_not_llvm_is_refused() -> None:
    with pytest.raises(CompileError, match="LLVM rejects the generated code"):
        compile_spec(twice(source="define i32 @twice(ptr %t) { ret i64 0 }"), UNCACHED)


def test_code_that_breaks_llvm_s_rules_is_refused_before_it_is_optimised() -> None:
    call = "%z = call float @llvm.fma.f32(float %sum, float %sum, double 0.0)\n  store float %sum"
    text = "declare float @llvm.fma.f32(float, float, double)\n"
    text += TWICE.replace("store float %sum", call)
    with pytest.raises(CompileError, match="LLVM rejects the generated code"):
        compile_spec(twice(source=text), UNCACHED)


def test_an_undeclared_extern_is_named() -> None:
    call = "call void @mystery()\n  ret i32 0"
    text = "declare void @mystery()\n" + TWICE.replace("ret i32 0", call)
    with pytest.raises(CompileError, match="calls unknown functions: mystery"):
        compile_spec(twice(source=text), UNCACHED)
    with pytest.raises(CompileError, match="needs the function mystery"):
        compile_spec(twice(source=text, externs=("mystery",)), UNCACHED)


def test_a_symbol_that_is_not_given_is_an_error_and_not_a_crash() -> None:
    text = "declare void @mystery()\ndefine i32 @f(ptr %t) {\n call void @mystery()\n ret i32 0\n}"
    image = native.emit_object(text, host.host_target(), externs=("mystery",))
    with pytest.raises(CompileError, match="cannot link f"):
        native.link([image], "f", {})


def test_bytes_that_are_no_object_code_do_not_link() -> None:
    image = native.emit_object(TWICE, host.host_target())
    for bad in (b"", b"nonsense", image[:200]):
        with pytest.raises(CompileError, match="cannot link twice"):
            native.link([bad], "twice", {})


def test_assembly_and_optimised_text_can_be_read() -> None:
    assert "twice:" in native.assembly(twice())
    assert "define" in native.optimised_text(TWICE, host.host_target())
    with pytest.raises(CompileError, match="no LLVM text"):
        native.assembly(twice(backend="numba"))


def test_code_lives_as_long_as_its_executable_or_frame(program: Executable) -> None:
    frame = program.frame({"B": 1})
    x, y = floats(1) + 3, floats(1)
    for word, array in zip((1, 2, 3), (x, YES, y), strict=True):
        frame.words[word] = array.ctypes.data
    del program
    gc.collect()
    assert frame.call() == 0
    assert y[0] == 6


# --- externs --------------------------------------------------------------------------------------


def test_functions_of_the_c_library_are_found() -> None:
    cosine = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(externs.address_of("cos"))
    assert cosine(0.0) == 1.0


def test_names_of_no_native_function_are_refused() -> None:
    for name in ("taut_cook_f32", "solve_f32"):
        with pytest.raises(CompileError, match=f"no native function {name}"):
            parse_symbol(name)
    with pytest.raises(CompileError, match="f32 or f64, not f16"):
        externs.address_of(f"taut_solve_{f16.name}")


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 1), (4, 5, 2), (2, 0, 3), (2, 3, 0), (0, 3, 1)])
def test_the_shim_to_lapack(dtype: Any, shape: tuple[int, int, int]) -> None:
    batch, n, columns = shape
    random = np.random.default_rng(5)
    a = (random.standard_normal((batch, n, n)) + 3 * np.eye(n)).astype(dtype.numpy)
    b = random.standard_normal((batch, n, columns)).astype(dtype.numpy)
    x, regular = np.full_like(b, 7), np.full(batch, 9, np.uint8)
    solve = externs.python_function(f"taut_solve_{dtype.name}")
    solve(a.ctypes, b.ctypes, x.ctypes, regular.ctypes, batch, n, columns)
    assert (regular == 1).all()
    # two backward stable solutions of well-conditioned systems of order 5
    rtol = 100 * float(np.finfo(dtype.numpy).eps)
    np.testing.assert_allclose(a @ x, b, rtol=rtol, atol=rtol)


# --- executables ----------------------------------------------------------------------------------


def test_a_program_is_called_on_arrays(program: Executable) -> None:
    for count in (0, 1, 2, 7, 1000):
        (y,) = program([floats(count), YES])
        np.testing.assert_array_equal(y, 2 * floats(count))
        assert count == 0 or y.ctypes.data % 64 == 0


def test_arrays_that_are_not_contiguous_are_copied(program: Executable) -> None:
    np.testing.assert_array_equal(program([floats(10)[::2], YES])[0], 2 * floats(10)[::2])


def test_a_check_raises_its_message(program: Executable) -> None:
    with pytest.raises(CheckFailed, match=r"^x must be good$"):
        program([floats(3), NO])


def test_arguments_that_do_not_fit_are_refused(program: Executable) -> None:
    with pytest.raises(IRError, match="twice takes 2 arguments, got 1"):
        program([floats(3)])
    with pytest.raises(IRError, match=r"argument 0: expected f32\[B\], got dtype float64"):
        program([np.zeros(3), YES])
    with pytest.raises(IRError, match=r"argument 0: expected f32\[B\], got shape \(3, 1\)"):
        program([np.zeros((3, 1), np.float32), YES])


def test_a_frame_is_a_table_that_calls_reuse(program: Executable) -> None:
    frame = program.frame({"B": 3})
    x, y = floats(3), np.empty(3, np.float32)
    layout = program.spec.layout
    assert layout.outputs == (3,)
    for word, array in zip((*layout.inputs, 3), (x, YES, y), strict=True):
        frame.words[word] = array.ctypes.data
    assert frame.words[layout.symbols[0]] == 3
    assert frame.words[layout.slots[0]] % 64 == 0
    assert frame.calls == 0
    frame.run()
    np.testing.assert_array_equal(y, [0, 2, 4])
    x += 1
    assert program.entry(frame.address) == 0
    np.testing.assert_array_equal(y, [2, 4, 6])
    assert frame.calls == 2
    frame.words[layout.inputs[1]] = NO.ctypes.data
    assert frame.call() == 1


def test_slots_do_not_overlap() -> None:
    spec = twice(slots=(B * 4, B, 100))
    frame = compile_spec(spec, UNCACHED).frame({"B": 17})
    starts = [frame.words[word] for word in spec.layout.slots]
    assert starts[1] - starts[0] >= 68
    assert starts[2] - starts[1] >= 17
    assert not any(start % 64 for start in starts)


def test_a_donated_input_is_copied_and_its_copy_returned() -> None:
    text = TWICE.replace("i64 4\n", "i64 3\n").replace("i64 5\n", "i64 4\n")
    text = text.replace(
        "%y.at = getelementptr i64, ptr %table, i64 3",
        "%y.at = getelementptr i64, ptr %table, i64 1",
    )
    program = compile_spec(twice(source=text, donations=(0,)), UNCACHED)
    x = floats(5)
    (y,) = program([x, YES])
    np.testing.assert_array_equal(y, 2 * floats(5))
    np.testing.assert_array_equal(x, floats(5))


def test_threads_may_call_one_program_at_once(program: Executable) -> None:
    wrong: list[int] = []

    def work(count: int) -> None:
        results = (program([floats(count), YES])[0] for _ in range(200))
        wrong.extend(count for y in results if not np.array_equal(y, 2 * floats(count)))

    threads = [threading.Thread(target=work, args=(n,)) for n in (10, 100, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_copies_are_aligned() -> None:
    for array in (np.array(3.0), np.empty((0, 4)), floats(7)[1:].reshape(2, 3).T):
        copy = aligned_copy(array)
        np.testing.assert_array_equal(copy, array)
        assert copy.shape == array.shape
        assert copy.size == 0 or copy.ctypes.data % 64 == 0


# --- from the graph on ----------------------------------------------------------------------------

LAYER = """taut-ir 1
func @layer<B>(%x: f32[B,8], %w: f32[8,16], %b: f32[16]) -> (f32[B,16], f32[B]) {
  %z: f32[B,16] = matmul %x, %w
  %b2: f32[B,16] = broadcast %b {dims = [1]}
  %h: f32[B,16] = add %z, %b2
  %t: f32[B,16] = tanh %h
  %s: f32[B] = reduce_sum %t {dims = [1]}
  return %t, %s
}
"""
BACK_ENDS = [UNCACHED, Options(backend="numba"), Options(kernels="python")]


@pytest.mark.parametrize("options", BACK_ENDS, ids=lambda o: f"{o.emitter}-{o.kernels}")
def test_a_graph_compiles_to_what_it_means(options: Options) -> None:
    graph = parse_graph(LAYER)
    program = compile_graph(graph, options)
    assert compile_graph(parse_graph(LAYER.replace("@layer", "@other")), options) is program
    for rows in (0, 1, 2, 7):
        random = np.random.default_rng(rows)
        shapes = [(rows, 8), (8, 16), (16,)]
        arrays = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
        for result, expected in zip(program(arrays), evaluate(graph, arrays), strict=True):
            # sums of 8 and of 16 terms below 4 in size, in another order
            np.testing.assert_allclose(result, expected, rtol=0, atol=64 * 2.0**-23)


def test_the_disk_keeps_a_graph_s_program(tmp_path: Path) -> None:
    options = Options(cache_dir=tmp_path, opt_level=3)  # a key of its own in this process
    arrays = [np.ones((2, 8), np.float32), np.ones((8, 16), np.float32), np.ones(16, np.float32)]
    first = compile_graph(parse_graph(LAYER), options)
    expected = first(arrays)
    assert first.spec.source
    del first
    gc.collect()
    again = compile_graph(parse_graph(LAYER), options)
    assert again.spec.source == ""
    for result, value in zip(again(arrays), expected, strict=True):
        np.testing.assert_array_equal(result, value)


# --- keys and the memo ----------------------------------------------------------------------------


def test_equal_programs_are_one_executable_while_in_use() -> None:
    key = program_key("test_equal_programs", UNCACHED, host.host_target())
    first = compile_keyed(key, twice, UNCACHED)
    assert compile_keyed(key, _refuse, UNCACHED) is first
    del first
    gc.collect()
    with pytest.raises(AssertionError, match="compiled again"):
        compile_keyed(key, _refuse, UNCACHED)


def _refuse() -> ProgramSpec:
    raise AssertionError("compiled again")


def test_a_key_depends_on_all_that_changes_code_and_on_nothing_else() -> None:
    target = Target("x86_64", "znver4", "+avx2", "e-m:e")
    base = program_key("graph", Options(), target)
    assert base == program_key("graph", Options(check=True, cache_dir=Path("/x")), target)
    others = [
        program_key("other", Options(), target),
        program_key("graph", Options(backend="numba"), target),
        program_key("graph", Options(kernels="python"), target),
        program_key("graph", Options(opt_level=3), target),
        program_key("graph", Options(fuse=False), target),
        program_key("graph", Options(), Target("x86_64", "znver3", "+avx2", "e-m:e")),
        program_key("graph", Options(), Target("x86_64", "znver4", "-avx2", "e-m:e")),
        program_key("graph", Options(), Target("x86_64", "znver4", "+avx2", "e-m:e", 512)),
    ]
    assert len({base, *others}) == 1 + len(others)
