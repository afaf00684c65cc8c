"""Modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..context import current
from ..functions.joining import stack


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """What a module returns with other tensors in place of its parameters and buffers.

    Args:
        module: the module, which is left as it was.
        parameter_and_buffer_dicts: tensors by dotted name, in one mapping or several.
        args: the positional argument, or a tuple of them.
        kwargs: keyword arguments.
        tie_weights: whether a tensor that has several names is replaced under all of them.
        strict: refuse names that the module lacks, and parameters or buffers that are not named.

    Raises:
        ValueError: a name stands in two of the mappings.
        RuntimeError: `strict`, and the names are not the module's.
    """
    tensors = _merged(parameter_and_buffer_dicts)
    places = _places(module)
    if strict:
        _require_names(tensors, places)
    if tie_weights:
        _tie(tensors, places)
    given = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, places, tensors):
        return module(*given, **(kwargs or {}))


def _merged(mappings: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for mapping in [mappings] if isinstance(mappings, Mapping) else mappings:
        twice = merged.keys() & mapping.keys()
        if twice:
            raise ValueError(f"{sorted(twice)} appeared in multiple dictionaries")
        merged.update(mapping)
    return merged


def _places(module: Any) -> dict[str, tuple[dict[str, Any], str]]:
    """Where each parameter and buffer is held, by dotted name, shared ones by all their names."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for path, child in module.named_modules(remove_duplicate=False):
        for held in (child._parameters, child._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    found[f"{path}.{name}" if path else name] = held, name
    return found


def _require_names(tensors: dict[str, Any], places: dict[str, Any]) -> None:
    unexpected = sorted(tensors.keys() - places.keys())
    missing = sorted(places.keys() - tensors.keys())
    if unexpected or missing:
        raise RuntimeError(
            f"Error(s) in functional_call: unexpected key(s) {unexpected}, missing key(s) {missing}"
        )


def _tie(tensors: dict[str, Any], places: dict[str, tuple[dict[str, Any], str]]) -> None:
    replacements = {}
    for path, tensor in tensors.items():
        if path in places:
            held, name = places[path]
            replacements[id(held[name])] = tensor
    for path, (held, name) in places.items():
        if path not in tensors and id(held[name]) in replacements:
            tensors[path] = replacements[id(held[name])]


@contextmanager
def _replaced(
    module: Any, places: dict[str, tuple[dict[str, Any], str]], tensors: dict[str, Any]
) -> Iterator[None]:
    """Puts tensors into the module for a block; what it holds outside stays what is guarded."""
    trace = current().trace
    if trace is not None:
        for child in module.modules():
            trace.note_module(child)
    before = {path: held[name] for path, (held, name) in places.items() if path in tensors}
    try:
        for path in before:
            held, name = places[path]
            held[name] = tensors[path]
        yield
    finally:
        for path, tensor in before.items():
            held, name = places[path]
            held[name] = tensor


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and buffers of several models of one kind, stacked: an ensemble for `vmap`.

    Returns:
        The parameters, as new leaves that want gradients as the models' do, and the buffers.

    Raises:
        RuntimeError: there is no model, or they are of different kinds.
    """
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if any(type(model) is not type(models[0]) for model in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    parameters = [dict(model.named_parameters()) for model in models]
    buffers = [dict(model.named_buffers()) for model in models]
    return _stacked(parameters), _stacked(buffers)


def _stacked(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    stacked = {}
    for name, first in states[0].items():
        whole = stack([state[name].detach() for state in states])
        stacked[name] = whole.requires_grad_(first.requires_grad)
    return stacked
