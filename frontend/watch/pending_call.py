"""A call that an instruction is about to make: which function, with which arguments.

What lies on the stack differs: up to Python 3.12 an empty slot, the function and its arguments, or
an unbound method, its object and further arguments; from 3.13 on the function comes first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ...runtime.value_stack import NULL, operands, replace_operand

_FUNCTION_FIRST = sys.version_info >= (3, 13)


@dataclass(frozen=True, eq=False)
class PendingCall:
    """See above.

    Attributes:
        function: what is called.
        args: its positional arguments; the object of a method is among them.
        keywords: its arguments by name.
    """

    function: Any
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    _frame: FrameType
    _offset: int
    _above: int

    @property
    def given(self) -> tuple[Any, ...]:
        """All arguments."""
        return (*self.args, *self.keywords.values())

    def divert(self, function: Callable[..., Any]) -> None:
        """Lets the instruction call another function instead, with the same arguments."""
        replace_operand(self._frame, self._offset, self._above, function)


def plain_call(
    frame: FrameType, offset: int, count: int, names: tuple[str, ...] | None
) -> PendingCall:
    """The call of CALL or CALL_KW with `count` arguments, the last of which have `names`.

    CALL_KW has the names on the stack, above the arguments; then they are None here.
    """
    on_stack = names is None
    first, second, *values = operands(frame, offset, count + 2 + on_stack)
    names = values.pop() if names is None else names
    if _FUNCTION_FIRST:
        bare, function, other, above = second is NULL, first, second, count + 1 + on_stack
    else:
        bare = first is NULL
        function, other, above = (second, first, count) if bare else (first, second, count + 1)
    positional, named = values[: count - len(names)], values[count - len(names) :]
    args = tuple(positional) if bare else (other, *positional)
    return PendingCall(function, args, dict(zip(names, named, strict=True)), frame, offset, above)


def spread_call(frame: FrameType, offset: int, flags: int) -> PendingCall:
    """The call of CALL_FUNCTION_EX: `function(*args)`, with `**keywords` if the flag is set."""
    named = flags & 1
    function, *rest = operands(frame, offset, 2 + _FUNCTION_FIRST + named)
    args, *keywords = rest[_FUNCTION_FIRST:]
    positional = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    found = dict(keywords[0]) if keywords and isinstance(keywords[0], dict) else {}
    return PendingCall(function, positional, found, frame, offset, 1 + _FUNCTION_FIRST + named)
