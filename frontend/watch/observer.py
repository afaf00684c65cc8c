"""From instructions of CPython to what they read and change of their operands."""

from __future__ import annotations

import dis
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, TypeAlias

from ...runtime.frozen import MISSING
from ...runtime.value_stack import cell_of, cells, is_supported, operands, replace_operand
from ..frames import is_users, user_loc
from .calls import Calls
from .effects import Effects
from .events import watching
from .pending_call import PendingCall, plain_call, spread_call
from .reads import MUTABLE, Reads, Varying
from .writes import Writes

Action: TypeAlias = "Callable[[Observer, FrameType, int, Any], None]"


class Observer:
    """Notes what the watched code reads and changes."""

    def __init__(self, varying: Varying, base: FrameType) -> None:
        self._base: FrameType | None = base
        self.effects = Effects()
        self.reads = Reads(self.effects, varying)
        self.writes = Writes(self.reads, self.effects)
        self.calls = Calls(self.reads, self.writes)
        self._results: dict[FrameType, tuple[Any, Any] | None] = {}
        self.refusal: Exception | None = None

    def watches(self, frame: FrameType) -> bool:
        """Whether a frame runs for the traced function: modules being imported do not."""
        if not is_users(frame):
            return False
        caller = frame.f_back
        while caller is not None and caller is not self._base:
            if caller.f_code.co_filename == "<frozen importlib._bootstrap>":
                return False
            caller = caller.f_back
        return True

    def __call__(self, frame: FrameType, offset: int) -> None:
        """Notes what the instruction at `offset` is about to do."""
        if frame in self._results:
            self._result(frame, offset, self._results.pop(frame))
        action = _actions(frame.f_code).get(offset)
        if action is not None:
            self.reads.line = user_loc(frame)
            act, argument = action
            try:
                act(self, frame, offset, argument)
            except Exception as error:
                self.refusal = self.refusal or error
                raise
            if self.reads.stand_in is not None:
                self._results[frame], self.reads.stand_in = self.reads.stand_in, None

    def _result(self, frame: FrameType, offset: int, stand_in: tuple[Any, Any] | None) -> None:
        """What the last instruction of a frame pushed."""
        (pushed,) = operands(frame, offset, 1)
        if stand_in is None:
            self.reads.made(pushed)
        elif pushed is stand_in[0]:
            replace_operand(frame, offset, 0, stand_in[1])

    def about_to_call(self, frame: FrameType, call: PendingCall) -> None:
        """Notes what a call reads and changes, or puts another in its place."""
        diverted = self.calls.diverted(call)
        if diverted is not None:
            call.divert(diverted)
        elif self.calls(call.function, call.given):
            self.result_is_new(frame)

    def end(self) -> None:
        """Takes all changes back, and lets go of the frames, which hold what they worked on."""
        self.effects.take_back()
        self._base = None
        self._results.clear()

    def result_is_new(self, frame: FrameType) -> None:
        """Says that the running instruction pushes an object that was not there before."""
        self._results[frame] = None


@contextmanager
def observed(varying: Varying, base: FrameType) -> Iterator[Observer]:
    """Notes what the user's code reads and changes in a block; at its end, nothing has changed.

    Args:
        varying: places whose numbers the code is to see as stand-ins.
        base: the frame whose callees are watched.
    """
    if not is_supported():
        raise RuntimeError(
            "taut sees what a traced function reads in CPython 3.11, 3.12 and 3.13; this is "
            f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
        )
    observer = Observer(varying, base)
    try:
        with watching(observer, observer.watches):
            yield observer
        if observer.refusal is not None:  # and the user's code has gone on regardless
            raise observer.refusal
    finally:
        observer.end()


@lru_cache(maxsize=4096)
def _actions(code: CodeType) -> dict[int, tuple[Action, Any]]:
    """What is to be noted of each instruction, by offset."""
    found: dict[int, tuple[Action, Any]] = {}
    names: tuple[str, ...] = ()
    for instruction in dis.get_instructions(code):
        name, argument = instruction.opname, instruction.argval
        if name == "KW_NAMES":
            names = code.co_consts[instruction.arg or 0]
        elif name in ("CALL", "CALL_KW"):
            argument, names = (instruction.arg, names if name == "CALL" else None), ()
        elif name in ("CALL_FUNCTION_EX", "BINARY_OP"):
            argument = instruction.arg
        if name in _ACTIONS:
            found[instruction.offset] = _ACTIONS[name], argument
    return found


# --- names ----------------------------------------------------------------------------------------


def _global(self: Observer, frame: FrameType, offset: int, name: str) -> None:
    del offset
    self.reads.variable(frame.f_globals, name)


def _store_global(self: Observer, frame: FrameType, offset: int, name: str) -> None:
    self.writes.entry(frame.f_globals, name, operands(frame, offset, 1)[0], name)


def _cell(self: Observer, frame: FrameType, offset: int, name: str) -> None:
    del offset
    if name in frame.f_code.co_freevars:
        self.reads.cell(cell_of(frame, name), name)


def _store_cell(self: Observer, frame: FrameType, offset: int, name: str) -> None:
    if name in frame.f_code.co_freevars:
        self.writes.cell(cell_of(frame, name), operands(frame, offset, 1)[0], name)


def _own_cells(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    """At the start of a function: its variables are new, those that inner functions use, too."""
    del offset, argument
    for cell in cells(frame):
        self.reads.made(cell)


def _attribute(self: Observer, frame: FrameType, offset: int, name: str) -> None:
    self.reads.attribute(operands(frame, offset, 1)[0], name)


def _store_attribute(self: Observer, frame: FrameType, offset: int, name: str) -> None:
    value, target = operands(frame, offset, 2)
    self.writes.attribute(target, name, value)


def _delete_attribute(self: Observer, frame: FrameType, offset: int, name: str) -> None:
    self.writes.attribute(operands(frame, offset, 1)[0], name, MISSING)


# --- containers -----------------------------------------------------------------------------------


def _all_of(count: int) -> Action:
    def act(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
        del argument
        for value in operands(frame, offset, count):
            self.reads.all_of(value)

    return act


def _item(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    del argument
    self.reads.item(*operands(frame, offset, 2))


def _store_item(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    del argument
    value, container, key = operands(frame, offset, 3)
    self.writes.item(container, key, value)


def _delete_item(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    del argument
    container, key = operands(frame, offset, 2)
    self.writes.contents(container, operator.delitem, key)


def _store_slice(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    del argument
    value, container, start, stop = operands(frame, offset, 4)
    self.writes.item(container, slice(start, stop), value)


def _operator(self: Observer, frame: FrameType, offset: int, number: int) -> None:
    left, right = operands(frame, offset, 2)
    self.reads.all_of(right)
    in_place = _IN_PLACE.get(dis._nb_ops[number][1])  # type: ignore[attr-defined]  # its only table
    if in_place is not None and isinstance(left, MUTABLE):
        self.writes.contents(left, in_place, right)
    else:
        self.reads.all_of(left)


def _truth(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    del argument
    self.reads.length(operands(frame, offset, 1)[0])


def _iterate(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    del argument
    (value,) = operands(frame, offset, 1)
    self.reads.all_of(value)
    if not hasattr(type(value), "__next__"):  # an iterator is its own
        self.result_is_new(frame)


def _build(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    del offset, argument
    self.result_is_new(frame)


# --- calls ----------------------------------------------------------------------------------------


def _call(self: Observer, frame: FrameType, offset: int, argument: Any) -> None:
    count, names = argument
    self.about_to_call(frame, plain_call(frame, offset, count, names))


def _call_spread(self: Observer, frame: FrameType, offset: int, flags: int) -> None:
    self.about_to_call(frame, spread_call(frame, offset, flags))


_IN_PLACE = {
    f"{symbol}=": getattr(operator, f"i{name}")
    for symbol, name in {
        "+": "add",
        "-": "sub",
        "*": "mul",
        "/": "truediv",
        "//": "floordiv",
        "%": "mod",
        "**": "pow",
        "&": "and",
        "|": "or",
        "^": "xor",
        "@": "matmul",
        "<<": "lshift",
        ">>": "rshift",
    }.items()
}
_JUMPS = ("POP_JUMP", "POP_JUMP_FORWARD", "POP_JUMP_BACKWARD")
_TRUTHS = [f"{jump}_IF_{truth}" for jump in _JUMPS for truth in ("TRUE", "FALSE")]
_ACTIONS: dict[str, Action] = {
    "LOAD_GLOBAL": _global,
    "LOAD_NAME": _global,
    "STORE_GLOBAL": _store_global,
    "LOAD_DEREF": _cell,
    "LOAD_CLASSDEREF": _cell,
    "STORE_DEREF": _store_cell,
    "RESUME": _own_cells,
    "LOAD_ATTR": _attribute,
    "LOAD_METHOD": _attribute,
    "STORE_ATTR": _store_attribute,
    "DELETE_ATTR": _delete_attribute,
    "BINARY_SUBSCR": _item,
    "STORE_SUBSCR": _store_item,
    "DELETE_SUBSCR": _delete_item,
    "STORE_SLICE": _store_slice,
    "GET_ITER": _iterate,
    "BINARY_OP": _operator,
    "CALL": _call,
    "CALL_KW": _call,
    "CALL_FUNCTION_EX": _call_spread,
    **dict.fromkeys((*_TRUTHS, "UNARY_NOT", "TO_BOOL"), _truth),
    **dict.fromkeys(("JUMP_IF_TRUE_OR_POP", "JUMP_IF_FALSE_OR_POP"), _truth),
    **dict.fromkeys(("BUILD_LIST", "BUILD_MAP", "BUILD_SET", "BUILD_CONST_KEY_MAP"), _build),
    **dict.fromkeys(("UNPACK_SEQUENCE", "UNPACK_EX", "LIST_EXTEND", "SET_UPDATE"), _all_of(1)),
    **dict.fromkeys(("DICT_UPDATE", "DICT_MERGE", "FORMAT_VALUE", "FORMAT_SIMPLE"), _all_of(1)),
    **dict.fromkeys(("CONVERT_VALUE", "GET_YIELD_FROM_ITER", "GET_LEN"), _all_of(1)),
    **dict.fromkeys(("CONTAINS_OP", "COMPARE_OP", "FORMAT_WITH_SPEC"), _all_of(2)),
    "BINARY_SLICE": _all_of(3),
}
