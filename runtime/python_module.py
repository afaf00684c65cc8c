"""Generated Python as a module: seen by tracebacks and pdb, run by Python itself."""

from __future__ import annotations

import ctypes
import linecache
import weakref
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from ..compiler.codegen.spec import ProgramSpec
from .externs import python_function
from .native import Code
from .user_functions import known_code

F = TypeVar("F", bound=Callable[..., Any])


def load_module(
    spec: ProgramSpec, names: Mapping[str, Any], form: Literal["jitted", "plain"] = "plain"
) -> ModuleType:
    """Executes a program's text in a module of its own, in which `names` are defined beforehand.

    Its file's name is the same in every process, and shown in tracebacks.  `form`: which form of
    users' functions the text is to call.
    """
    filename = f"<taut kernels {spec.name} {spec.digest[:8]}>"
    module = ModuleType(f"taut_kernels_{spec.name}_{spec.digest[:8]}")
    module.__dict__.update(names, __file__=filename, __text__=_shown(filename, spec.source))
    for symbol in spec.externs:
        code = known_code(symbol)
        found = python_function(symbol) if code is None else getattr(code, form)
        module.__dict__[symbol] = found
    exec(compile(spec.source, filename, "exec"), module.__dict__)  # noqa: S102 (our own text)
    return module


class _Shown:
    """A text that tracebacks, pdb and `inspect` find, for as long as this lives."""

    def __init__(self, filename: str, source: str) -> None:
        lines = source.splitlines(keepends=True)
        linecache.cache[filename] = (len(source), None, lines, filename)
        weakref.finalize(self, linecache.cache.pop, filename, None)


_texts: weakref.WeakValueDictionary[str, _Shown] = weakref.WeakValueDictionary()


def _shown(filename: str, source: str) -> _Shown:
    """One for all modules of a text, as one may outlive another."""
    found = _texts.get(filename)
    if found is None:
        found = _texts[filename] = _Shown(filename, source)
    return found


def load_python(spec: ProgramSpec) -> Code:
    """The program as Python functions: slow, but one can step through it."""
    module = load_module(spec, NAMES)
    return Code(getattr(module, spec.entry), None, module, module)


def array(address: int, count: int, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """`count` elements at `address` as a flat array that owns nothing."""
    if count == 0:
        return np.empty(0, dtype)
    size = int(count) * np.dtype(dtype).itemsize
    memory = (ctypes.c_char * size).from_address(int(address))
    return np.frombuffer(memoryview(memory), np.dtype(dtype))


def kernel(function: F) -> F:
    """A kernel, as it stands."""
    return function


def entry(program: Callable[[int], int]) -> Callable[[int], int]:
    """A program; native arithmetic does not warn of overflow and the like, so neither does this."""

    def run(table: int) -> int:
        with np.errstate(all="ignore"):
            return program(table)

    return run


def matrix(buffer: npt.NDArray[Any], start: int, rows: int, columns: int) -> npt.NDArray[Any]:
    """A row-major matrix inside a flat array."""
    return buffer[start : start + rows * columns].reshape(rows, columns)


half = np.float16
"""A number as a 16-bit float."""


def bits(value: np.float16) -> np.float16:
    """What memory holds of a 16-bit float: itself.  Numba has no such type, and stores integers."""
    return value


NAMES: dict[str, Any] = {
    "array": array,
    "bits": bits,
    "entry": entry,
    "half": half,
    "kernel": kernel,
    "matrix": matrix,
}
"""What generated text finds defined when Python runs it."""
