"""The one place that imports Numba: generated Python compiled into a native function.

Numba is imported by name and stands as `Any`: only its newest releases ship types, and those leave
out what is used here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..compiler.codegen.spec import ProgramSpec
from ..compiler.errors import CompileError
from .native import Code, code_at
from .python_module import load_module

numba: Any = import_module("numba")
NumbaError: type[Exception] = import_module("numba.core.errors").NumbaError
types: Any = numba.types

kernel: Any = numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Compiles a kernel; only the entry calls it, and the wrappers left out are a third of the work."""

entry: Any = numba.cfunc(types.int32(types.int64), error_model="numpy")
"""Compiles a program to `int32 entry(int64 table)`."""


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
    """
    array_type = types.Array(dtype.dtype, 1, "C")

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


NAMES = {"array": array, "entry": entry, "kernel": kernel, "matrix": matrix}


def load_numba(spec: ProgramSpec) -> Code:
    """Compiles a program of the numba back end.

    Raises:
        CompileError: Numba cannot compile it.
    """
    if "np.float16" in spec.source:
        raise CompileError(f"{spec.name}: Numba has no float16 on CPUs; use backend='llvm'")
    try:
        module = load_module(spec, NAMES, "jitted")
    except NumbaError as error:
        raise CompileError(f"{spec.name}: Numba cannot compile the kernels: {error}") from error
    program = getattr(module, spec.entry)
    return code_at(program.address, program, module)
