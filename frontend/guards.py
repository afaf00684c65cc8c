"""Guards: that places which traced code read still hold what it saw, all in one function.

A place is an entry of a dictionary, an attribute, a cell, and so on.  What is plain is compared by
type and value, all else by identity; a guard keeps what it saw alive, so that an identity stays its
own.  State that lives in taut's own classes (modules, optimizers, `.grad`) needs no guard here:
those classes move the epoch (`context.Epoch`) when they change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_
from struct import Struct
from types import CellType
from typing import Any, ClassVar

import numpy as np

from ..compiler.ir import Loc
from ..runtime.frozen import MISSING, Read

PLAIN = frozenset({bool, int, float, complex, str, bytes, range, slice, tuple, frozenset})
"""Types whose values are compared."""
_COPIED = PLAIN - {bool}  # types of which two equal values may be two objects


def is_taut(value: Any) -> bool:
    """Whether a value's class is taut's own, which tells of its changes by itself."""
    return type(value).__module__.partition(".")[0] == "taut"


# --- places ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Place:
    """Where something was read: `key` of `owner`.  `text` reads it again, of owner p and key k."""

    owner: Any
    key: Any = None
    text: ClassVar[str]

    @property
    def identity(self) -> tuple[type[Place], int, Any]:
        """What two places that are the same have in common."""
        return type(self), id(self.owner), self.key

    def read(self) -> Any:
        """What it holds now."""
        names = NAMES | {"p": self.owner, "k": self.key}
        return eval(self.text.format(p="p", k="k"), names)  # noqa: S307  # the text of its class


class Entry(Place):
    """An entry of a dictionary."""

    text = "{p}.get({k}, missing)"


class ClassEntry(Place):
    """What a class itself defines under a name."""

    text = "{p}.__dict__.get({k}, missing)"


class Attribute(Place):
    """An attribute that is read without running Python code."""

    text = "getattr({p}, {k}, missing)"


class Cell(Place):
    """A variable that a function closes over."""

    text = "cell_value({p})"


class Element(Place):
    """An element of a list."""

    text = "element({p}, {k})"


class Length(Place):
    """The length of a container."""

    text = "len({p})"


class Contents(Place):
    """All that a container holds, in order."""

    text = "contents({p})"


def contents(container: Any) -> tuple[Any, ...]:
    """What a container holds, one level deep."""
    if isinstance(container, np.ndarray):
        return container.dtype.str, container.shape, container.tobytes()
    if isinstance(container, dict):
        return (*container, *container.values())
    return tuple(container)


def _cell_value(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned
        return MISSING


def _element(sequence: Any, index: int) -> Any:
    try:
        return sequence[index]
    except IndexError:
        return MISSING


# --- comparison -----------------------------------------------------------------------------------

_bits = Struct("d").pack  # tells zeros apart, and finds nan equal to itself


def alike(now: Any, seen: Any) -> bool:
    """Whether two values are the same to a trace: plain ones by value, others as objects."""
    if now is seen:
        return True
    kind = type(seen)
    if type(now) is not kind or kind not in PLAIN:
        return False
    if kind is float:
        return _bits(now) == _bits(seen)
    if kind is tuple:
        return len(now) == len(seen) and all(map(alike, now, seen))
    return bool(now == seen)


def alike_all(now: tuple[Any, ...], seen: tuple[Any, ...]) -> bool:
    """`alike` for the contents of a container; what did not change takes no Python code."""
    return len(now) == len(seen) and (all(map(is_, now, seen)) or all(map(alike, now, seen)))


NAMES: dict[str, Any] = {
    "missing": MISSING,
    "cell_value": _cell_value,
    "element": _element,
    "contents": contents,
    "alike": alike,
    "alike_all": alike_all,
}


# --- guards ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Guard:
    """That a place still holds what the trace saw.

    Attributes:
        place: what was read.
        seen: what it held.
        origin: what was read, for people: `net`, `config.lr`.
        line: of the user's program, that read it.
    """

    place: Place
    seen: Any
    origin: str
    line: Loc | None = None

    @classmethod
    def of(cls, read: Read) -> Guard:
        """The guard on what somebody read by name."""
        place = Cell(read.place) if read.key is None else Entry(read.place, read.key)
        return cls(place, read.seen, read.origin)

    def holds(self) -> bool:
        """Whether it does."""
        now = self.place.read()
        return (
            alike_all(now, self.seen) if isinstance(self.place, Contents) else alike(now, self.seen)
        )

    def condition(self, n: int) -> str:
        """The same as an expression over the names that `names` binds."""
        read = self.place.text.format(p=f"p{n}", k=f"k{n}")
        if isinstance(self.place, Contents):
            return f"alike_all({read}, s{n})"
        if type(self.seen) in (int, str):
            return f"type(v := {read}) is t{n} and v == s{n}"
        return f"alike({read}, s{n})" if type(self.seen) in _COPIED else f"{read} is s{n}"

    def names(self, n: int) -> dict[str, Any]:
        """What the condition's names mean."""
        place = self.place
        return {
            f"p{n}": place.owner,
            f"k{n}": place.key,
            f"s{n}": self.seen,
            f"t{n}": type(self.seen),
        }


def name_guards(function: Callable[..., Any]) -> Iterator[Guard]:
    """A guard for each global and closure variable that `function`'s own code names."""
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    scope: dict[str, Any] = getattr(function, "__globals__", {})
    for name in code.co_names:
        if name in scope:
            yield Guard(Entry(scope, name), scope[name], f"global {name}")
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars, cells, strict=True):
        place = Cell(cell)
        yield Guard(place, place.read(), f"closure variable {name}")


def compiled_guards(guards: Sequence[Any]) -> Callable[[], bool]:
    """One function that tells whether all guards hold."""
    names = dict(NAMES)
    for number, guard in enumerate(guards):
        names.update(guard.names(number))
    conditions = [guard.condition(number) for number, guard in enumerate(guards)]
    source = f"lambda: {' and '.join(f'({c})' for c in conditions) or 'True'}"
    function: Callable[[], bool] = eval(source, names)  # noqa: S307  # from guards alone, no user text
    return function
