"""What traced code read of objects that were there before it ran: the guards of its program."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from types import (
    CellType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any

import numpy as np

from ...compiler.ir import Loc
from ...runtime.frozen import MISSING
from ..context import current
from ..core import TensorBase
from ..errors import UntraceableError
from ..frames import is_own, place
from ..guards import (
    PLAIN,
    Attribute,
    Cell,
    ClassEntry,
    Contents,
    Element,
    Entry,
    Guard,
    Length,
    Place,
    alike,
    contents,
    is_taut,
)
from ..nn.registration import Registry
from .effects import Effects
from .numbers import Expression, HostNumber, note

MUTABLE = (list, dict, set, deque, np.ndarray, bytearray)
LARGEST_ARRAY = 1 << 20
"""Bytes of a NumPy array that a guard compares at each call."""

_CONSTANT = (bool, int, float, complex, str, bytes, type(None), tuple, frozenset, range, slice)
_NESTED = 8
Varying = AbstractSet[tuple[type[Place], int, Any]]
"""Identities of the places whose numbers and tensors are read at each call."""


class Reads:
    """The reads of one trace.

    A place is guarded with what it held before the trace touched it, and only once.  What the trace
    made itself needs no guard.

    Attributes:
        line: the user's line that is running.
        stand_in: what the running instruction reads, and what stands for it, if it varies.
    """

    def __init__(self, effects: Effects, varying: Varying) -> None:
        self._effects, self._varying = effects, varying
        self._stand_ins: dict[Any, Any] = {}
        self._guards: dict[tuple[type[Place], int, Any], Guard] = {}
        self._made: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self.line: Loc | None = None
        self.stand_in: tuple[Any, Any] | None = None

    @property
    def guards(self) -> tuple[Guard, ...]:
        """All guards, in the order of the first reads."""
        return tuple(self._guards.values())

    # --- what is outside --------------------------------------------------------------------------

    def made(self, value: Any) -> None:
        """Notes an object that the traced code made."""
        self._made[id(value)] = value

    def is_outside(self, value: Any) -> bool:
        """Whether an object may have been there before, and does not tell of its changes itself."""
        return id(value) not in self._made and not is_taut(value)

    def name_of(self, value: Any) -> str:
        """The expression that an object was found by, or its type."""
        return self._names.get(id(value), f"a {type(value).__name__}")

    # --- reads ------------------------------------------------------------------------------------

    def _read(self, place: Place, name: str, seen: Any = MISSING) -> None:
        key = place.identity
        if self._effects.has_changed(place):
            return
        if key in self._varying and seen is MISSING:
            self._read_anew(place)
        elif key not in self._guards:
            seen = place.read() if seen is MISSING else seen
            self._guards[key] = Guard(place, seen, name, self.line)
            if not isinstance(seen, _CONSTANT):
                self._names.setdefault(id(seen), name)

    def _read_anew(self, place: Place) -> None:
        """What is not always the same: calls read it, and the trace sees a stand-in."""
        value, known = place.read(), self._stand_ins.get(place.identity)
        if known is None:
            known = self._stand_ins[place.identity] = _stand_in(place, value)
        self.stand_in = value, known

    def variable(self, scope: dict[str, Any], name: str) -> None:
        """A global variable."""
        self._read(Entry(scope, name), name)

    def cell(self, cell: CellType, name: str) -> None:
        """A variable of an enclosing function."""
        if self.is_outside(cell):
            self._read(Cell(cell), name)

    def item(self, container: Any, key: Any) -> None:
        """`container[key]`."""
        _note_module(container)
        if not isinstance(container, MUTABLE) or id(container) in self._made:
            return
        if is_taut(container):
            self._item_of_own(container, key)
        elif self._effects.has_changed_whole(container):
            self.all_of(container)
        elif isinstance(container, dict):
            self._read(Entry(container, key), f"{self.name_of(container)}[{key!r}]")
        elif isinstance(container, (list, deque)) and isinstance(key, int):
            if key < 0:
                self.length(container)
            self._read(Element(container, key), f"{self.name_of(container)}[{key}]")
        else:
            self.all_of(container)

    def _item_of_own(self, container: Any, key: Any) -> None:
        """A number of an optimizer's group; what else these containers hold they tell of."""
        if isinstance(container, dict) and type(container.get(key)) in PLAIN:
            self._read(Entry(container, key), f"{self.name_of(container)}[{key!r}]")

    def length(self, container: Any) -> None:
        """How many elements there are; also whether there are any."""
        _note_module(container)
        if isinstance(container, MUTABLE) and self.is_outside(container):
            if self._effects.original(container) is not None:
                self.all_of(container)
            else:
                self._read(Length(container), f"len({self.name_of(container)})")

    def all_of(self, value: Any, depth: int = _NESTED) -> None:
        """All that a container holds, and the containers in it.

        Raises:
            UntraceableError: the value is an iterator from outside, or too large an array.
        """
        _note_module(value)
        if isinstance(value, Iterator) and not isinstance(type(value).__next__, FunctionType):
            self._refuse_iterator(value)
        elif isinstance(value, (np.ndarray, bytearray)):
            if self.is_outside(value):
                self._all_of_array(value)
        elif isinstance(value, (tuple, *MUTABLE)) and not is_taut(value):
            if not isinstance(value, tuple) and self.is_outside(value):
                held = self._effects.original(value)
                seen = contents(value if held is None else held)
                self._read(Contents(value), self.name_of(value), seen)
            for item in contents(value) if depth else ():
                self.all_of(item, depth - 1)

    def _refuse_iterator(self, iterator: Any) -> None:
        """Raises for an iterator that was there before: it gives something else at each call."""
        own = isinstance(iterator, GeneratorType) and is_own(iterator.gi_code)
        if self.is_outside(iterator) and not own:  # `parameters()` is new each time
            raise UntraceableError(
                f"{self.name_of(iterator)} would be advanced while tracing{place()}, and not by a "
                "compiled call. Take the next element outside, and pass it as an argument"
            )

    def _all_of_array(self, array: Any) -> None:
        size = memoryview(array).nbytes
        if size > LARGEST_ARRAY:
            raise UntraceableError(
                f"{self.name_of(array)} holds {size} bytes{place()}: too many to be compared at "
                "each call. Pass it as an argument, as a tensor"
            )
        held = self._effects.original(array)
        self._read(Contents(array), self.name_of(array), contents(array if held is None else held))

    # --- attributes -------------------------------------------------------------------------------

    def attribute(self, value: Any, name: str) -> None:
        """What `value.name` finds, as far as no Python code computes it."""
        if isinstance(value, (TensorBase, *_CONSTANT)) or id(value) in self._made:
            return
        text = f"{self.name_of(value)}.{name}"
        if isinstance(value, ModuleType):
            if value.__name__.partition(".")[0] != "taut":
                self._read(Entry(value.__dict__, name), text)
        elif isinstance(value, type):
            self._class_entry(value, name, text)
        else:
            self._of_instance(value, name, text)

    def _class_entry(self, cls: type, name: str, text: str) -> None:
        home = _home(cls, name)
        if home is not None and home.__module__.partition(".")[0] not in ("taut", "builtins"):
            stable = getattr(cls, name, None) is getattr(cls, name, None)
            self._read(Attribute(cls, name) if stable else ClassEntry(home, name), text)

    def _of_instance(self, value: Any, name: str, text: str) -> None:
        cls = type(value)
        if is_taut(value):
            if name in getattr(value, "__dict__", ()):
                self._read(Entry(value.__dict__, name), text)
            return
        home = _home(cls, name)
        found = None if home is None else vars(home)[name]
        if isinstance(found, (MemberDescriptorType, GetSetDescriptorType)):
            if self.is_outside(value) and alike(*(getattr(value, name, MISSING) for _ in "ab")):
                self._read(Attribute(value, name), text)
            return
        mapping = None if isinstance(found, property) else getattr(value, "__dict__", None)
        if type(mapping) is dict:
            self._read(Entry(mapping, name), text)
        self._class_entry(cls, name, f"{cls.__name__}.{name}")


def _stand_in(place: Place, value: Any) -> Any:
    """What stands for a number or a tensor that calls read at a place."""
    expression = Expression(place)
    if isinstance(value, TensorBase):
        note(Expression(type_of, (expression,)), type_of(value))
        trace = current().trace
        assert trace is not None
        return trace.host_tensor(expression, value)
    note(Expression(type, (expression,)), type(value))
    return HostNumber(value, expression)


def type_of(value: Any) -> Any:
    """What the program for one tensor needs another to have in common with it."""
    if not isinstance(value, TensorBase) or value.array is None:
        return None
    return value.dtype.name, value.array.shape, value._requires_grad


def _note_module(value: Any) -> None:
    """Remembers what a module holds, if it is one: lists of modules are read like any other."""
    trace = current().trace
    if trace is not None and isinstance(value, Registry):
        value._note(trace)


def _home(cls: type, name: str) -> type | None:
    """The class that defines a name for `cls`."""
    return next((base for base in cls.__mro__ if name in vars(base)), None)
