"""Changes of objects that were there before the trace, from what is about to make them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import CellType, FunctionType, ModuleType
from typing import Any

from ..errors import UntraceableError
from ..frames import place
from ..guards import Cell, Entry
from .effects import Effect, Effects, set_cell, set_entry
from .reads import MUTABLE, Reads


class Writes:
    """The writes of one trace, sorted by what they change."""

    def __init__(self, reads: Reads, effects: Effects) -> None:
        self._reads, self._effects = reads, effects

    def _effect(
        self, text: str, apply: Callable[..., Any], target: tuple[Any, ...], *values: Any
    ) -> Effect:
        return Effect(apply, target, values, text, self._reads.line)

    def entry(self, mapping: dict[Any, Any], key: Any, value: Any, text: str) -> None:
        """A global variable or an attribute is assigned; deleted if the value is `MISSING`."""
        effect = self._effect(text, set_entry, (mapping, key), value)
        restore = lambda held: set_entry(mapping, key, held)  # noqa: E731
        self._effects.at_place(effect, Entry(mapping, key), restore)

    def cell(self, cell: CellType, value: Any, name: str) -> None:
        """A variable of an enclosing function is assigned."""
        if self._reads.is_outside(cell):
            effect = self._effect(name, set_cell, (cell,), value)
            self._effects.at_place(effect, Cell(cell), lambda held: set_cell(cell, held))

    def attribute(self, target: Any, name: str, value: Any) -> None:
        """`target.name = value`, as far as no Python code does it; deleted if it is `MISSING`."""
        if not self._reads.is_outside(target) or not _is_plain(type(target), name):
            return
        text = f"{self._reads.name_of(target)}.{name}"
        mapping = getattr(target, "__dict__", None)
        if isinstance(target, ModuleType) or (
            type(mapping) is dict and not _slot(type(target), name)
        ):
            self.entry(target.__dict__, name, value, text)
        else:
            raise UntraceableError(
                f"{text} is assigned{place()}, which a compiled call would not do again. Keep the "
                "value in an attribute of an instance, or return it"
            )

    def contents(self, container: Any, method: Callable[..., Any], *values: Any) -> None:
        """A method of a container's class changes what it holds."""
        if isinstance(container, MUTABLE) and self._reads.is_outside(container):
            text = f"{self._reads.name_of(container)}.{method.__name__}"
            self._effects.in_contents(self._effect(text, method, (container,), *values), container)

    def item(self, container: Any, key: Any, value: Any) -> None:
        """`container[key] = value`."""
        if isinstance(container, dict) and self._reads.is_outside(container):
            text = f"{self._reads.name_of(container)}[{key!r}]"
            effect = self._effect(text, operator.setitem, (container, key), value)
            self._effects.of_entry(effect, container, key)
        else:
            self.contents(container, operator.setitem, key, value)

    def said(
        self, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        """Something is printed or logged: after each call, and not while tracing."""
        self._reads.made(keywords)
        text = f"{getattr(function, '__name__', 'a function')}()"
        self._effects.made.append(self._effect(text, _say, (function,), args, keywords))


def _say(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    function(*args, **keywords)


def _slot(cls: type, name: str) -> bool:
    """Whether an attribute is stored by its class rather than in the instance's dictionary."""
    return any(hasattr(vars(base).get(name), "__set__") for base in cls.__mro__)


def _is_plain(cls: type, name: str) -> bool:
    """Whether assigning an attribute runs no Python code."""
    if isinstance(cls.__setattr__, FunctionType):
        return False
    return not any(isinstance(vars(base).get(name), property) for base in cls.__mro__)
