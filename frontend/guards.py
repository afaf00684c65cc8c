"""Guards on what a compiled function reads by name: its globals and its closure.

They are compiled into one function.  State that lives in taut's own classes (modules, optimizers,
`.grad`) needs no guard of its own here: those classes move the epoch (`context.Epoch`) when they
change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..runtime.frozen import MISSING, Read

PLAIN = (bool, int, float, str, bytes, type(None))


class Guard(Read):
    """That something read by name is still what the trace saw."""

    origin: str
    place: Any
    key: str | None
    seen: Any

    @classmethod
    def of(cls, read: Read) -> Guard:
        """The guard on what somebody read."""
        return cls(read.origin, read.place, read.key, read.seen)

    def expression(self, number: int) -> str:
        """The condition, over names that `names` binds."""
        read = (
            f"p{number}.cell_contents"
            if self.key is None
            else f"p{number}.get({self.key!r}, missing)"
        )
        if not isinstance(self.seen, PLAIN) or self.seen is None or isinstance(self.seen, bool):
            return f"{read} is s{number}"
        if isinstance(self.seen, float):  # nan is equal to itself here, and 0.0 is not -0.0
            return (
                f"(v := {read}) is s{number} or type(v) is float and v.hex() == {self.seen.hex()!r}"
            )
        return f"type(v := {read}) is t{number} and v == s{number}"

    def names(self, number: int) -> dict[str, Any]:
        """What the expression's names mean."""
        return {f"p{number}": self.place, f"s{number}": self.seen, f"t{number}": type(self.seen)}


def name_guards(function: Callable[..., Any]) -> Iterator[Guard]:
    """A guard for each global and closure variable that `function`'s own code names."""
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    scope: dict[str, Any] = getattr(function, "__globals__", {})
    for name in code.co_names:
        if name in scope:
            yield Guard(f"global {name}", scope, name, scope[name])
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            yield Guard(f"closure variable {name}", cell, None, cell.cell_contents)
        except ValueError:  # not assigned yet, so the trace cannot have read it
            continue


def compiled_guards(guards: Sequence[Guard]) -> Callable[[], bool]:
    """One function that tells whether all guards hold."""
    names: dict[str, Any] = {"missing": MISSING}
    for number, guard in enumerate(guards):
        names.update(guard.names(number))
    conditions = [guard.expression(number) for number, guard in enumerate(guards)]
    source = f"lambda: {' and '.join(f'({c})' for c in conditions) or 'True'}"
    function: Callable[[], bool] = eval(source, names)  # noqa: S307  # from guards alone, no user text
    return function
