"""LLVM text to machine code, machine code to functions that can be called.

Object code is position-independent and names its externs, so that the bytes can be kept on disk and
linked into any process of this machine.  Linking is ORC's; what it returns owns the mapped code and
must live as long as the code is used.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from ..compiler.codegen.spec import ProgramSpec
from ..compiler.errors import CompileError
from ..compiler.target import Target
from .host import host_target

LOOP_VECTORIZATION = False
SLP_VECTORIZATION = False
"""Our kernels hold vectors already; LLVM's search for more costs time and finds nothing, but in the
scalar functions of users."""

LEVEL = 1
"""Optimisation level where nobody asks for another: on a training step, GELU, softmax and a product
the code of levels 2 and 3 is as fast, and takes up to a quarter more time to make."""

# A definition up to where its attributes stand: llvmlite 0.45 would give them to its result.
_DEFINITION = re.compile(r"^(define .*\)(?: (?:local_)?unnamed_addr)?)", re.MULTILINE)
_DESCRIPTION = re.compile(r"^(; ModuleID|source_filename|target ).*\n", re.MULTILINE)
"""Lines of LLVM text that are not about the code."""

_lock = threading.Lock()
_serial = itertools.count()


@dataclass(frozen=True)
class Code:
    """A program that can be called.

    Attributes:
        entry: takes the address of the table, returns 0 or the number of the check that failed.
        address: of the native entry; None where Python runs the program.
        keep: whatever must live as long as the entry (dropping it may unmap the code).
        module: the generated Python that it was made of, where there is one.
    """

    entry: Callable[[int], int]
    address: int | None
    keep: Any
    module: ModuleType | None = None


ENTRY_TYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
"""int32 entry(table); ctypes releases the GIL for the call."""


def code_at(address: int, keep: Any, module: ModuleType | None = None) -> Code:
    """The native program whose entry is at `address`."""
    return Code(ENTRY_TYPE(address), address, keep, module)


def emit_object(
    text: str,
    target: Target,
    level: int = LEVEL,
    externs: tuple[str, ...] = (),
    modules: tuple[str, ...] = (),
) -> bytes:
    """Object code of a module in LLVM text, with others linked into it.

    Raises:
        CompileError: the text is not valid, or calls a function that it neither defines nor lists
            in `externs`.
    """
    with _lock:
        module, machine = _optimised(text, target, level, externs, modules)
        return bytes(machine.emit_object(module))


def optimised_text(text: str, target: Target, level: int = LEVEL) -> str:
    """The module after LLVM's passes, as text."""
    with _lock:
        return str(_optimised(text, target, level, None)[0])


def optimised_function(text: str, name: str) -> str:
    """One function of a module and what it needs, everything inlined, as text.

    It stays scalar code, without names of files and machines: what it is, is in the text.
    """
    import llvmlite.binding as llvm

    with _lock:
        inlined = _DEFINITION.sub(r"\1 alwaysinline", text)
        module, machine = _parsed(inlined, host_target(), None), _target_machine(host_target(), 2)
        for value in (*module.functions, *module.global_variables):
            if not value.is_declaration and value.name != name:
                value.linkage = "internal"
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        tuning.loop_vectorization = tuning.slp_vectorization = False
        passes = llvm.create_pass_builder(machine, tuning)
        passes.getModulePassManager().run(module, passes)
        return _DESCRIPTION.sub("", str(module)).strip() + "\n"


def assembly(spec: ProgramSpec, target: Target | None = None, level: int = LEVEL) -> str:
    """The assembly code of a program of the llvm back end."""
    if spec.backend != "llvm":
        raise CompileError(f"{spec.name}: the {spec.backend} back end has no LLVM text to show")
    with _lock:
        target = target or host_target()
        module, machine = _optimised(spec.source, target, level, spec.externs, spec.modules)
        return str(machine.emit_assembly(module))


def link(images: Sequence[bytes], entry: str, symbols: Mapping[str, int]) -> tuple[int, Any]:
    """Maps object code and binds its symbols; the address of `entry`, and what keeps it mapped.

    Args:
        images: object code.
        entry: the function to find.
        symbols: addresses of its externs.  LLVM's own helpers (`memcpy`, ...) come from the
            process.

    Raises:
        CompileError: the bytes are no object code, or a symbol is missing.
    """
    import llvmlite.binding as llvm

    builder = llvm.JITLibraryBuilder().add_current_process()
    for image in images:
        builder.add_object_img(image)
    for name, address in symbols.items():
        builder.import_symbol(name, address)
    try:
        with _lock:
            tracker = builder.export_symbol(entry).link(_linker(), f"taut.{next(_serial)}")
    except RuntimeError as error:
        raise CompileError(f"cannot link {entry}: {error}") from None
    return int(tracker[entry]), tracker


@lru_cache(maxsize=1)
def _linker() -> Any:
    import llvmlite.binding as llvm

    return llvm.create_lljit_compiler(_new_machine(host_target(), LEVEL), suppress_errors=True)


@lru_cache(maxsize=8)
def _target_machine(target: Target, level: int) -> Any:
    return _new_machine(target, level)


def _new_machine(target: Target, level: int) -> Any:
    import llvmlite.binding as llvm

    host_target()  # initialises LLVM
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=level,
        reloc="pic",
        codemodel="small",
        jit=True,
    )


def _parsed(
    text: str, target: Target, externs: tuple[str, ...] | None, modules: tuple[str, ...] = ()
) -> Any:
    import llvmlite.binding as llvm

    host_target()
    try:
        module = llvm.parse_assembly(text)
        _link_in(module, [llvm.parse_assembly(other) for other in modules])
        module.verify()  # before the optimiser, which crashes on what is wrong
    except RuntimeError as error:
        raise CompileError(f"LLVM rejects the generated code: {error}") from None
    if externs is not None:
        _require_known(module, externs)
    module.triple, module.data_layout = target.triple, target.data_layout
    return module


def _link_in(module: Any, others: Sequence[Any]) -> None:
    """Makes others part of the module; what one defines for another is for nobody else."""
    named = {f.name for other in others for f in other.functions}
    for other in others:
        module.link_in(other)
    for function in map(module.get_function, named):
        if not function.is_declaration:
            function.linkage = "internal"


def _require_known(module: Any, externs: tuple[str, ...]) -> None:
    declared = {f.name for f in module.functions if f.is_declaration}
    unknown = sorted(n for n in declared.difference(externs) if not re.match(r"llvm\.", n))
    if unknown:
        raise unknown_functions(unknown)


def unknown_functions(names: Sequence[str]) -> CompileError:
    """The error of code that calls what nobody defines."""
    return CompileError(f"the generated code calls unknown functions: {', '.join(names)}")


def _optimised(
    text: str,
    target: Target,
    level: int,
    externs: tuple[str, ...] | None,
    modules: tuple[str, ...] = (),
) -> tuple[Any, Any]:
    """The module after LLVM's passes, and the machine to emit it for."""
    import llvmlite.binding as llvm

    module, machine = _parsed(text, target, externs, modules), _target_machine(target, level)
    tuning = llvm.create_pipeline_tuning_options(speed_level=level)
    tuning.slp_vectorization = SLP_VECTORIZATION
    tuning.loop_vectorization = LOOP_VECTORIZATION or bool(modules)
    # Kernels are unrolled as they are emitted.
    tuning.loop_unrolling = tuning.loop_interleaving = False
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    return module, machine
