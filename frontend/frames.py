"""Where in the user's program an operation was called, and the name its result was given."""

from __future__ import annotations

import dis
import os
import sys
import sysconfig
import warnings
from functools import lru_cache
from itertools import pairwise
from types import CodeType, FrameType
from typing import NamedTuple

from ..compiler.ir import Loc

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OWN = tuple(os.path.join(_ROOT, room) + os.sep for room in ("compiler", "runtime", "frontend"))
_COMMANDS = os.path.join(_ROOT, "frontend", "cli") + os.sep
_FOUND_OWN: set[str] = set()
_DEPENDENCIES = frozenset({"numpy", "scipy", "numba", "llvmlite"})
_STORES = frozenset({"STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF"})


@lru_cache(maxsize=4096)
def _is_own(filename: str) -> bool:
    return os.path.abspath(filename).startswith(_OWN) or filename.startswith("<frozen")


@lru_cache(maxsize=4096)
def _is_helping(filename: str) -> bool:
    """Whether this is code that taut's own calls: Python's library, or what taut depends on."""
    path = os.path.abspath(filename)
    library = sysconfig.get_path("stdlib") + os.sep
    if "site-packages" not in path:
        return path.startswith(library)
    return path.partition("site-packages" + os.sep)[2].partition(os.sep)[0] in _DEPENDENCIES


def is_own(code: CodeType) -> bool:
    """Whether code is taut's own."""
    return _is_own(code.co_filename)


def is_users(frame: FrameType) -> bool:
    """Whether a frame runs for the user: it is not taut's own, nor what taut calls in libraries."""
    filename = frame.f_code.co_filename
    if filename in _FOUND_OWN:
        return False
    if _is_own(filename):
        _FOUND_OWN.add(filename)
        return False
    caller: FrameType | None = frame
    while caller is not None and _helps(caller):
        caller = caller.f_back
    return caller is not None and not _is_own(caller.f_code.co_filename)


def _helps(frame: FrameType) -> bool:
    """Whether a frame runs for its caller; methods that Python writes belong to their class."""
    filename = frame.f_code.co_filename
    if filename != "<string>":
        return _is_helping(filename)
    module: str = frame.f_globals.get("__name__", "")
    return module.startswith(("taut.", "namedtuple_"))


@lru_cache(maxsize=4096)
def _is_inner(filename: str) -> bool:
    return _is_own(filename) and not filename.startswith(_COMMANDS)


@lru_cache(maxsize=4096)
def _is_no_users(filename: str) -> bool:
    return _is_inner(filename) or _is_helping(filename)


def user_frame() -> FrameType | None:
    """The innermost frame that is neither taut's own nor one of Python's library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_no_users(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(_COMMANDS):
        return None  # the command line called: past it there is nobody's program
    return frame


def user_loc(frame: FrameType | None = None) -> Loc | None:
    """The place in the user's program that is running now (columns count from 1)."""
    frame = frame or user_frame()
    if frame is None:
        return None
    return _call(frame.f_code, frame.f_lasti).loc


def place() -> str:
    """` (train.py:12)` for error messages, or nothing."""
    loc = user_loc()
    return f" ({loc.file}:{loc.line})" if loc else ""


def warn(message: str) -> None:
    """A warning that points at the user's line."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_own(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


@lru_cache(maxsize=1024)
def _positions(code: CodeType) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for index, (line, _, column, _) in enumerate(code.co_positions()):
        if line is not None:
            found[2 * index] = (line, (column or 0) + 1)
    return found


@lru_cache(maxsize=1024)
def _stores(code: CodeType) -> dict[int, str]:
    """For each instruction directly followed by a store, the name stored to."""
    instructions = [i for i in dis.get_instructions(code) if i.opname != "CACHE"]
    # A running call stands at its own offset or, on some versions, in the cache entries behind it.
    return {
        offset: str(b.argval)
        for a, b in pairwise(instructions)
        if b.opname in _STORES
        for offset in range(a.offset, b.offset, 2)
    }


class Call(NamedTuple):
    """A place in a program where something is called.

    Attributes:
        loc: where it is.
        name: the variable that the result is to be assigned to, if it is plain.
    """

    loc: Loc
    name: str | None


def running_call(frame: FrameType) -> Call:
    """The call now running in `frame`."""
    return _call(frame.f_code, frame.f_lasti)


@lru_cache(maxsize=4096)
def _call(code: CodeType, offset: int) -> Call:
    line, column = _positions(code).get(offset, (code.co_firstlineno, 1))
    loc = Loc(os.path.basename(code.co_filename), line, column)
    return Call(loc, _stores(code).get(offset))
