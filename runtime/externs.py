"""Addresses of the functions that generated code calls by name.

`taut_*` are taut's own (compiled when first asked for, and kept on disk), LAPACK's come from SciPy,
all others from the C library.  SciPy takes 0.1 s to import, so that happens for the programs that
need it.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ..compiler.codegen.calls import SIGNATURES, native_function, parse_symbol
from ..compiler.errors import CompileError
from .cache import cache_of
from .host import host_target
from .keys import program_key
from .native import emit_object, link
from .options import default_options
from .user_functions import known_array_code

LAPACK = frozenset({"sgesv", "dgesv"})
BLAS = frozenset({"sgemm", "dgemm"})
_C_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_double}


def resolve(names: Iterable[str]) -> dict[str, int]:
    """The address of each symbol.

    Raises:
        CompileError: a symbol is not known here.
    """
    return {name: address_of(name) for name in names}


def address_of(name: str) -> int:
    """The address of one symbol."""
    users = known_array_code(name)
    if users is not None:
        return users.address
    if name.startswith("taut_"):
        return _own(name)[0]
    if name in LAPACK:
        return _scipy("cython_lapack", name)
    if name in BLAS:
        return _scipy("cython_blas", name)
    return _c_library(name)


def python_function(name: str) -> Callable[..., None]:
    """A function of taut's own as Python and Numba can call it; pointers are `array.ctypes`."""
    users = known_array_code(name)
    if users is not None:
        kinds = [ctypes.c_void_p] * users.counts[0] + [ctypes.c_int64] * users.counts[1]
        return ctypes.CFUNCTYPE(None, *kinds)(users.address)
    return _own_function(name)


@cache
def _own_function(name: str) -> Callable[..., None]:
    function, _ = parse_symbol(name)
    arguments = [_C_TYPES[letter] for letter in SIGNATURES[function]]
    return ctypes.CFUNCTYPE(None, *arguments)(address_of(name))


@cache
def _own(name: str) -> tuple[int, Any]:
    """Address of a function of taut's and what keeps it mapped: once a process, for good."""
    image, entry, externs = _compiled(name)
    return link([image], entry, resolve(externs))


def _compiled(name: str) -> tuple[bytes, str, list[str]]:
    options, target = default_options(), host_target()
    key = program_key(hashlib.sha256(name.encode()).hexdigest(), options, target, name=name)
    disk = cache_of(options)
    kept = disk.get(key.digest) if disk else None
    if kept is not None:
        head, _, image = kept.partition(b"\n")
        entry, *externs = head.decode().split()
        return image, entry, externs
    function = native_function(name)
    image = emit_object(function.text, target, options.opt_level, function.externs)
    if disk:
        head = " ".join([function.entry, *function.externs]).encode()
        disk.put(key.digest, head + b"\n" + image, key.about)
    return image, function.entry, list(function.externs)


@cache
def _scipy(module: str, name: str) -> int:
    import importlib

    capsules = importlib.import_module(f"scipy.linalg.{module}").__pyx_capi__
    _use_one_thread()
    return _capsule_address(capsules[name])


def _capsule_address(capsule: object) -> int:
    """The C function in a capsule, whose name is the function's C signature."""
    api = ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api)
    )
    return int(get_pointer(capsule, get_name(capsule)) or 0)


@cache
def _use_one_thread() -> None:
    """Keeps SciPy's OpenBLAS, which is not NumPy's, to one thread: nobody asked for more."""
    import scipy

    folder = Path(scipy.__file__).parents[1] / "scipy.libs"
    for path in sorted(folder.glob("libscipy_openblas*")):
        library = ctypes.CDLL(str(path))  # loaded already: this finds it
        if hasattr(library, "scipy_openblas_set_num_threads"):
            library.scipy_openblas_set_num_threads(1)


def _numbas(name: str) -> int:
    """One of the functions that Numba's code calls."""
    import importlib

    import llvmlite.binding as llvm

    importlib.import_module("numba")
    return int(llvm.address_of_symbol(name) or 0)


def _c_library(name: str) -> int:
    if name.startswith("numba_"):
        return _numbas(name)
    for library in _c_libraries():
        function = getattr(library, name, None)
        if function is not None:
            return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
    raise CompileError(
        f"the generated code needs the function {name}, which this machine does not have"
    )


@cache
def _c_libraries() -> list[ctypes.CDLL]:
    """The process itself, and the mathematical library where that is apart."""
    found = [ctypes.CDLL(None)]
    for name in ("libm.so.6", "libm.dylib"):
        try:
            found.append(ctypes.CDLL(name))
        except OSError:
            continue
    return found
