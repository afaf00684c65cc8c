"""The columns of the page: the user's program, and each stage in blocks."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...compiler.ir import Graph
from ...compiler.pipeline import STAGES
from ...compiler.schedule.printing import print_kernel
from ...compiler.text.printer import value_names
from ..report import Report
from .blocks import NONE, Block, Operations, Origins, ProgramOrigins, joined

ABOUT = {
    "source": "what you wrote",
    "trace": "what it does",
    "joint": "with gradients",
    "opt": "after the passes",
    "fused": "what runs together",
    "memory": "where values live",
    "kernel": "as loops",
    "llvm": "as vectors",
    "asm": "as the machine runs it",
}
CONTEXT = 3
"""Lines shown around those of a long file that the program comes from."""
LONG = 200

_BINDER = re.compile(r'\s*(%(?:"(?:[^"\\]|\\.)*"|[\w.]+)): ')
_VALUE = re.compile(r"%([\w.]+)")


@dataclass(frozen=True)
class Column:
    """A stage: its name, what it is in a few words, and its lines."""

    name: str
    about: str
    blocks: list[Block]


def columns_of(report: Report, origins: Origins, stages: set[str]) -> list[Column]:
    """The source, and the stages among `stages` that the report has."""
    shown = [stage for stage in report.stages("all") if stage in stages]
    if report.joint == report.traced and "trace" in shown and "joint" in shown:
        shown.remove("joint")  # without gradients it is the same
    blocks = {"source": list(_source(origins))}
    blocks |= {stage: list(_stage(report, origins, stage)) for stage in shown}
    return [Column(name, ABOUT[name], found) for name, found in blocks.items() if found]


def _stage(report: Report, origins: Origins, stage: str) -> Iterator[Block]:
    graphs = report.graphs(stage)
    if graphs is not None:
        for graph in graphs:
            yield from _graph(graph, origins)
        return
    numba = report.options.emitter == "numba"
    for program in origins.programs:
        yield from joined(_PROGRAM[stage](program) if not numba else _python(program, stage))


# --- the user's program ---------------------------------------------------------------------------


def _source(origins: Origins) -> Iterator[Block]:
    for file in sorted({loc.file for loc in origins.locs}):
        yield Block(file)
        used = {loc.line for loc in origins.locs if loc.file == file}
        lines = _lines_of(file)
        before = 0
        for number in _shown(used, len(lines)):
            if number != before + 1:
                yield Block("    ⋯")
            text = lines[number - 1] if number <= len(lines) else ""
            yield Block(f"{number:4}  {text}".rstrip(), origins.of_line(file, number))
            before = number
        yield Block("")


def _shown(used: set[int], count: int) -> list[int]:
    """A short file whole; of a long one, or one that is not there, what is used."""
    if max(used) <= count <= LONG:
        return list(range(1, count + 1))
    near = {n + d for n in used for d in range(-CONTEXT, CONTEXT + 1)} if count else used
    return sorted(n for n in near | used if n in used or 1 <= n <= count)


def _lines_of(file: str) -> list[str]:
    """The text of a file of that name that is loaded or in the working directory."""
    loaded = (getattr(module, "__file__", None) or "" for module in list(sys.modules.values()))
    places = [path for path in loaded if Path(path).name == file and file.endswith(".py")]
    for path in [*places, file]:
        try:
            return Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
    return []


# --- graphs ---------------------------------------------------------------------------------------


def _graph(graph: Graph, origins: Origins) -> Iterator[Block]:
    values = {name: value for value, name in value_names(graph).items()}
    for line in str(graph).splitlines():
        found = _BINDER.match(line)
        yield Block(line, origins.of_value(values[found[1]], graph) if found else NONE)
    yield Block("")


# --- schedules and code ---------------------------------------------------------------------------


def _fused(program: ProgramOrigins) -> Iterator[Block]:
    plan = program.program.scheduled.plan
    groups = [frozenset().union(*map(program.of_node, group.nodes)) for group in plan.groups]
    for line in program.program.text("fused").splitlines():
        head = re.match(r"group (\d+):", line)
        if head:
            yield Block(line, groups[int(head[1])])
        elif " -> %" in line:
            edge = line.partition(": ")[0]
            yield Block(line, frozenset().union(*map(program.of_name, _VALUE.findall(edge))))
        else:
            name = _VALUE.match(line.removeprefix("  store").removeprefix("  again").strip())
            yield Block(line, program.of_name(name[1]) if name else NONE)


def _memory(program: ProgramOrigins) -> Iterator[Block]:
    section, step = "", NONE
    for line in program.program.text("memory").splitlines():
        entry = re.match(r"    (\d+): ([\w.]+)", line)
        if line.startswith("       "):  # a step goes on
            yield Block(line, step)
        elif entry is None:
            section = line.split()[0]
            yield Block(line)
        elif section == "steps":
            step = program.steps[int(entry[1])]
            yield Block(line, step)
        else:
            yield Block(line, program.of_name(entry[2]))


def _kernel(program: ProgramOrigins) -> Iterator[Block]:
    for kernel in program.program.scheduled.program.kernels:
        yield Block(print_kernel(kernel).rstrip(), program.of_kernel(kernel.name))
        yield Block("")


def _llvm(program: ProgramOrigins) -> Iterator[Block]:
    source = program.program.spec.source
    for line, found in zip(source.splitlines(), program.llvm_lines(source), strict=True):
        yield Block(line, found)


def _asm(program: ProgramOrigins) -> Iterator[Block]:
    from ...runtime.line_table import assembly_lines

    spec, options = program.program.spec, program.program.options
    of_lines = program.llvm_lines(spec.source)
    for line, number in assembly_lines(spec, level=options.opt_level):
        found: Operations = NONE if number is None else of_lines[number - 1]
        yield Block(line.expandtabs(8), found)


def _python(program: ProgramOrigins, stage: str) -> Iterator[Block]:
    """The numba back end's kernels; its earlier stages are those of the other one."""
    if stage != "kernel":
        yield from _PROGRAM[stage](program)
        return
    found = NONE
    for line in program.program.spec.source.splitlines():
        defined = re.match(r"def (\w+)\(", line)
        if defined or line.startswith("@"):
            found = program.of_kernel(defined[1]) if defined else NONE
        yield Block(line, found)


_PROGRAM: dict[str, Callable[[ProgramOrigins], Iterator[Block]]] = {
    "fused": _fused,
    "memory": _memory,
    "kernel": _kernel,
    "llvm": _llvm,
    "asm": _asm,
}
assert ABOUT.keys() >= set(STAGES)
