"""Kernels as Python: named after the program, seen by tracebacks, stopped in by pdb."""

from __future__ import annotations

import bdb
import gc
import importlib.util
import inspect
import linecache
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pytest

import taut
from taut.compiler.aval import Aval
from taut.compiler.dtypes import f32
from taut.frontend.compiled_function import CompiledFunction
from taut.frontend.report import Report
from taut.runtime import options
from taut.runtime.python_module import NAMES, load_module

PYTHON = options.Options(kernels="python")
NUMBA = options.Options(backend="numba")

PROGRAM = """\
import taut


@taut.compile
def attend(x, w):
    scores = x @ w
    weights = taut.exp(scores - scores.max())
    total = weights.sum(1)
    return weights / total[:, None]


x = taut.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
w = taut.tensor([[1.0, 0.0], [0.0, 1.0]])
for _ in range(2):
    y = attend(x, w)
"""


def standardised(x: Any, scale: Any) -> Any:
    centred = x - x.mean(1, keepdim=True)
    squares = centred * centred
    spread = squares.sum(1)
    return centred * scale / spread[:, None]


X = [[1.0, 2.0, 6.0], [0.0, 4.0, 8.0]]


def source_of(function: Any, *shapes: tuple[int, ...]) -> str:
    recording = taut.compile(function).graph_for(*(Aval(f32, shape) for shape in shapes))
    return Report(recording, NUMBA).text("kernel")


@pytest.fixture(params=["python", "numba"])
def compiled(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], CompiledFunction[..., Any]]:
    """`taut.compile`, with the kernels run by Python or compiled by Numba."""
    chosen = {"python": PYTHON, "numba": NUMBA}[request.param]
    monkeypatch.setattr(options, "default_options", lambda: chosen)
    return taut.compile


# --- names and lines ------------------------------------------------------------------------------


@pytest.mark.quick
def test_values_have_the_users_names_and_operations_the_users_lines() -> None:
    text = source_of(standardised, (2, 3), (3,))
    first = inspect.getsourcelines(standardised)[1]
    here = Path(__file__).name
    lines = [line.strip() for line in text.splitlines()]
    assert f"squares = centred * centred  # {here}:{first + 2}" in lines
    assert f"spread = spread + squares  # {here}:{first + 3}, {first + 4}" in lines
    assert "scale_i = scale[i1]" in lines


def test_a_product_names_its_line() -> None:
    def layer(x: Any, weight: Any) -> Any:
        return (x @ weight).tanh()

    text = source_of(layer, (2, 3), (3, 4))
    here, line = Path(__file__).name, inspect.getsourcelines(layer)[1] + 1
    assert f"matrix(weight, 0, 3, 4), matrix(tanh1, 0, 2, 4))  # {here}:{line}\n" in text
    assert f"tanh(tanh1)  # {here}:{line}\n" in text


def test_derived_operations_say_which_line_they_are_derived_from() -> None:
    def slope(x: Any) -> Any:
        y = taut.func.grad(lambda x: (x * x.exp()).sum())(x)
        return y.cos()

    here, line = Path(__file__).name, inspect.getsourcelines(slope)[1] + 1
    text = source_of(slope, (4,))
    assert f"grad {here}:{line}\n" in text
    assert f"  # {here}:{line + 1}\n" in text


def test_variables_stay_apart() -> None:
    """Two elements of one value, and values whose names mean something in the module."""

    def shifted(x: Any, np: Any) -> Any:
        array = x[1:] * x[:-1]
        i0 = array + np
        return i0.exp()

    text = source_of(shifted, (4,), (3,))
    x, np_, function = numbers(4), numbers(3), imported(text)
    out = np.empty(3, np.float32)
    next(f for name, f in vars(function).items() if "exp" in name)(x, np_, out)
    np.testing.assert_allclose(out, np.exp(x[1:] * x[:-1] + np_), rtol=1e-6)  # libm's or NumPy's
    assert "array_i = x_i * x_i_2  # " in text


def floats(values: Any) -> Any:
    return np.array(values, np.float32)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# --- as a file ------------------------------------------------------------------------------------


def imported(text: str, folder: Path | None = None) -> ModuleType:
    """The module of a text, from a file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = (folder or Path(scratch)) / "kernels.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("kernels", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def test_a_dumped_module_runs_from_a_file() -> None:
    module = imported(source_of(standardised, (2, 3), (3,)))
    x, scale, out = floats(X), floats([1, 2, 3]), np.empty((2, 3), np.float32)
    words = np.array([0, *(a.ctypes.data for a in (x, scale, out))])
    assert module.program(words.ctypes.data) == 0
    assert words[0] == 1
    centred = x - x.mean(1, keepdims=True)
    expected = centred * scale / (centred**2).sum(1, keepdims=True)
    np.testing.assert_allclose(out, expected, rtol=1e-6)  # sums in another order than NumPy's


def test_a_dumped_module_gets_native_functions_itself() -> None:
    def solved(a: Any, b: Any) -> Any:
        return taut.linalg.solve(a, b)

    a, b, x = floats([[2, 0], [0, 4]]), floats([1, 1]), floats([0, 0])
    regular = np.zeros((), np.bool_)
    words = np.array([0, *(v.ctypes.data for v in (a, b, x, regular))])
    assert imported(source_of(solved, (2, 2), (2,))).program(words.ctypes.data) == 0
    assert x.tolist() == [0.5, 0.25]
    a[1, 1] = 0
    assert imported(source_of(solved, (2, 2), (2,))).program(words.ctypes.data) == 1


# --- breakpoints ----------------------------------------------------------------------------------


class Visitor(bdb.Bdb):
    """Stops at one line, and keeps the variables that it finds there."""

    def __init__(self, module: ModuleType, text: str) -> None:
        super().__init__()
        assert module.__file__ is not None
        lines = linecache.getlines(module.__file__)
        line = next(n for n, found in enumerate(lines, 1) if text in found)
        assert self.set_break(module.__file__, line) is None
        self.place = (module.__file__, line)
        self.seen: list[dict[str, Any]] = []

    def user_line(self, frame: FrameType) -> None:
        if (frame.f_code.co_filename, frame.f_lineno) == self.place:
            self.seen.append(dict(frame.f_locals))
        self.set_continue()


def test_a_breakpoint_in_a_loop_sees_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "default_options", lambda: PYTHON)
    function = taut.compile(standardised)
    x, scale = taut.tensor(X), taut.tensor([1.0, 2.0, 3.0])
    expected = function(x, scale).numpy().tolist()
    (module,) = function.modules()
    visitor = Visitor(module, "spread = spread + squares")
    found: Any = visitor.runcall(function, x, scale)
    assert found.numpy().tolist() == expected
    assert [(v["i0"], v["i1"]) for v in visitor.seen] == [(i, j) for i in (0, 1) for j in range(3)]
    centred = np.subtract(X, np.mean(X, 1, keepdims=True))
    assert [v["centred"] for v in visitor.seen] == centred.ravel().tolist()
    assert [v["squares"] for v in visitor.seen] == (centred**2).ravel().tolist()
    assert [v["spread"] for v in visitor.seen] == [0, 4, 5, 0, 16, 16]  # what was added so far


def test_pdb_stops_in_a_kernel_and_prints_its_variables(tmp_path: Path) -> None:
    """As a user does it: stop after the first call, break in the kernel, go on, look."""
    (tmp_path / "program.py").write_text(PROGRAM)
    commands = [
        *("tbreak program.py:14", "continue", "next", "next"),
        *("tbreak attend.modules()[0].sub_exp_sum_div", "continue"),
        *("break 36, i0 == 1 and i1 == 1", "continue"),
        *("p i0, i1, float(scores), round(float(weights), 4)", "list 36, 36", "quit"),
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pdb", "program.py"],
        cwd=tmp_path,
        input="\n".join(commands),
        env={**os.environ, "TAUT_KERNELS": "python"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = run.stdout
    assert re.search(r"Breakpoint 2 at <taut kernels attend [0-9a-f]{8}>:\d+", found), found
    assert "(1, 1, 3.0, 0.1353)" in found  # exp(3 - 5)
    assert re.search(r"total = total \+ weights  # program.py:8, 9", found)


# --- tracebacks -----------------------------------------------------------------------------------


@pytest.mark.quick
def test_an_error_in_a_kernel_is_shown_at_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "default_options", lambda: PYTHON)
    function = taut.compile(standardised)
    x, scale = taut.tensor(X), taut.tensor([1.0, 2.0, 3.0])
    function(x, scale)
    (module,) = function.modules()
    monkeypatch.setitem(module.__dict__, "np", Broken())
    with pytest.raises(OverflowError) as raised:
        function(x, scale)
    shown = "".join(traceback.format_exception(raised.value))
    assert f'File "{module.__file__}", line ' in shown
    assert re.search(r"in sum_div_sub_mul_sum_div\n +reduce_sum1 = np.float32\(0.0\)\n", shown)


class Broken:
    """NumPy, but for a type that raises when it is called."""

    def __getattr__(self, name: str) -> Any:
        return self._raise if name == "float32" and self._in_kernel() else getattr(np, name)

    def _in_kernel(self) -> bool:
        return sys._getframe(2).f_code.co_name != "program"

    def _raise(self, value: float) -> Any:
        raise OverflowError(value)


def test_both_back_ends_give_modules_with_source(
    compiled: Callable[[Any], CompiledFunction[..., Any]],
) -> None:
    function = compiled(standardised)
    x, scale = taut.tensor(X), taut.tensor([1.0, 2.0, 3.0], requires_grad=True)
    function(x, scale).sum().backward()
    forward, backward = function.modules()
    assert "squares = centred * centred  # " in inspect.getsource(forward)
    assert "# grad " in inspect.getsource(backward)


def test_machine_code_has_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "default_options", lambda: options.Options(backend="llvm"))
    function = taut.compile(standardised)
    with pytest.raises(RuntimeError, match="has not been called"):
        function.modules()
    function(taut.tensor(X), taut.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(RuntimeError, match="set TAUT_KERNELS=python"):
        function.modules()


def test_a_text_is_shown_as_long_as_a_module_has_it() -> None:
    spec = Report(taut.compile(standardised).graph_for(Aval(f32, (2, 3)), Aval(f32, (3,))), PYTHON)
    (program,) = spec.programs
    first, second = load_module(program.spec, NAMES), load_module(program.spec, NAMES)
    name = first.__file__
    assert name is not None
    assert name == second.__file__
    del first
    gc.collect()
    assert "def program(table):\n" in linecache.getlines(name)
    del second
    gc.collect()
    assert linecache.getlines(name) == []
