"""Which line of LLVM text each line of assembly comes from.

LLVM keeps track of source lines through all of its passes, if a module has them.  So the text is
given debug information in which it is its own source, and the assembly says where each instruction
comes from.  Debug information changes no instruction; where it did after all, none is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ..compiler.codegen.spec import ProgramSpec
from ..compiler.target import Target
from .native import LEVEL, assembly

_NUMBERED = re.compile(r"^!(\d+) =", re.MULTILINE)
_PLACE = re.compile(r"\s*\.loc\s+\d+\s+(\d+)")
_EXTRA = re.compile(r"\s*\.(loc|file|cfi_\w+|ident)\b|\.L(tmp|func_begin)\d+:|\s*$")


def assembly_lines(
    spec: ProgramSpec, target: Target | None = None, level: int = LEVEL
) -> list[tuple[str, int | None]]:
    """The lines of a program's assembly, each with the line of the LLVM text (from 1) if known.

    Raises:
        CompileError: the program is not of the llvm back end.
    """
    text = assembly(spec, target, level)
    plain = [line for line in text.splitlines() if not _EXTRA.match(line)]
    traced = assembly(replace(spec, source=with_lines(spec.source)), target, level)
    found = list(_read(traced))
    if [_shape(text) for text, _ in found] == [_shape(line) for line in plain]:
        return [(line, number) for line, (_, number) in zip(plain, found, strict=True)]
    return [(line, None) for line in plain]


def with_lines(text: str) -> str:
    """LLVM text with debug information: each instruction is at the line that it stands in."""
    return _Annotator(text).text()


class _Annotator:
    """Adds debug information to the lines of a module, one after the other."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        taken = [int(number) for number in _NUMBERED.findall(text)]
        self._free = max(taken, default=-1) + 1
        self._records: list[str] = []
        self._scope: int | None = None
        self._file = self._record('!DIFile(filename: "program.ll", directory: "")')
        self._unit = self._record(
            f"distinct !DICompileUnit(language: DW_LANG_C, file: !{self._file}, isOptimized: true, "
            "runtimeVersion: 0, emissionKind: DebugDirectivesOnly)"
        )
        self._type = self._record("!DISubroutineType(types: !{})")
        self._flag = self._record('!{ i32 2, !"Debug Info Version", i32 3 }')

    def text(self) -> str:
        """The module with its records."""
        lines = [self._line(number, line) for number, line in enumerate(self._lines, 1)]
        lists = (("llvm.dbg.cu", self._unit), ("llvm.module.flags", self._flag))
        named = [f"!{name} = !{{ !{number} }}" for name, number in lists]
        return "\n".join([*lines, *self._records, *named, ""])

    def _record(self, text: str) -> int:
        number, self._free = self._free, self._free + 1
        self._records.append(f"!{number} = {text}")
        return number

    def _line(self, number: int, line: str) -> str:
        if line.startswith("define "):
            self._scope = self._record(
                f'distinct !DISubprogram(name: "at{number}", file: !{self._file}, line: {number}, '
                f"type: !{self._type}, spFlags: DISPFlagDefinition, unit: !{self._unit})"
            )
            head, brace, _ = line.partition("{") if line.endswith("{") else (line, "", "")
            return f"{head} !dbg !{self._scope} {brace}"
        if line.startswith("}"):
            self._scope = None
        is_instruction = line.startswith("  ") and not line.lstrip().startswith(";")
        if self._scope is None or not is_instruction:
            return line
        place = f"!DILocation(line: {number}, column: 1, scope: !{self._scope})"
        return f"{line}, !dbg !{self._record(place)}"


def _read(text: str) -> Iterator[tuple[str, int | None]]:
    """The lines that are not debug information, each with its place; a label ends a place."""
    place: int | None = None
    for line in text.splitlines():
        found = _PLACE.match(line)
        if found:
            place = int(found[1]) or None
        elif not _EXTRA.match(line):
            if not line[:1].isspace():
                place = None
            yield line, place


def _shape(line: str) -> str:
    """A line without comments and alignment of columns."""
    return " ".join(line.partition("#")[0].split())
