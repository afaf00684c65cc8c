"""From a target to the report on it: which function it is, and what it is traced with."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .arguments import bind
from .group import UserError
from .targets import find_object, is_text, read_graphs
from .user_code import user_code
from .values import parse_arguments

if TYPE_CHECKING:
    from ...runtime.options import Options
    from ..compiled_function import CompiledFunction
    from ..nn.module import Module
    from ..record import Recording
    from ..report import Report


@dataclass(frozen=True)
class Function:
    """A function to show.

    Attributes:
        compiled: it, compiled by the user or for the occasion.
        first: arguments that are bound to it already (a method's object).
        name: what to call it in messages.
        called: as the user's program has called it, if that is another object.
    """

    compiled: CompiledFunction[..., Any]
    name: str
    first: tuple[Any, ...] = ()
    called: CompiledFunction[..., Any] | None = None

    @property
    def newest(self) -> Recording | None:
        """What was recorded when the user's program last called it with arguments of new types."""
        forms = (self.called or self.compiled).specialisations
        return forms[-1].recording if forms else None


def report_on(target: str, texts: Sequence[str], backend: str | None) -> Report:
    """The report on a target.

    Args:
        target: as `targets` describes.
        texts: the `--arg` options.
        backend: instead of the function's own.
    """
    from ..report import Report

    if is_text(target):
        if texts:
            raise click.UsageError("--arg is for functions: IR text says its arguments' types")
        return Report(read_graphs(target), options_for(backend))
    values = parse_arguments(texts)
    function = _function(find_object(target), target)
    recording = _recording(function, values, target)
    return Report(recording, options_for(backend, function.called or function.compiled))


def options_for(backend: str | None, compiled: CompiledFunction[..., Any] | None = None) -> Options:
    """The environment's options, with the back end that is asked for or that a function has.

    Raises:
        UserError: the environment asks for what there is not.
    """
    from ...runtime.options import default_options

    try:
        options = default_options()
    except ValueError as error:  # the environment's
        raise UserError(str(error)) from error
    chosen = backend or (compiled and compiled._options.backend)
    return options if chosen in (None, "eager") else options.replace(backend=chosen)


def _function(found: Any, target: str) -> Function:
    from ..compile import compile
    from ..compiled_function import CompiledFunction
    from ..nn.module import Module

    if isinstance(found, functools.partial) and isinstance(found.func, CompiledFunction):
        return Function(found.func, found.func.name, found.args)  # a compiled method of an object
    if isinstance(found, CompiledFunction):
        return Function(found, found.name)
    if isinstance(found, Module):
        call = _call_of(found)
        called = vars(found).get("_compiled_call")
        return Function(compile(call), call.__name__, called=called)
    if isinstance(found, type) or not callable(found):
        kind = "a class" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise UserError(f"{target} is {kind}; name a function, a method or a module object")
    made = compile(found)
    return Function(made, made.name)


def _call_of(module: Module) -> Any:
    """A module's call, with its hooks, under the names of `forward`'s parameters."""

    @functools.wraps(module.forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        return module(*args, **kwargs)

    call.__name__ = type(module).__name__
    return call


def _recording(function: Function, values: Mapping[str, Any], target: str) -> Recording:
    if not values and function.newest is not None:
        return function.newest
    call = functools.partial(function.compiled, *function.first)
    command = f"{click.get_current_context().command_path} {target}"
    args, kwargs = bind(call, function.name, values, command)
    with user_code(f"tracing {function.name}"):
        return function.compiled.graph_for(*function.first, *args, **kwargs)
