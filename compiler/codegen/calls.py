"""The native functions that programs may call by name, each as an LLVM module of its own.

A symbol is `taut_<function>_<dtype>`; its parameters are those of `RunCall`: buffers, integers,
floats.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import dtypes
from ..dtypes import DType
from ..errors import CompileError
from .solve import solve_text

SIGNATURES = {
    "solve": "ppppiii",
    "uniform": "pppi",
    "normal": "pppi",
    "uniform_between": "pppiff",
    "normal_scaled": "pppiff",
    "integers": "pppiii",
    "bernoulli": "pppif",
}
"""Parameters of each function: p a pointer, i an i64, f a double."""


@dataclass(frozen=True)
class NativeFunction:
    """A module in LLVM text, the function to call in it, and the symbols that it needs."""

    text: str
    entry: str
    externs: tuple[str, ...]


def parse_symbol(symbol: str) -> tuple[str, DType]:
    """Function and dtype of a symbol.

    Raises:
        CompileError: it is the name of no native function.
    """
    prefix, _, rest = symbol.partition("_")
    function, _, dtype = rest.rpartition("_")
    if prefix != "taut" or function not in SIGNATURES:
        raise CompileError(f"there is no native function {symbol}")
    return function, dtypes.from_name(dtype)


def native_function(symbol: str) -> NativeFunction:
    """The module that defines `symbol`.

    Raises:
        CompileError: there is no such function, or not for this dtype.
    """
    function, dtype = parse_symbol(symbol)
    if function == "solve":
        text, externs = solve_text(dtype, symbol)
        return NativeFunction(text, symbol, externs)
    return _random_function(function, dtype)


def _random_function(function: str, dtype: DType) -> NativeFunction:
    """The generator's function in `RunCall`'s order; its own has the output after both states."""
    from llvmlite import ir

    from . import random

    module = ir.Module(name=function)
    inner = random.emit_generator(function, module, dtype)
    wrapper = ir.Function(module, inner.function_type, f"draw_{function}")
    builder = ir.IRBuilder(wrapper.append_basic_block("entry"))
    state, out, new_state, *rest = wrapper.args
    builder.call(inner, [state, new_state, out, *rest])
    builder.ret_void()
    needed = tuple(name for name in (*random.EXTERNS, "fma", "fmaf") if name in module.globals)
    return NativeFunction(str(module), wrapper.name, needed)
