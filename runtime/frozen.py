"""A Python function with all that compiling it would read, taken at one moment.

Numba takes a function's globals and closure for constants.  So that no change of one goes
unnoticed, they are read here, once: the frozen function holds their values, its digest depends on
them, and `reads` says where each came from, for who must notice that it is another one now.  What
could change without being another object (a list, an array) is refused.
"""

from __future__ import annotations

import dis
import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

PLAIN = (bool, int, float, complex, str, bytes, type(None))
TRUSTED = frozenset({"builtins", "cmath", "math", "numba", "numpy", "operator"})
"""Packages whose names mean the same for as long as the process lives."""

MISSING = object()
"""What a mapping holds under a name that it does not have."""


@dataclass(frozen=True, eq=False)
class Read:
    """Something that was read.

    Attributes:
        origin: what was read, for people: `global net`, `closure variable scale`.
        place: the mapping or cell that was read.
        key: the name in the mapping; None for a cell.
        seen: what it held.
    """

    origin: str
    place: Any
    key: str | None
    seen: Any


class Attributes:
    """An object's attributes as a mapping, for a `Read`."""

    def __init__(self, target: object) -> None:
        self._target = target

    def get(self, name: str, default: Any) -> Any:
        """An attribute, or the default."""
        return getattr(self._target, name, default)


@dataclass(eq=False)
class FrozenFunction:
    """A function and the values of the names in it.

    Attributes:
        name: the function's name.
        code: its code.
        defaults: values for its last parameters.
        globals, cells: what its names mean; functions among them are frozen, too.
        options: how Numba was told to compile it, where it was.
        reads: where all this came from, that of functions that it calls included.
    """

    name: str
    code: CodeType
    defaults: tuple[Any, ...] | None
    globals: dict[str, Any] = field(default_factory=dict)
    cells: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that the function computes with; names of files and lines do not count."""
        text = "\n".join((sys.version, np.__version__, *_described(self, {})))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def origin(self) -> str:
        """`train.py:12`."""
        return f"{self.code.co_filename.rpartition('/')[2]}:{self.code.co_firstlineno}"

    def made(self, of: Callable[[Any], Any]) -> FunctionType:
        """A Python function with these values; `of` gives what stands for a value in it."""
        cells = tuple(CellType(of(cell)) for cell in self.cells)
        names = {"__builtins__": __builtins__, "__name__": self.name}
        defaults = None if self.defaults is None else tuple(map(of, self.defaults))
        function = FunctionType(self.code, names, self.name, defaults, cells)
        names.update({name: of(value) for name, value in self.globals.items()})
        return function


class Unfrozen(TypeError):  # noqa: N818  # it reads as what is the matter
    """Something that a function reads could change unnoticed."""


def freeze(function: Any) -> FrozenFunction:
    """The function as it is now.

    Args:
        function: a Python function, or one that Numba compiles.

    Raises:
        Unfrozen: it reads what could change without being another object.
    """
    return _Freezer().function(function)


class _Freezer:
    def __init__(self) -> None:
        self._known: dict[int, FrozenFunction] = {}

    def function(self, function: Any) -> FrozenFunction:
        plain: Any = getattr(function, "py_func", function)
        if id(plain) in self._known:
            return self._known[id(plain)]
        options = dict(getattr(function, "targetoptions", {}))
        made = FrozenFunction(plain.__name__, plain.__code__, plain.__defaults__, options=options)
        self._known[id(plain)] = made
        made.reads.append(
            Read(f"the code of {made.name}", Attributes(plain), "__code__", made.code)
        )
        defaults = plain.__defaults__
        place = Attributes(plain)
        made.reads.append(Read(f"the defaults of {made.name}", place, "__defaults__", defaults))
        made.defaults = self._value(made, "a default", defaults)
        for name in sorted(_names(made.code, ("LOAD_GLOBAL", "LOAD_NAME"))):
            self._global(made, plain.__globals__, name)
        for name, cell in zip(made.code.co_freevars, plain.__closure__ or (), strict=True):
            self._cell(made, name, cell)
        return made

    def _global(self, made: FrozenFunction, scope: dict[str, Any], name: str) -> None:
        value = scope.get(name, MISSING)
        made.reads.append(Read(f"global {name}", scope, name, value))
        if value is not MISSING:
            made.globals[name] = self._value(made, name, value)

    def _cell(self, made: FrozenFunction, name: str, cell: Any) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            raise Unfrozen(f"{made.name} reads {name}, which is not assigned yet") from None
        made.reads.append(Read(f"closure variable {name}", cell, None, value))
        made.cells.append(self._value(made, name, value))

    def _value(self, made: FrozenFunction, name: str, value: Any) -> Any:
        if type(value) in PLAIN or isinstance(value, np.generic):
            return value
        if type(value) is tuple:
            return tuple(self._value(made, name, item) for item in value)
        if isinstance(value, ModuleType):
            return value if _is_trusted(value.__name__) else self._module(made, value)
        inner = getattr(value, "scalar_function", value)
        if isinstance(getattr(inner, "py_func", inner), FunctionType):
            if not _is_trusted(getattr(inner, "__module__", None)):
                frozen = self.function(inner)
                made.reads += frozen.reads if frozen is not made else []
                return frozen
            return value
        if _is_fixed(value):
            return value
        raise Unfrozen(
            f"{made.name} reads {name}, a {type(value).__name__}, which could change unnoticed; "
            "pass it as an argument, or make it a number or a tuple of numbers"
        )

    def _module(self, made: FrozenFunction, module: ModuleType) -> ModuleType:
        """A module with the attributes that the code names, frozen."""
        copy = ModuleType(module.__name__)
        for name in sorted(_names(made.code, ("LOAD_ATTR", "LOAD_METHOD"))):
            if name in module.__dict__:
                value = module.__dict__[name]
                made.reads.append(Read(f"{module.__name__}.{name}", module.__dict__, name, value))
                copy.__dict__[name] = self._value(made, f"{module.__name__}.{name}", value)
        return copy


def _is_trusted(module: str | None) -> bool:
    return (module or "").partition(".")[0] in TRUSTED


def _is_fixed(value: Any) -> bool:
    """Whether a value is a function or type of a trusted package."""
    if isinstance(value, (type, BuiltinFunctionType)):
        return _is_trusted(value.__module__)
    return isinstance(value, np.ufunc) or type(value).__module__.startswith("numba.core.types")


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _names(code: CodeType, operations: tuple[str, ...]) -> set[str]:
    """The names that instructions of some kinds read."""
    instructions = (i for c in _codes(code) for i in dis.get_instructions(c))
    return {str(i.argval) for i in instructions if i.opname in operations}


def _described(value: Any, known: dict[int, int]) -> Iterator[str]:
    """A value as lines of text, the same for the same value in any process."""
    if isinstance(value, FrozenFunction):
        if id(value) in known:
            yield f"function {known[id(value)]}"
            return
        known[id(value)] = len(known)
        parts: list[Any] = [value.code, value.defaults, *value.cells]
        parts += [item for name in sorted(value.globals) for item in (name, value.globals[name])]
        parts += [item for name in sorted(value.options) for item in (name, value.options[name])]
        yield from _listed("function", parts, known)
    elif isinstance(value, CodeType):
        parts = [value.co_code, value.co_consts, value.co_names, value.co_varnames]
        parts += [value.co_freevars, value.co_cellvars, value.co_argcount, value.co_flags]
        parts += [value.co_exceptiontable]
        yield from _listed("code", parts, known)
    elif isinstance(value, (tuple, list)):
        yield from _listed("tuple", value, known)
    elif isinstance(value, ModuleType) and not _is_trusted(value.__name__):
        names = sorted(n for n in value.__dict__ if not n.startswith("__"))
        yield from _listed("module", [i for n in names for i in (n, value.__dict__[n])], known)
    elif isinstance(value, (*PLAIN, np.generic)):
        yield f"{type(value).__name__} {value.hex() if type(value) is float else repr(value)}"
    else:
        yield f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', repr(value))}"


def _listed(kind: str, parts: Any, known: dict[int, int]) -> Iterator[str]:
    yield f"{kind} {len(parts)}"
    for part in parts:
        yield from _described(part, known)
