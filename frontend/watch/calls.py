"""Functions that are not Python code: what they read of their arguments, and what they change.

Functions in Python are watched themselves.  Of others it is known only what they are said to do:
most compute from all that their arguments hold, and from nothing else.
"""

from __future__ import annotations

import random
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from io import IOBase
from operator import attrgetter, itemgetter
from types import (
    BuiltinFunctionType,
    BuiltinMethodType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from ..errors import UntraceableError
from ..frames import is_own, place
from .numbers import COMPUTING, HostNumber, computed
from .pending_call import PendingCall
from .reads import MUTABLE, Reads
from .writes import Writes

_UNREAD = frozenset({isinstance, issubclass, callable, id, type, super, slice, range, property})
"""What reads nothing that its arguments hold, or what was read of them when they were made."""
_MAKERS = frozenset({deque, sorted, iter})
_MAKING = frozenset({"copy", "items", "keys", "values", "split"})
"""What gives a new object."""
_CHANGING = frozenset(
    "append extend insert pop remove clear sort reverse update setdefault popitem add discard "  # noqa: SIM905  # easier to read
    "appendleft popleft extendleft rotate __setitem__ __delitem__ __iadd__ __ior__ fill put "
    "itemset intersection_update difference_update symmetric_difference_update".split()
)
"""Methods that change what a container holds."""
_KINDS = (type, FunctionType, MethodType, BuiltinFunctionType, MethodDescriptorType)
_OUTPUT = ("write", "writelines", "flush")
_LEVELS = ("debug", "info", "warning", "error", "critical", "exception", "log")
_CLOCKS = frozenset(f for name, f in vars(time).items() if callable(f) and name != "struct_time")
_NOW = ("now", "today", "utcnow")
_GENERATORS: tuple[type, ...] = (random.Random,)
_GENERATES = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR


class Calls:
    """Sorts calls by what they read and change."""

    def __init__(self, reads: Reads, writes: Writes) -> None:
        self._reads, self._writes = reads, writes

    def diverted(self, call: PendingCall) -> Callable[..., Any] | None:
        """What is to be called instead, if it is another function than the user's code names."""
        function = call.function
        if not isinstance(function, _KINDS):
            return None
        if function in COMPUTING and any(isinstance(value, HostNumber) for value in call.given):
            return partial(computed, function)
        if not _is_said(function):
            return None
        self._all_of(tuple(v for v in call.given if not isinstance(v, IOBase)))
        self._writes.said(function, call.args, call.keywords)
        return _say_nothing

    def __call__(self, function: Any, args: tuple[Any, ...]) -> bool:
        """Notes what a call will do; tells whether its result is new."""
        called = getattr(type(function), "__call__", None)  # noqa: B004  # what it is, not whether
        if isinstance(called, FunctionType):
            function, args = called, (function, *args)
        if isinstance(function, MethodType):
            function, args = function.__func__, (function.__self__, *args)
        if isinstance(function, FunctionType):
            if is_own(function.__code__):
                self._all_of(args)
            return bool(function.__code__.co_flags & _GENERATES)
        if isinstance(function, type):
            return self._make(function, args)
        return self._built_in(function, args)

    def _make(self, cls: type, args: tuple[Any, ...]) -> bool:
        made_by: Any = getattr(cls, "__init__", None)
        if cls not in _UNREAD and not isinstance(made_by, FunctionType):
            self._all_of(args)
        plain = cls.__new__ in (object.__new__, list.__new__, dict.__new__, set.__new__)
        return plain or cls in _MAKERS or issubclass(cls, Iterator)

    def _built_in(self, function: Any, args: tuple[Any, ...]) -> bool:
        name = getattr(function, "__name__", "")
        bound = getattr(function, "__self__", None)
        if bound is not None and not isinstance(bound, ModuleType):
            args = (bound, *args)
        self._refuse_unknowable(function, bound, name)
        target = args[0] if args else None
        known = _READS.get(name)
        if known is not None and len(args) > 1:
            known(self, *args)
        elif name in ("len", "__len__") and args:
            self._reads.length(target)
        elif name in _CHANGING and isinstance(target, MUTABLE):
            self._change(name, args)
        elif isinstance(function, (attrgetter, itemgetter)):
            self._get(function, args)
        elif function not in _UNREAD:
            self._all_of(args)
        itself = function is iter and hasattr(type(target), "__next__")
        return (function in _MAKERS or name in _MAKING) and not itself

    def _get(self, getter: Any, args: tuple[Any, ...]) -> None:
        """`operator.attrgetter("a.b")(x)`, `operator.itemgetter(0)(x)`."""
        for key in getter.__reduce__()[1]:
            value = args[0]
            for part in key.split(".") if isinstance(getter, attrgetter) else ():
                self._reads.attribute(value, part)
                value = getattr(value, part)
            if isinstance(getter, itemgetter):
                self._reads.item(value, key)

    def _change(self, name: str, args: tuple[Any, ...]) -> None:
        target, *values = args
        if name in ("pop", "popitem", "remove", "popleft", "setdefault"):
            self._reads.all_of(target)  # what it gives or does depends on what is there
        for value in values if name in ("extend", "update", "extendleft") else ():
            self._reads.all_of(value)
        self._writes.contents(target, getattr(type(target), name), *values)

    def _all_of(self, args: tuple[Any, ...]) -> None:
        for arg in args:
            if isinstance(arg, BuiltinMethodType) and arg.__name__ in _CHANGING:
                self._refuse_change(arg)
            self._reads.all_of(arg)

    def _refuse_change(self, method: Any) -> None:
        """Raises for a method that a function may call unseen to change what was there before."""
        if isinstance(method.__self__, MUTABLE) and self._reads.is_outside(method.__self__):
            raise UntraceableError(
                f"{self._reads.name_of(method.__self__)}.{method.__name__} was passed on"
                f"{place()}, where what it changes is not seen. Call it in a loop instead"
            )

    def _refuse_unknowable(self, function: Any, bound: Any, name: str) -> None:
        """Raises for what gives something else at each call."""
        if function in _CLOCKS:
            what = f"time.{name}()"
        elif isinstance(bound, _GENERATORS) or _is_numpy_random(bound):
            what = f"a random number from Python's or NumPy's generator ({name})"
        elif function in (open, input):
            what = f"{name}()"
        elif getattr(function, "__module__", None) in ("posix", "nt") and name != "fspath":
            what = f"os.{name}()"
        elif isinstance(bound, type) and issubclass(bound, date) and name in _NOW:
            what = f"{bound.__name__}.{name}()"
        else:
            return
        raise UntraceableError(
            f"{what} was called while tracing{place()}: it gives something else at each call, "
            "where a compiled call would go on with what it gave once. Call it outside the "
            "compiled function and pass the result as an argument"
        )

    # --- what is read by name or key --------------------------------------------------------------

    def item(self, container: Any, key: Any, *default: Any) -> None:
        """`container[key]`."""
        del default
        self._reads.item(container, key)

    def _attribute(self, value: Any, name: Any, *rest: Any) -> None:
        del rest
        if isinstance(name, str):
            self._reads.attribute(value, name)

    def _set_attribute(self, target: Any, name: Any, value: Any) -> None:
        self._writes.attribute(target, name, value)


def _say_nothing(*_: Any, **__: Any) -> None:
    """In the place of `print`, while tracing."""


def _is_said(function: Any) -> bool:
    """Whether a function tells people something, and gives nothing back."""
    if function in (print, warnings.warn):
        return True
    if isinstance(function, MethodDescriptorType):
        return function.__objclass__.__module__ == "_io" and function.__name__ in _OUTPUT
    if isinstance(getattr(function, "__self__", None), IOBase):
        return function.__name__ in _OUTPUT
    owner = getattr(function, "__module__", None)
    return owner == "logging" and getattr(function, "__name__", "") in _LEVELS


def _is_numpy_random(bound: Any) -> bool:
    return type(bound).__module__.startswith("numpy.random")


_READS: dict[str, Callable[..., None]] = {
    "getattr": Calls._attribute,
    "hasattr": Calls._attribute,
    "__getattribute__": Calls._attribute,
    "setattr": Calls._set_attribute,
    "__setattr__": Calls._set_attribute,
    "get": Calls.item,
    "getitem": Calls.item,
    "__getitem__": Calls.item,
}
