"""The one place that imports Numba: generated Python compiled into a native function.

Numba is imported by name and stands as `Any`: only its newest releases ship types, and those leave
out what is used here.
"""

from __future__ import annotations

from importlib import import_module
from types import FunctionType
from typing import Any
from weakref import WeakValueDictionary

from ..compiler import dtypes
from ..compiler.codegen.llvm_cast import cast, round_to, widen
from ..compiler.codegen.llvm_values import F16, I16
from ..compiler.codegen.spec import ProgramSpec
from ..compiler.dtypes import from_numpy
from ..compiler.errors import CompileError
from .native import Code, code_at
from .python_module import load_module

numba: Any = import_module("numba")
NumbaError: type[Exception] = import_module("numba.core.errors").NumbaError
types: Any = numba.types

_made: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()


def _once(compiler: Any) -> Any:
    """A compiler that makes one thing of functions that do the same, as long as that is in use."""

    def compiled(function: FunctionType) -> Any:
        key = compiler, *_meaning(function)
        found = _made.get(key)
        if found is None:
            found = _made[key] = compiler(function)
        return found

    return compiled


def _meaning(function: FunctionType) -> tuple[object, ...]:
    """What a function does, however its variables are called: Numba takes 0.1 s for each."""
    code, names = function.__code__, function.__globals__
    constants = [repr(c) for c in code.co_consts if c is not function.__doc__]
    used = [id(names[name]) if name in names else name for name in code.co_names]
    return code.co_argcount, code.co_code, *constants, *used


kernel: Any = _once(numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True))
"""Compiles a kernel; only the entry calls it, and the wrappers left out are a third of the work."""

entry: Any = _once(numba.cfunc(types.int32(types.int64), error_model="numpy"))
"""Compiles a program to `int32 entry(int64 table)`."""


as_dtype: Any = import_module("numba.np.numpy_support").as_dtype
intrinsic: Any = import_module("numba.extending").intrinsic
populate_array: Any = import_module("numba.np.arrayobj").populate_array


def _fill_view(context: Any, builder: Any, array_type: Any, pointer: Any, shape: list[Any]) -> Any:
    """Emits the structure of a row-major array on memory that it does not own."""
    view = context.make_array(array_type)(context, builder)
    word = context.get_value_type(types.intp)
    item = word(context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
    strides = [item]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    data = builder.bitcast(pointer, view.data.type)
    populate_array(view, data, shape, strides, itemsize=item, meminfo=None)
    return view._getvalue()


@intrinsic  # type: ignore[untyped-decorator]
def array(_typing: Any, address: Any, count: Any, dtype: Any) -> Any:
    """`array(address, count, dtype)`: memory as a flat array that owns nothing.

    An intrinsic, as a function would be compiled anew for each constant that it is called with.
    Elements of 16-bit floats are integers.
    """
    element = types.uint16 if dtype.dtype == types.float16 else dtype.dtype
    array_type = types.Array(element, 1, "C")

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = context.get_value_type(types.voidptr)
        place = builder.inttoptr(arguments[0], pointer)
        return _fill_view(context, builder, array_type, place, [arguments[1]])

    return array_type(types.intp, types.intp, dtype), emit


@intrinsic  # type: ignore[untyped-decorator]
def matrix(_typing: Any, buffer: Any, start: Any, rows: Any, columns: Any) -> Any:
    """`matrix(buffer, start, rows, columns)`: a row-major matrix inside a flat array."""
    array_type = types.Array(buffer.dtype, 2, "C")

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat, start, rows, columns = arguments
        base = context.make_array(buffer)(context, builder, flat).data
        place = builder.gep(base, [start])
        return _fill_view(context, builder, array_type, place, [rows, columns])

    return array_type(buffer, types.intp, types.intp, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def half(_typing: Any, number: Any) -> Any:
    """`half(x)`: a number rounded to a 16-bit float, or one that memory holds; in 32 bits."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        if number == types.uint16:
            short = builder.bitcast(value, F16)
        else:
            short = cast(builder, value, from_numpy(as_dtype(number)), dtypes.f16)
        return widen(builder, short)

    return types.float32(number), emit


@intrinsic  # type: ignore[untyped-decorator]
def bits(_typing: Any, number: Any) -> Any:
    """`bits(x)`: what memory holds of a 16-bit float."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(round_to(builder, arguments[0], dtypes.f16), I16)

    return types.uint16(number), emit


NAMES = {
    "array": array,
    "bits": bits,
    "entry": entry,
    "half": half,
    "kernel": kernel,
    "matrix": matrix,
}


def load_numba(spec: ProgramSpec) -> Code:
    """Compiles a program of the numba back end.

    Raises:
        CompileError: Numba cannot compile it.
    """
    try:
        module = load_module(spec, NAMES, "jitted")
    except NumbaError as error:
        raise CompileError(f"{spec.name}: Numba cannot compile the kernels: {error}") from error
    program = getattr(module, spec.entry)
    return code_at(program.address, program, module)
