"""What traced code changes in Python, outside of itself: done again after every call.

While the function is traced its changes really happen, so that it sees them itself.  At the end
they are taken back, and each call makes them afresh, in order, with what the program computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...compiler.ir import Loc
from ...runtime.frozen import MISSING
from ..guards import Entry, Place


@dataclass(frozen=True, eq=False)
class Effect:
    """A change of something that outlives the trace: `apply(*target, *values)`.

    Attributes:
        apply: what makes it: `list.append`, `set_entry`, ...
        target: what is changed, and where.
        values: what it becomes, or is given.
        text: what is changed, for people.
        line: the user's line.
    """

    apply: Callable[..., Any]
    target: tuple[Any, ...]
    values: tuple[Any, ...]
    text: str
    line: Loc | None


@dataclass(frozen=True, eq=False)
class Kept:
    """An object that was there before the trace, as a leaf of what an effect is given."""

    target: Any


class Effects:
    """The changes of one trace, and how they are taken back."""

    def __init__(self) -> None:
        self.made: list[Effect] = []
        self._undo: list[Callable[[], None]] = []
        self._contents: dict[int, tuple[Any, Any]] = {}
        self._whole: set[int] = set()
        self._places: dict[tuple[type[Place], int, Any], Any] = {}

    def at_place(self, effect: Effect, place: Place, restore: Callable[[Any], None]) -> None:
        """Notes a change of one place, before it happens."""
        self.made.append(effect)
        key = place.identity
        if key not in self._places:
            held = place.read()
            self._places[key] = place.owner
            self._undo.append(lambda: restore(held))

    def in_contents(self, effect: Effect, container: Any) -> None:
        """Notes a change of what a container holds, before it happens."""
        self.made.append(effect)
        self._save(container)
        self._whole.add(id(container))

    def of_entry(self, effect: Effect, mapping: dict[Any, Any], key: Any) -> None:
        """Notes a change of one entry of a dictionary, before it happens."""
        self._save(mapping)
        self.at_place(effect, Entry(mapping, key), lambda held: set_entry(mapping, key, held))

    def _save(self, container: Any) -> None:
        if id(container) not in self._contents:
            held = container.copy()
            self._contents[id(container)] = container, held
            self._undo.append(lambda: _refill(container, held))

    def original(self, container: Any) -> Any:
        """What a container held before the trace changed it, or None if it did not."""
        found = self._contents.get(id(container))
        return None if found is None else found[1]

    def has_changed_whole(self, container: Any) -> bool:
        """Whether the trace has changed a container by more than single entries."""
        return id(container) in self._whole

    def has_changed(self, place: Place) -> bool:
        """Whether the trace has changed what a place holds."""
        return place.identity in self._places

    def take_back(self) -> None:
        """Undoes all, the last change first."""
        while self._undo:
            self._undo.pop()()


def _refill(container: Any, held: Any) -> None:
    if isinstance(container, (list, bytearray)):
        container[:] = held
    elif hasattr(container, "shape"):
        container[...] = held
    else:
        container.clear()
        (container.extend if isinstance(container, deque) else container.update)(held)


def set_cell(cell: Any, value: Any) -> None:
    """Assigns a variable that a function closes over."""
    if value is MISSING:
        del cell.cell_contents
    else:
        cell.cell_contents = value


def set_entry(mapping: dict[Any, Any], key: Any, value: Any) -> None:
    """Sets an entry of a dictionary, or removes it."""
    if value is MISSING:
        mapping.pop(key, None)
    else:
        mapping[key] = value
