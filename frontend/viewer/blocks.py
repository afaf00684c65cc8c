"""Which operations each line of each stage belongs to.

An *operation* is a node of an optimised graph, by its number in the report.  Every line of every
stage gets the set of operations that it is about, and lines belong together if their sets meet.
Nothing is guessed from texts that could say it themselves: nodes have lines of the user's program,
kernels are asked for the nodes that they were made of, LLVM text names the step that each part of
it is for, and assembly knows its line of LLVM text.  Where a pass has made other nodes of a node,
those belong to it that correspond in order and come from the same place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import groupby
from typing import Any

from ...compiler.ir import Graph, Loc, Node, Value
from ...compiler.schedule import schedule_stages
from ...compiler.schedule.loops import Kernel
from ...compiler.schedule.names import value_names
from ...compiler.schedule.program import RunCheck, kernel_runs
from ...compiler.text.difference import matched_nodes
from ...runtime.host import host_target
from ..report import Compilation, Report

Operations = frozenset[int]
NONE: Operations = frozenset()

_STEP = re.compile(r"\s*; step (\d+)$")
_SYMBOL = re.compile(r'@"?([\w.]+)')


@dataclass(frozen=True)
class Block:
    """Lines that belong to the same operations."""

    text: str
    operations: Operations = NONE


def joined(lines: Iterable[Block]) -> list[Block]:
    """Neighbours with equal operations as one block."""
    groups = groupby(lines, key=lambda line: line.operations)
    return [Block("\n".join(line.text for line in part), found) for found, part in groups]


class Origins:
    """Where the operations of a report come from, and what came of them."""

    def __init__(self, report: Report) -> None:
        self.programs: list[ProgramOrigins] = []
        first = 0
        for program in report.programs:
            self.programs.append(ProgramOrigins(program, first))
            first += len(program.optimised.nodes)
        self._at: dict[Loc, set[int]] = {}
        for origins in self.programs:
            for node, locs in origins.graph.locs.items():
                for loc in locs:
                    self._at.setdefault(loc, set()).update(origins.of_node(node))

    @property
    def locs(self) -> Iterable[Loc]:
        """The places in the user's program that operations come from."""
        return self._at

    def of_line(self, file: str, line: int) -> Operations:
        """The operations of a line of the user's program, derived ones included."""
        found = (ops for loc, ops in self._at.items() if (loc.file, loc.line) == (file, line))
        return frozenset().union(*found)

    def of_value(self, value: Value, graph: Graph) -> Operations:
        """What became of a value of an earlier graph; of an input, what reads it."""
        nodes = graph.users.get(value, ()) if value.is_input else (value.node,)
        return frozenset().union(*(self._of_node(node, graph) for node in nodes))

    def _of_node(self, node: Node, graph: Graph) -> Operations:
        """The node itself where it is left, else its likes in its place, else all of its place."""
        found = frozenset().union(*(p.of_earlier(node, graph) for p in self.programs))
        return found or frozenset().union(*(self._at.get(x, ()) for x in graph.locs.get(node, ())))


class ProgramOrigins:
    """The operations of one program: `first` is the number of its first one."""

    def __init__(self, program: Compilation, first: int) -> None:
        self.program, self.graph = program, program.optimised
        self._numbers = {node: first + i for i, node in enumerate(self.graph.nodes)}
        self._names = {name: value for value, name in value_names(self.graph).items()}
        self._matches: dict[int, dict[Node, Node]] = {}
        self.steps = self._of_steps()

    def of_node(self, node: Node) -> Operations:
        """A node of the optimised graph."""
        return frozenset({self._numbers[node]}) if node in self._numbers else NONE

    def of_earlier(self, node: Node, graph: Graph) -> Operations:
        """The node that corresponds to one of an earlier graph and comes from its lines."""
        if id(graph) not in self._matches:
            self._matches[id(graph)] = dict(matched_nodes(graph.nodes, self.graph.nodes))
        match = self._matches[id(graph)].get(node)
        if match is None:
            return NONE
        places = set(graph.locs.get(node, ())), set(self.graph.locs.get(match, ()))
        return self.of_node(match) if match is node or places[0] & places[1] else NONE

    def of_name(self, name: str) -> Operations:
        """A value, by the name that schedules give it; an input belongs to what reads it."""
        value = self._names.get(name)
        if value is None or not value.is_input:
            return NONE if value is None else self.of_node(value.node)
        return frozenset().union(*map(self.of_node, self.graph.users.get(value, ())))

    def of_kernel(self, name: str) -> Operations:
        """A kernel, wherever it runs."""
        steps = zip(self.program.scheduled.program.steps, self.steps, strict=True)
        runs = (found for step, found in steps if name in {k.name for k in parts(step, Kernel)})
        return frozenset().union(*runs)

    def _of_steps(self) -> list[Operations]:
        """The operations of each step: of the same schedule, of a graph whose lines number nodes.

        Lines have no part in what is scheduled, and kernels keep those of their nodes.
        """
        numbered = {n: (Loc("", number, 0),) for n, number in self._numbers.items()}
        tagged = schedule_stages(self.graph.replace(locs=numbered), host_target()).program
        return [self._of_step(step) for step in tagged.steps]

    def _of_step(self, step: Any) -> Operations:
        if isinstance(step, RunCheck):
            return self.of_node(self.graph.checks[step.number].condition.node)
        kernels = {loc.line for run in kernel_runs(step) for loc in run.locs}
        return frozenset(kernels).union(*map(self.of_name, _names_in(step)))

    def llvm_lines(self, source: str) -> list[Operations]:
        """The operations of each line of the program's LLVM text.

        Lines of the entry belong to the step that they are for, other functions to all steps that
        call them.
        """
        owners = list(_owners(source))
        callers: dict[str, set[str | int]] = {}
        for (owner, defined), line in zip(owners, source.splitlines(), strict=True):
            for called in _SYMBOL.findall(line):
                if called != defined:
                    callers.setdefault(called, set()).add(owner)
        names = dict.fromkeys(owner for owner, _ in owners)
        found = {owner: self._of_owner(owner, callers, set()) for owner in names}
        return [found[owner] for owner, _ in owners]

    def _of_owner(
        self, owner: str | int, callers: dict[str, set[str | int]], met: set[str | int]
    ) -> Operations:
        if isinstance(owner, int):
            return self.steps[owner]
        if owner in met:
            return NONE
        met.add(owner)
        return frozenset().union(
            *(self._of_owner(caller, callers, met) for caller in callers.get(owner, ()))
        )


def parts(step: Any, kind: type[Any]) -> Iterator[Any]:
    """The records of a kind in a step, also in steps that it is made of."""
    if isinstance(step, kind):
        yield step
    else:
        for part in _inside(step):
            yield from parts(part, kind)


def _inside(record: Any) -> Iterator[Any]:
    """What a record, or a tuple of them, is made of."""
    if is_dataclass(record):
        yield from (getattr(record, part.name) for part in fields(record))
    elif isinstance(record, tuple):
        yield from record


def _names_in(step: Any) -> Iterator[str]:
    """The names of values that a step, or a step in it, says that it computes."""
    if not isinstance(step, Kernel):
        of = getattr(step, "of", None)
        if of is not None:
            yield of
        for part in _inside(step):
            yield from _names_in(part)


def _owners(source: str) -> Iterator[tuple[str | int, str]]:
    """For each line of LLVM text the step or the function that it is part of, and the latter."""
    owner: str | int = ""
    function = ""
    for line in source.splitlines():
        if line.startswith("define "):
            found = _SYMBOL.search(line)
            owner = function = found[1] if found else ""
        step = _STEP.match(line)
        if step:
            owner = int(step[1])
        yield owner, function
        if line.startswith("}"):
            owner = function = ""
