"""Scalar functions that users wrote, by way of Numba: as LLVM, and for generated Python to call.

What comes out of Numba is a function with a status and places for a result and an exception.  Here
it becomes `T symbol(T, ...)` on numbers as registers hold them, everything inlined, in a module of
its own.  Nothing is relaxed: neither Numba's flags nor ours allow LLVM to reorder or contract.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from ..compiler import dtypes
from ..compiler.codegen.llvm_functions import MATHEMATICS
from ..compiler.codegen.llvm_values import memory_type, register_type
from ..compiler.dtypes import DType
from ..compiler.errors import CompileError
from .frozen import FrozenFunction
from .native import optimised_function
from .user_functions import ScalarCode
from .weak_numbers import WeakCompiler, weak

numba: Any = import_module("numba")
types: Any = numba.types
NumbaError: type[Exception] = import_module("numba.core.errors").NumbaError

_IMPURE = re.compile(r"random|gil_|Py[A-Z_]|NRT_")
_WIDE = {dtypes.f16: dtypes.f32}
_WIDE |= dict.fromkeys((dtypes.u8, dtypes.u32, dtypes.i8, dtypes.i16, dtypes.i32), dtypes.i64)
"""What operands are widened to first: Numba has no float16, and computes integers in 64 bits."""

_PLACEHOLDER = "taut_user_function"
_INTRINSIC = re.compile(rf"@llvm\.({'|'.join(MATHEMATICS)})\.f(32|64)\(")
_STATUS = re.compile(r"ret i32 (?!0$)", re.MULTILINE)


def scalar_code(
    function: FrozenFunction,
    arity: int,
    dtype: DType,
    floats: DType,
    path: Sequence[int] | None = None,
) -> ScalarCode:
    """Compiles a function for operands of one dtype.

    Args:
        function: a scalar function, whole.
        arity: how many operands it takes.
        dtype: of the operands.
        floats: the dtype of floating results of operands that are not floating.
        path: which number of a nested tuple is the result, in the operands' dtype; None: the
            function returns a number.

    Raises:
        CompileError: Numba cannot compile it, it may raise, or it returns no number.
    """
    own = _WIDE.get(dtype, dtype)
    is_weak, place = own is dtypes.f32, tuple(path or ())
    jitted = _jitted(function, is_weak, {})
    returned = _compile(function, jitted, arity, own).signature.return_type
    for index in place:
        returned = _item(function, returned, index)
    result = _result_dtype(function, returned, own, floats)
    result = result if path is None else own
    compiled = _njit(_entry(arity, place, result, jitted), is_weak)
    text = _module_text(function, compiled, arity, own, result)
    convert = "bool" if own.kind == "bool" else ""  # NumPy's bools do no arithmetic, Python's do
    plain = _entry(arity, place, result, _plain(function, {}), convert)
    return _named(function, text, own, result, compiled, plain)


# --- Numba ----------------------------------------------------------------------------------------


def _njit(function: Any, is_weak: bool) -> Any:
    """The function for Numba to compile: as IEEE has it, whatever its options were elsewhere."""
    chosen: dict[str, Any] = {"pipeline_class": WeakCompiler} if is_weak else {}
    without = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(error_model="numpy", **without, **chosen)(function)


def _jitted(function: FrozenFunction, is_weak: bool, known: dict[int, Any]) -> Any:
    """The function, and those that it calls, for Numba to compile."""

    def of(value: Any) -> Any:
        if isinstance(value, FrozenFunction):
            return _jitted(value, is_weak, known)
        return weak(value) if is_weak else value

    if id(function) not in known:
        known[id(function)] = None
        made = function.made(of)
        if is_weak:
            made.__code__ = weak(made.__code__)
        known[id(function)] = _njit(made, is_weak)
    if known[id(function)] is None:
        raise CompileError(f"{function.name} calls itself, which no scalar function may")
    return known[id(function)]


def _plain(function: FrozenFunction, known: dict[int, Any]) -> Any:
    """The function, and those that it calls, for Python to run."""
    if id(function) not in known:
        known[id(function)] = function.made(
            lambda value: _plain(value, known) if isinstance(value, FrozenFunction) else value
        )
    return known[id(function)]


def _entry(
    arity: int, path: tuple[int, ...], result: DType, function: Any, operand: str = ""
) -> Any:
    """A Python function that calls another and converts (a part of) its result."""
    parameters = ", ".join(f"a{i}" for i in range(arity))
    given = ", ".join(f"{operand}(a{i})" for i in range(arity))
    part = "".join(f"[{i}]" for i in path)
    source = f"def entry({parameters}): return convert(function({given}){part})"
    convert = bool if result.kind == "bool" else result.numpy.type
    names: dict[str, Any] = {"function": function, "convert": convert}
    exec(source, names)  # noqa: S102  # of numbers alone
    return names["entry"]


def _compile(function: FrozenFunction, jitted: Any, arity: int, dtype: DType) -> Any:
    """Numba's overload for operands of one dtype.

    Raises:
        CompileError: with Numba's reason.
    """
    operand = types.boolean if dtype.kind == "bool" else getattr(types, dtype.long_name)
    try:
        jitted.compile((operand,) * arity)
    except NumbaError as error:
        raise CompileError(
            f"Numba cannot compile {function.name} ({function.origin}) for {dtype.long_name}: "
            f"{reason(error)}"
        ) from None
    return next(iter(jitted.overloads.values()))


def reason(error: Exception) -> str:
    """The one line of Numba's message that says what is wrong."""
    lines = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()
    noise = ("Failed in", "File ", "During:", "This error", "There are", "Known signatures", "^")
    telling = [line.strip() for line in lines if not line.strip().startswith(noise)]
    return next(filter(None, telling), type(error).__name__)


# --- types ----------------------------------------------------------------------------------------


def _item(function: FrozenFunction, of: Any, index: int) -> Any:
    """The type of an item of a tuple."""
    if not isinstance(of, types.BaseTuple) or index >= len(of):
        raise CompileError(
            f"{function.name} ({function.origin}) must return a number for each operand, not {of}"
        )
    return of[index]


def _result_dtype(function: FrozenFunction, returned: Any, own: DType, floats: DType) -> DType:
    """The dtype of a result: that of the operands, unless it is of another kind."""
    if isinstance(returned, types.Boolean):
        return dtypes.boolean
    if isinstance(returned, types.Integer):
        return dtypes.i64
    if isinstance(returned, types.Float):
        return own if own.kind == "float" else floats
    raise CompileError(
        f"{function.name} ({function.origin}) returns {returned}; a function that runs on each "
        "element returns a number or a bool"
    )


# --- LLVM -----------------------------------------------------------------------------------------


def _module_text(
    function: FrozenFunction, compiled: Any, arity: int, dtype: DType, result: DType
) -> str:
    """LLVM text of the function, under the placeholder's name.

    Raises:
        CompileError: the function may raise an exception, or does more than compute.
    """
    overload = _compile(function, compiled, arity, dtype)
    text, name = overload.library.get_llvm_str(), overload.fndesc.mangled_name
    status = optimised_function(text + _adapter(name, arity, dtype, result, True), _PLACEHOLDER)
    if _STATUS.search(status):
        raise CompileError(
            f"{function.name} ({function.origin}) may raise an exception, which a function that "
            "runs on each element cannot; return math.nan, say, and look for it afterwards"
        )
    text = optimised_function(text + _adapter(name, arity, dtype, result, False), _PLACEHOLDER)
    text = _with_c_names(text)
    if found := _IMPURE.search(" ".join(_externs(text))):
        raise CompileError(
            f"{function.name} ({function.origin}) does more than compute with numbers "
            f"({found.group()}): a function that runs on each element cannot"
        )
    return text


def _adapter(name: str, arity: int, dtype: DType, result: DType, status: bool) -> str:
    """A function that gives the result (or the status) of Numba's."""
    operand, returned = str(register_type(dtype)), str(register_type(result))
    given, made = str(memory_type(dtype)), str(memory_type(result))
    is_bool = dtype.kind == "bool"
    passed = "".join(f", {given} %{'b' if is_bool else 'a'}{i}" for i in range(arity))
    lines = [f"%ret = alloca {made}", "%exception = alloca ptr"]
    lines += [f"%b{i} = zext i1 %a{i} to i8" for i in range(arity) if is_bool]
    lines += [f"%status = call i32 @{name}(ptr %ret, ptr %exception{passed})"]
    lines += [f"%made = load {made}, ptr %ret"]
    value = "%made"
    if result.kind == "bool":
        lines, value = [*lines, "%value = trunc i8 %made to i1"], "%value"
    lines += ["ret i32 %status" if status else f"ret {returned} {value}"]
    parameters = ", ".join(f"{operand} %a{i}" for i in range(arity))
    head = f"define {'i32' if status else returned} @{_PLACEHOLDER}({parameters}) {{"
    return "\n".join(["", head, *(f"  {line}" for line in lines), "}", ""])


def _with_c_names(text: str) -> str:
    """LLVM's intrinsics for mathematics by the names of C's functions, each declared once."""
    renamed = _INTRINSIC.sub(lambda found: f"@{found[1]}{'f' * (found[2] == '32')}(", text)
    lines: dict[str, None] = {}
    for number, line in enumerate(renamed.splitlines()):
        is_declared = line.startswith("declare ")
        lines[line.partition(" #")[0] if is_declared else f"{number} {line}"] = None
    return "\n".join(
        line if line.startswith("declare ") else line.partition(" ")[2] for line in lines
    )


def _externs(text: str) -> list[str]:
    declared: list[str] = re.findall(r"^declare .*?@([\w.$]+)\(", text, re.MULTILINE)
    return [name for name in declared if not name.startswith("llvm.")]


def _named(
    function: FrozenFunction,
    text: str,
    dtype: DType,
    result: DType,
    jitted: Any,
    plain: Callable[..., Any],
) -> ScalarCode:
    """The code under a symbol that depends on it."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    stem = re.sub(r"\W", "", function.name, flags=re.ASCII).strip("_") or "function"
    symbol = f"{stem}_{digest}"
    text = text.replace(_PLACEHOLDER, symbol)
    made = jitted, plain
    return ScalarCode(symbol, text, tuple(_externs(text)), dtype, result, lambda: made)
