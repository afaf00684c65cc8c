"""The one piece of ambient state: whether this thread is tracing, and whether it records gradients.

Kept in a ContextVar, so that threads and asynchronous tasks do not see each other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trace import Trace


@dataclass(frozen=True, slots=True)
class Mode:
    """What happens to operations: recorded in `trace` (or run at once), and taped if `grad`."""

    trace: Trace | None = None
    grad: bool = True


_mode: ContextVar[Mode] = ContextVar("taut_mode", default=Mode())  # noqa: B039  # a Mode is frozen
current = _mode.get


@contextmanager
def using(mode: Mode) -> Iterator[Mode]:
    """Runs a block in another mode."""
    token = _mode.set(mode)
    try:
        yield mode
    finally:
        _mode.reset(token)


def set_mode(mode: Mode) -> None:
    """Changes the mode for good (`set_grad_enabled` called as a function)."""
    _mode.set(mode)


@contextmanager
def untraced() -> Iterator[None]:
    """Runs a block at once even while tracing, for state that is created on its first use."""
    with using(Mode(None, current().grad)):
        yield


class Epoch:
    """Counts changes to the structure of the program's state.

    That is which tensors a module, an optimizer or a `.grad` names.  A compiled function checks its
    guards on state only when this has moved; values written in place do not move it.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def bump(self) -> None:
        """Counts one change."""
        self.count += 1


epoch = Epoch()
