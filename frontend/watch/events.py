"""An event before each instruction of the user's code, in one thread.

Python 3.11 has `sys.settrace` for this, later versions `sys.monitoring`.  Frames of taut's own code
give no events, but what they call back does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import RLock, get_ident
from types import CodeType, FrameType
from typing import Any

monitoring: Any = getattr(sys, "monitoring", None)
Handler = Callable[[FrameType, int], None]
"""Called with a frame that is about to run the instruction at an offset."""
Chooser = Callable[[FrameType], bool]
"""Whether a frame that starts, or goes on, is to be watched."""


@contextmanager
def watching(handler: Handler, is_watched: Chooser) -> Iterator[None]:
    """Calls `handler` before each instruction that this thread runs in frames that are watched.

    What `handler` raises comes out of that instruction.
    """
    if sys.version_info >= (3, 12):
        with _monitoring(handler, is_watched):
            yield
    else:
        with _tracing(handler, is_watched):
            yield


@contextmanager
def _tracing(handler: Handler, is_watched: Chooser) -> Iterator[None]:
    def on_call(frame: FrameType, event: str, arg: Any) -> Any:
        del event, arg
        if not is_watched(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return on_instruction

    def on_instruction(frame: FrameType, event: str, arg: Any) -> Any:
        del arg
        if event == "opcode":
            handler(frame, frame.f_lasti)
        return on_instruction

    on_call.of_taut = True  # type: ignore[attr-defined]  # see `unwatched`
    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(before)


@dataclass
class _Watch:
    """One thread's watching; frames that it skips are known by identity until they start anew."""

    handler: Handler
    is_watched: Chooser
    skipped: set[int] = field(default_factory=set)


class unwatched:  # noqa: N801  # used as a block, like a function
    """A block of taut's own code that calls back no code of the user's: no events come of it.

    Before Python 3.12 every call of a Python function is an event, wanted or not; this saves most.
    """

    __slots__ = ("_resume",)

    def __enter__(self) -> None:
        tracer = sys.gettrace()
        self._resume: Callable[[], None] | None = None
        if getattr(tracer, "of_taut", False):
            sys.settrace(None)
            self._resume = partial(sys.settrace, tracer)
        elif _monitor.is_watching():
            _monitor.enter(None)
            self._resume = _monitor.leave

    def __exit__(self, *_: object) -> None:
        if self._resume is not None:
            self._resume()


class _Monitor:
    """The process's one use of `sys.monitoring`, shared by the threads that are watching."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._watches: dict[int, list[_Watch | None]] = {}
        self._tool = -1
        self._codes: set[CodeType] = set()

    def is_watching(self) -> bool:
        """Whether this thread's code is watched."""
        return bool(self._watches) and get_ident() in self._watches

    def enter(self, watch: _Watch | None) -> None:
        with self._lock:
            if not self._watches:
                self._start()
            self._watches.setdefault(get_ident(), []).append(watch)

    def leave(self) -> None:
        with self._lock:
            own = self._watches[get_ident()]
            own.pop()
            if not own:
                del self._watches[get_ident()]
            if not self._watches:
                self._stop()

    def _start(self) -> None:
        free = [tool for tool in range(6) if monitoring.get_tool(tool) is None]
        if not free:
            raise RuntimeError("six tools use sys.monitoring already; tracing needs one, too")
        self._tool = free[-1]
        monitoring.use_tool_id(self._tool, "taut")
        events = monitoring.events
        starts = (events.PY_START, events.PY_RESUME, events.PY_THROW)
        for event in starts:
            monitoring.register_callback(self._tool, event, self._on_start)
        monitoring.register_callback(self._tool, events.INSTRUCTION, self._on_instruction)
        monitoring.set_events(self._tool, sum(starts))

    def _stop(self) -> None:
        monitoring.set_events(self._tool, 0)
        for code in self._codes:
            monitoring.set_local_events(self._tool, code, 0)
        self._codes.clear()
        monitoring.free_tool_id(self._tool)

    def _on_start(self, code: CodeType, *_: object) -> None:
        watches = self._watches.get(get_ident())
        watch = watches[-1] if watches else None
        if watch is None:
            return
        frame = sys._getframe(1)
        if not watch.is_watched(frame):
            watch.skipped.add(id(frame))
            return
        watch.skipped.discard(id(frame))
        if code not in self._codes:
            self._codes.add(code)
            events = monitoring.events
            monitoring.set_local_events(self._tool, code, events.INSTRUCTION)

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        del code
        watches = self._watches.get(get_ident())
        watch = watches[-1] if watches else None
        if watch is not None:
            frame = sys._getframe(1)
            if id(frame) not in watch.skipped:
                watch.handler(frame, offset)


_monitor = _Monitor()


@contextmanager
def _monitoring(handler: Handler, is_watched: Chooser) -> Iterator[None]:
    _monitor.enter(_Watch(handler, is_watched))
    try:
        yield
    finally:
        _monitor.leave()
