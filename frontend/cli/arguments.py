"""A function's parameters, filled with the values of `--arg`."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from ...compiler.text.lexer import suggestion
from .values import EXAMPLE_TYPE


def bind(
    function: Callable[..., Any], name: str, values: Mapping[str, Any], command: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for a call of `function`.

    Args:
        function: whose parameters the values are for.
        name: the function's, for messages.
        values: by parameter; the value of `*parts` is a sequence, and `**options` takes the rest.
        command: the command line to show in an example, up to its arguments.

    Raises:
        click.UsageError: a parameter has no value, or a value no parameter.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: it says nothing of its parameters
        return (), dict(values)
    named = {p.name: p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD}
    extra = {key: value for key, value in values.items() if key not in named}
    if extra and len(named) == len(signature.parameters):
        raise click.UsageError(_unknown(name, next(iter(extra)), named))
    missing = [key for key, p in named.items() if _is_required(p) and key not in values]
    if missing:
        raise click.UsageError(_missing(name, missing, values, command))
    chosen = {key: _given(p, values[key]) for key, p in named.items() if key in values}
    bound = inspect.BoundArguments(signature, OrderedDict(chosen))
    return bound.args, {**bound.kwargs, **extra}


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL


def _given(parameter: inspect.Parameter, value: Any) -> Any:
    if parameter.kind is not parameter.VAR_POSITIONAL:
        return value
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _unknown(name: str, given: str, known: Mapping[str, inspect.Parameter]) -> str:
    there = f"; it takes {', '.join(known)}" if known else "; it takes none"
    return f"{name} has no parameter {given!r}{suggestion(given, known) or there}"


def _missing(name: str, missing: Sequence[str], values: Mapping[str, Any], command: str) -> str:
    example = " ".join(f"--arg '{m}={EXAMPLE_TYPE}'" for m in missing)
    given = ", besides those given," if values else ""
    needs = ", ".join(map(repr, missing))
    return f"{name} needs types or values{given} for: {needs}\nFor instance:  {command} {example}"
