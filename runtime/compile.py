"""Graph in, executable out: through the caches where possible, through the compiler where not.

The key of a program is known before any pass has run.  A program that this process has linked and
that is still in use is given again; one that the disk keeps is linked without the compiler; only
the rest is compiled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ..compiler.codegen.spec import ProgramSpec
from ..compiler.errors import CompileError
from ..compiler.ir import Graph
from .cache import cache_of
from .executable import Executable
from .externs import resolve
from .host import host_target
from .keys import Key, program_key
from .native import code_at, link
from .objects import emit_objects
from .options import Options, default_options
from .payload import pack, unpack

if TYPE_CHECKING:
    from ..compiler.schedule.program import Program

_linked: WeakValueDictionary[Key, Executable] = WeakValueDictionary()
_lock = threading.RLock()


def compile_graph(graph: Graph, options: Options | None = None) -> Executable:
    """The program that computes `graph`; equal graphs give one executable a process.

    Args:
        graph: as traced (or after any of the passes).
        options: the environment's, unless given.

    Raises:
        CompileError: the back end cannot compile it.
    """
    options = options or default_options()
    key = key_of(graph, options)
    return compile_keyed(key, lambda: generate(graph, options), options)


def key_of(graph: Graph, options: Options) -> Key:
    """What the program of a graph is kept under on this machine."""
    from ..compiler.text.canonical import canonical_text, text_hash

    text = canonical_text(graph)
    return program_key(text_hash(text), options, host_target(), name=graph.name, text=text)


def compile_program(program: Program, options: Options | None = None) -> Executable:
    """A scheduled program made callable, past all caches."""
    options = options or default_options()
    return compile_spec(emit(program, options), options)


def generate(graph: Graph, options: Options | None = None) -> ProgramSpec:
    """The generated text of `graph`, from the first pass on."""
    from ..compiler.pipeline import run_passes
    from ..compiler.schedule import schedule

    options = options or default_options()
    optimised = run_passes(graph, check=options.check)
    return emit(schedule(optimised, host_target(), fuse=options.fuse), options)


def emit(program: Program, options: Options) -> ProgramSpec:
    """A scheduled program printed by the back end that the options choose."""
    if options.emitter == "numba":
        from ..compiler.codegen.python import emit_python

        return emit_python(program)
    from ..compiler.codegen.llvm import emit_llvm

    return emit_llvm(program, host_target())


def compile_keyed(key: Key, make: Callable[[], ProgramSpec], options: Options) -> Executable:
    """The program of a key: linked already, kept on disk, or made and then kept.

    Args:
        key: from `program_key`.
        make: gives the generated text; called only if nobody has the program.
        options: they choose back end and cache.
    """
    with _lock:
        executable = _linked.get(key) or _from_disk(key, options)
        if executable is None:
            executable = _fresh(key, make(), options)
        _linked[key] = executable
        return executable


def compile_spec(spec: ProgramSpec, options: Options) -> Executable:
    """Generated text made callable, past all caches."""
    return _fresh(None, spec, options)


def _fresh(key: Key | None, spec: ProgramSpec, options: Options) -> Executable:
    if spec.backend == "numba":
        return _load_python_text(spec, options)
    images, externs = emit_objects(
        spec.source, spec.entry, host_target(), options.opt_level, spec.externs, spec.modules
    )
    spec = replace(spec, externs=externs)
    executable = link_program(spec, images)
    cache = cache_of(options)
    if cache and key:  # last, when the program is known to link
        cache.put(key.digest, pack(spec, images), key.about)
    return executable


def _load_python_text(spec: ProgramSpec, options: Options) -> Executable:
    if options.kernels == "python":
        from .python_module import load_python

        return Executable(spec, load_python(spec))
    from .numba_backend import load_numba

    return Executable(spec, load_numba(spec))


def _from_disk(key: Key, options: Options) -> Executable | None:
    cache = cache_of(options)
    payload = cache.get(key.digest) if cache and options.emitter == "llvm" else None
    if payload is None:
        return None
    try:
        return link_program(*unpack(payload))
    except (ValueError, CompileError):  # of another form, or no longer linkable: compile again
        return None


def link_program(spec: ProgramSpec, images: Sequence[bytes]) -> Executable:
    """Object code made callable."""
    return Executable(spec, code_at(*link(images, spec.entry, resolve(spec.externs))))
