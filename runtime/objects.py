"""Object code of programs: each unit is compiled once a process.

The units of a program that are new become one image, its entry another.  A program is linked from
its entry's image and those that hold its units: code that it does not need may come along.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from ..compiler.target import Target
from .native import LEVEL, emit_object, unknown_functions
from .units import Unit, module_of, units_of

MAX_UNITS = 4096
"""Units that a process keeps for programs to come; then it begins anew."""


_lock = threading.Lock()


class Image(NamedTuple):
    """Object code, and the functions beyond it that it is linked to."""

    code: bytes
    needs: frozenset[str]


class Objects(NamedTuple):
    """What a program is linked from, and the functions of others that this calls."""

    images: list[bytes]
    externs: tuple[str, ...]


def emit_objects(
    text: str,
    entry: str,
    target: Target,
    level: int = LEVEL,
    externs: tuple[str, ...] = (),
    modules: tuple[str, ...] = (),
) -> Objects:
    """The object code of a program in LLVM text.

    Functions that users wrote are linked from other modules: their programs are compiled whole.

    Raises:
        CompileError: the text is not valid, or calls a function that it neither defines nor lists
            in `externs`.
    """
    if modules:
        return Objects([emit_object(text, target, level, externs, modules)], externs)
    try:
        *units, main = units_of(text, entry)
    except KeyError:  # LLVM says what is wrong
        return Objects([emit_object(text, target, level, externs)], externs)
    known = {*externs, *(unit.symbol for unit in units)}
    unknown = sorted({name for unit in (*units, main) for name in unit.needs} - known)
    if unknown:
        raise unknown_functions(unknown)
    with _lock:
        made = _images(target, level)
        if len(made) >= MAX_UNITS:
            made.clear()
        new = [unit for unit in units if unit.symbol not in made]
        if new:
            made.update(dict.fromkeys([u.symbol for u in new], _image(new, target, level)))
        images = [_image([main], target, level), *_linked(main.needs, made)]
        called = {name for image in images for name in image.needs} - made.keys()
    return Objects([image.code for image in images], tuple(sorted(called)))


def _image(units: Sequence[Unit], target: Target, level: int) -> Image:
    own = {unit.symbol for unit in units}
    needs = frozenset[str]().union(*(unit.needs for unit in units)) - own
    head = f'target triple = "{target.triple}"\ntarget datalayout = "{target.data_layout}"\n'
    return Image(emit_object(head + module_of(units), target, level, tuple(needs)), needs)


@lru_cache(maxsize=8)
def _images(target: Target, level: int) -> dict[str, Image]:
    """For each unit that the process has compiled the image that holds it."""
    return {}


def _linked(needs: Iterable[str], made: Mapping[str, Image]) -> list[Image]:
    """The images that hold units, and those that these need in turn."""
    found: dict[int, Image] = {}
    stack = [*needs]
    while stack:
        image = made.get(stack.pop())
        if image is not None and id(image) not in found:
            found[id(image)] = image
            stack += image.needs
    return list(found.values())
