"""Dictionaries and lists that tell compiled functions when what they hold was exchanged.

A compiled step keeps the tensors that it found in an optimizer's state.  PyTorch's programs replace
entries of `optimizer.state` and `optimizer.param_groups` at will, so these containers announce it
(`structure_changed`), and the next call of the compiled function looks again.  Inside a compiled
function such a change would happen once, while tracing, and never again: it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..announce import announce
from ..context import current
from ..core import TensorBase, structure_changed

K = TypeVar("K")
V = TypeVar("V")


def _announced(kind: type, name: str) -> Callable[..., Any]:
    plain = getattr(kind, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        announce("an optimizer's state or group")
        return plain(self, *args, **kwargs)

    method.__name__ = method.__qualname__ = name
    return method


def _set(mapping: dict[Any, Any], key: Any, value: Any) -> None:
    """Sets an entry, in a trace until the call fails."""
    structure_changed()
    trace = current().trace
    if trace is None:
        dict.__setitem__(mapping, key, value)
    else:
        trace.outside.set_item(mapping, key, value)


class Watched(dict[K, V]):
    """A dict that announces every change of its entries."""

    def __setitem__(self, key: K, value: V) -> None:
        """Sets an entry; in a trace only to a tensor that is real, which the trace then finds."""
        if not isinstance(value, TensorBase) or value.array is None:
            announce(
                f"an optimizer's state {key!r}" if isinstance(key, str) else "an optimizer's state"
            )
        _set(self, key, value)

    __delitem__, __ior__ = (_announced(dict, name) for name in ("__delitem__", "__ior__"))
    clear, pop, popitem = (_announced(dict, name) for name in ("clear", "pop", "popitem"))
    setdefault, update = (_announced(dict, name) for name in ("setdefault", "update"))


class StateByTensor(Watched[Any, dict[str, Any]]):
    """An optimizer's state: a dictionary of its own for every tensor asked for."""

    def __missing__(self, key: Any) -> dict[str, Any]:
        made: dict[str, Any] = Watched()
        _set(self, key, made)
        return made


class WatchedList(list[V]):
    """A list that announces every change of its elements."""

    __setitem__, __delitem__ = (_announced(list, name) for name in ("__setitem__", "__delitem__"))
    __iadd__, __imul__ = (_announced(list, name) for name in ("__iadd__", "__imul__"))
    append, extend, insert = (_announced(list, name) for name in ("append", "extend", "insert"))
    clear, pop, remove = (_announced(list, name) for name in ("clear", "pop", "remove"))
    reverse, sort = (_announced(list, name) for name in ("reverse", "sort"))


class Seen:
    """Remembered by a trace like a module: its attributes are what `describe()` gives now."""

    __slots__ = ("_remembered", "describe")

    def __init__(
        self,
        describe: Callable[[], dict[str, Any]],
        remembered: Callable[[], dict[Any, Any]] = dict,
    ) -> None:
        self.describe, self._remembered = describe, remembered

    def named_state(self, names: dict[Any, str]) -> dict[Any, str]:
        """Names of what is remembered of tensors, by storage, after the tensors' own names."""
        return {
            value.storage: f"{names[tensor.storage]}_{key}"
            for tensor, values in self._remembered().items()
            if isinstance(tensor, TensorBase) and tensor.storage in names
            for key, value in values.items()
            if isinstance(value, TensorBase)
        }

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # computed, not stored
        return self.describe()
