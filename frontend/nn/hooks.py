"""User functions that run before or after something, and the handles that take them out again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple, Self
from weakref import ref

from ..core import structure_changed

_ids = count()


class Hook(NamedTuple):
    """A function to call, and when.

    Attributes:
        function: what to call.
        with_kwargs: hand it keyword arguments too.
        always_call: call it also when the forward pass raised.
    """

    function: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False


class Hooks(OrderedDict[int, Hook]):
    """Hooks of one kind, in the order in which they run."""

    def add(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Registers a hook as the last one, or as the first."""
        handle = RemovableHandle(self, next(_ids))
        self[handle.id] = hook
        if prepend:
            self.move_to_end(handle.id, last=False)
        structure_changed()
        return handle


class RemovableHandle:
    """What registering a hook returns: `remove()`, or the end of a `with` block, takes it out."""

    def __init__(self, hooks: Hooks, number: int) -> None:
        self._hooks = ref(hooks)
        self.id = number

    def remove(self) -> None:
        """Takes the hook out; a second call does nothing."""
        hooks = self._hooks()
        if hooks is not None and hooks.pop(self.id, None) is not None:
            structure_changed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
