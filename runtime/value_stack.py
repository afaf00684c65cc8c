"""The operands of an instruction that is about to run, in a frame of the interpreter.

CPython tells a tracer which instruction comes next, but not what it works on.  That lies on the
frame's value stack, in memory behind the frame.  How deep the stack is before an instruction is a
property of the code alone: the compiler of CPython relies on it, and `dis.stack_effect` tells how
each instruction changes it.  So the operands are read where they lie.
"""

from __future__ import annotations

import ctypes
import dis
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

VERSIONS = ((3, 11), (3, 12), (3, 13))
"""Of CPython, whose frames this module knows."""

# struct _frame: the object's head (two words), f_back, then f_frame, which points to
# struct _PyInterpreterFrame: eight words and a ninth of small numbers, then locals and the stack.
# (Include/internal/pycore_frame.h, the same in 3.11, 3.12 and 3.13.)
_WORD = ctypes.sizeof(ctypes.c_void_p)
_FRAME = 3 * _WORD
_LOCALS = 9 * _WORD

_ENDS = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"})
_ALWAYS_JUMPS = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")


class _Null:
    """What stands for an empty slot."""

    def __repr__(self) -> str:
        return "NULL"


NULL: Any = _Null()


def is_supported() -> bool:
    """Whether this is an interpreter whose frames this module knows."""
    return sys.implementation.name == "cpython" and sys.version_info[:2] in VERSIONS


def operands(frame: FrameType, offset: int, count: int) -> tuple[Any, ...]:
    """The topmost `count` values on the stack of `frame`, the deepest first.

    Args:
        frame: is suspended before the instruction at `offset` of its code.
        offset: in bytes, as `frame.f_lasti` and `dis` have it.
        count: of values; empty slots are `NULL`.
    """
    first = _top(frame, offset) - count * _WORD
    return tuple([_object_at(first + i * _WORD) for i in range(count)])


def replace_operand(frame: FrameType, offset: int, above: int, value: Any) -> None:
    """Exchanges a value on the stack before an instruction takes it.

    Args:
        frame: see `operands`.
        offset: likewise.
        above: how many values lie on top of it.
        value: what the instruction is to take.
    """
    address = _top(frame, offset) - (1 + above) * _WORD
    slot = ctypes.c_void_p.from_address(address)
    before = slot.value
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    slot.value = id(value)
    if before is not None:
        ctypes.pythonapi.Py_DecRef(ctypes.cast(before, ctypes.py_object))


def cells(frame: FrameType) -> Iterator[Any]:
    """The cells of a frame's own variables that inner functions use, once it has made them."""
    for name in frame.f_code.co_cellvars:
        yield cell_of(frame, name)


def cell_of(frame: FrameType, name: str) -> Any:
    """The cell of a variable that a function shares with others."""
    return _object_at(_locals(frame) + _slot_names(frame.f_code).index(name) * _WORD)


def _locals(frame: FrameType) -> int:
    """Address of a frame's first local variable, behind which its stack lies."""
    inner: int | None = ctypes.c_void_p.from_address(id(frame) + _FRAME).value
    assert inner is not None
    return inner + _LOCALS


def _top(frame: FrameType, offset: int) -> int:
    """Address behind the topmost value before an instruction."""
    code = frame.f_code
    return _locals(frame) + (len(_slot_names(code)) + depths(code)[offset]) * _WORD


def _object_at(address: int) -> Any:
    pointer = ctypes.c_void_p.from_address(address).value
    return NULL if pointer is None else ctypes.cast(pointer, ctypes.py_object).value


@lru_cache(maxsize=4096)
def _slot_names(code: CodeType) -> tuple[str, ...]:
    """Local variables, cells and free variables in the order of their slots."""
    cells = [name for name in code.co_cellvars if name not in code.co_varnames]
    return (*code.co_varnames, *cells, *code.co_freevars)


@lru_cache(maxsize=4096)
def depths(code: CodeType) -> dict[int, int]:
    """How deep the stack is before each instruction that can be reached, by offset."""
    instructions = {i.offset: i for i in dis.get_instructions(code)}
    following = dict(pairwise(instructions))
    found: dict[int, int] = {}
    starts = [(0, 0), *_handlers(code)]
    while starts:
        offset, depth = starts.pop()
        while offset not in found:
            found[offset] = depth
            instruction = instructions[offset]
            if _jumps(instruction):
                starts.append((instruction.argval, depth + _effect(instruction, jump=True)))
            if instruction.opname in _ENDS or instruction.opname in _ALWAYS_JUMPS:
                break
            depth += _effect(instruction, jump=False)
            offset = following[offset]
    return found


def _handlers(code: CodeType) -> Iterator[tuple[int, int]]:
    """Where exceptions continue: the stack is cut to a depth, then holds what was raised."""
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]  # the only reader
        yield entry.target, entry.depth + entry.lasti + 1


def _jumps(instruction: dis.Instruction) -> bool:
    return instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs


def _effect(instruction: dis.Instruction, *, jump: bool) -> int:
    """How an instruction changes the depth, where it jumps or where it does not."""
    if sys.version_info < (3, 13):
        if instruction.opname == "RETURN_GENERATOR":
            return 1  # what is sent to it when it starts
        if instruction.opname == "PRECALL":
            return 0  # `dis` counts here what CALL takes
        if instruction.opname == "CALL" and sys.version_info < (3, 12):
            return -(instruction.arg or 0) - 1
    argument = instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None
    return dis.stack_effect(instruction.opcode, argument, jump=jump)
