"""`compile`: compiles a function, a method or a module; a decorator with or without arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .compiled_function import CompiledFunction, CompileOptions

if TYPE_CHECKING:
    from .nn.module import Module

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound="Module")

BACKENDS = {
    "llvm": "llvm",
    "numba": "numba",
    "inductor": "llvm",
    "eager": "eager",
    "aot_eager": "eager",
}
"""Back ends by name; PyTorch's names mean the nearest thing here."""


@overload
def compile(  # type: ignore[overload-overlap]  # a module is callable, too: the first that fits
    model: M,
    *,
    fullgraph: bool = ...,
    dynamic: bool | None = ...,
    backend: str | None = ...,
    mode: str | None = ...,
    options: dict[str, Any] | None = ...,
    disable: bool = ...,
) -> M: ...
@overload
def compile(
    model: Callable[P, R],
    *,
    fullgraph: bool = ...,
    dynamic: bool | None = ...,
    backend: str | None = ...,
    mode: str | None = ...,
    options: dict[str, Any] | None = ...,
    disable: bool = ...,
) -> CompiledFunction[P, R]: ...
@overload
def compile(
    model: None = None,
    *,
    fullgraph: bool = ...,
    dynamic: bool | None = ...,
    backend: str | None = ...,
    mode: str | None = ...,
    options: dict[str, Any] | None = ...,
    disable: bool = ...,
) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...
def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: str | None = None,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
) -> Any:
    """Compiles a function, a method or a module; a decorator with or without arguments.

    Args:
        model: the function or the `nn.Module`.
        fullgraph: accepted; a compiled function is always one graph.
        dynamic: serve every size of the arguments' first dimension with one program.
        backend: "llvm" (default), "numba", or "eager" to leave it uncompiled.
        mode: accepted for programs written for PyTorch; it changes nothing.
        options: likewise.
        disable: return the function unchanged.

    Returns:
        A callable that takes and returns what `model` does; for a module, a module with the same
        state and keys.

    Raises:
        ValueError: the back end is unknown.
    """
    del fullgraph, mode, options
    if model is None:
        return functools.partial(compile, dynamic=dynamic, backend=backend, disable=disable)
    if disable:
        return model
    chosen = None if backend is None else _backend(backend)
    compiled_options = CompileOptions(chosen, bool(dynamic))
    from .nn.module import Module

    if isinstance(model, Module):
        from .compiled_module import compiled_module

        return compiled_module(model, compiled_options)
    if not callable(model):
        raise TypeError(f"compile() takes a function or a module, got {type(model).__name__}")
    return CompiledFunction(model, compiled_options)


def _backend(name: str) -> str:
    if name in BACKENDS:
        return BACKENDS[name]
    import difflib  # here, since it is only needed to say this

    near = difflib.get_close_matches(str(name), BACKENDS, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(BACKENDS)}"
    raise ValueError(f"unknown backend {name!r}{hint}")
