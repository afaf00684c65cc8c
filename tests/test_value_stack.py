"""The interpreter's value stack is where, and as deep as, `value_stack` says."""

import ast
import asyncio
import contextlib
import dis
import json
import re
import sys
import textwrap
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from taut.frontend.frames import is_users
from taut.frontend.watch.events import watching
from taut.runtime.value_stack import cell_of, cells, operands, replace_operand


async def _asynchronous() -> list[int]:
    async def numbers() -> Any:
        for number in range(3):
            yield number
            await asyncio.sleep(0)

    async with contextlib.AsyncExitStack():
        return [number async for number in numbers()]


def _varied() -> None:
    """Code of many shapes: handlers, generators, comprehensions, patterns, coroutines."""
    re.purge()
    re.compile("(a|b)*c+[^x]{2,3}")
    json.loads(json.dumps({"a": [1, 2.5, None]}, indent=1))
    ast.unparse(ast.parse(Path(textwrap.__file__).read_text(encoding="utf-8")))
    asyncio.run(_asynchronous())
    with contextlib.suppress(ValueError), contextlib.ExitStack() as stack:
        stack.callback(int)
        raise ValueError
    match {"k": [1, 2, 3]}:
        case {"k": [_, *_]}:
            pass
    try:
        raise ExceptionGroup("both", [ValueError(), TypeError()])
    except* ValueError:
        pass
    except* TypeError:
        pass


def _is_sound(instruction: dis.Instruction, frame: FrameType, offset: int) -> bool | None:
    """Whether the operands are such as the instruction takes; None if any would do."""
    name = instruction.opname
    if name == "FOR_ITER":
        return hasattr(operands(frame, offset, 1)[0], "__next__")
    if name == "BINARY_SUBSCR":
        container = operands(frame, offset, 2)[0]
        return hasattr(container, "__getitem__") or isinstance(container, type)
    if name == "STORE_SUBSCR":
        return hasattr(operands(frame, offset, 3)[1], "__setitem__")
    if name == "UNPACK_SEQUENCE":
        return hasattr(operands(frame, offset, 1)[0], "__iter__")
    if name == "CALL":
        function = operands(frame, offset, (instruction.arg or 0) + 2)[:2]
        return any(map(callable, function))
    return None


def test_operands_are_such_as_their_instructions_take() -> None:
    wrong: list[str] = []
    checked = 0
    known: dict[Any, dict[int, dis.Instruction]] = {}

    def check(frame: FrameType, offset: int) -> None:
        nonlocal checked
        code = frame.f_code
        if code not in known:
            known[code] = {i.offset: i for i in dis.get_instructions(code)}
        sound = _is_sound(known[code][offset], frame, offset)
        checked += sound is not None
        if sound is False:
            wrong.append(f"{code.co_qualname} {known[code][offset]}")

    with watching(check, is_users):
        _varied()
    assert wrong == []
    assert checked > 10_000


def test_every_operand_is_found() -> None:
    found: list[tuple[Any, ...]] = []
    a, b = object(), object()

    def function() -> Any:
        pair = [a, b]
        return pair[1]

    def look(frame: FrameType, offset: int) -> None:
        names = {i.offset: i.opname for i in dis.get_instructions(frame.f_code)}
        if names[offset] == "BINARY_SUBSCR":
            found.append(operands(frame, offset, 2))

    with watching(look, lambda frame: frame.f_code is function.__code__):
        assert function() is b
    assert found == [([a, b], 1)]


def test_an_operand_can_be_exchanged_and_no_reference_is_lost() -> None:
    before, after = [object()], [object()]
    holder = {"x": before}
    counts = sys.getrefcount(before), sys.getrefcount(after)

    def function() -> Any:
        return holder["x"][0]

    def exchange(frame: FrameType, offset: int) -> None:
        names = {i.offset: i.opname for i in dis.get_instructions(frame.f_code)}
        if names[offset] == "BINARY_SUBSCR" and operands(frame, offset, 2)[0] is before:
            replace_operand(frame, offset, 1, after)

    for _ in range(10):
        with watching(exchange, lambda frame: frame.f_code is function.__code__):
            assert function() is after[0]
    assert function() is before[0]
    assert (sys.getrefcount(before), sys.getrefcount(after)) == counts


def test_cells_are_found_by_name() -> None:
    found: list[Any] = []
    outer = 1

    def function() -> Any:
        inner = outer + 1

        def closure() -> int:
            return inner

        return closure()

    def look(frame: FrameType, offset: int) -> None:
        if frame.f_code is function.__code__ and frame.f_lasti > 20 and not found:
            found.extend([*cells(frame), cell_of(frame, "outer")])

    with watching(look, lambda frame: frame.f_code is function.__code__):
        assert function() == 2
    assert [cell.cell_contents for cell in found[1:]] == [1]
    assert len(found) == 2


def test_what_a_handler_raises_comes_out_of_the_instruction() -> None:
    def refuse(frame: FrameType, offset: int) -> None:
        raise KeyError(offset)

    def function() -> str:
        return "done"

    with (
        pytest.raises(KeyError),
        watching(refuse, lambda frame: frame.f_code is function.__code__),
    ):
        function()
    assert function() == "done"
