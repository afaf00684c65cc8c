"""What lowering makes, and the writing of one kernel of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..aval import Dim, Shape, dim_symbols
from ..ir import Loc, Node, Value
from .access import Runs, runs_of
from .builder import Builder
from .cost import kernel_bytes, kernel_flops
from .loops import (
    Instruction,
    Kernel,
    KernelBuffer,
    Lanes,
    Load,
    Origin,
    Position,
    Stage,
    Store,
    When,
)
from .names import kernel_name
from .nest import Nest
from .plan import FusionPlan, Group
from .program import RunKernel, Step
from .registers import shifted


@dataclass
class Lowered:
    """Steps over values.

    Attributes:
        plan: what was lowered.
        values: what has a buffer of its own; steps name values by their number here.
        names: a readable name for each value of the graph.
        steps: in an order in which they can run, the checks last.
        group: for each step of a group the group's number.
        forms: the kernel of each form that has been written, and the numbers in the form of the
            values that it takes.
    """

    plan: FusionPlan
    names: dict[Value, str]
    values: list[Value] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    forms: dict[object, tuple[Kernel, tuple[int, ...]]] = field(default_factory=dict)
    _numbers: dict[Value, int] = field(default_factory=dict)

    def number(self, value: Value) -> int:
        """The number of a value with memory."""
        known = self._numbers.get(value)
        if known is None:
            known = self._numbers[value] = len(self.values)
            self.values.append(value)
        return known

    def run(
        self, group: Group, nest: Nest, write: Callable[[Builder], None], lanes: Lanes | None = None
    ) -> None:
        """Adds the kernel that `write` writes."""
        self.add(group, *self.kernel(group, self.built(group, nest, write), lanes=lanes))

    def add(self, group: Group, kernel: Kernel, parameters: Iterable[Value]) -> None:
        """Adds a run of a kernel on the memory of some values, for a group."""
        buffers = tuple(map(self.number, parameters))
        self.steps.append(RunKernel(kernel, buffers, locs=self.locs(group.nodes)))

    def built(self, group: Group, nest: Nest, write: Callable[[Builder], None]) -> Builder:
        """The instructions that `write` writes, in loops cut where index maps ask for it."""
        while True:
            builder = Builder(nest, group.members, self.plan.stored)
            write(builder)
            finer = nest.cut(builder.wanted)
            if finer is None:
                return builder
            nest = finer

    def kernel(
        self,
        group: Group,
        main: Builder,
        first: Sequence[Builder] = (),
        last: Sequence[Builder] = (),
        lanes: Lanes | None = None,
    ) -> tuple[Kernel, tuple[Value, ...]]:
        """A kernel of what was built: its loops, and what runs once before and after them.

        With it come the values that it takes.
        """
        parts: list[tuple[Builder, When]] = [(builder, "first") for builder in first]
        parts += [(main, "each"), *((builder, "last") for builder in last)]
        parameters = tuple(dict.fromkeys(v for part, _ in parts for v in part.parameters))
        stages = joined(parts, {value: number for number, value in enumerate(parameters)})
        extents = main.nest.extents[: main.nest.outer]
        written = {v for part, _ in parts for v in part.written}
        kernel = Kernel(
            kernel_name(group.nodes),
            tuple(KernelBuffer(self.names[v], v.aval.dtype, v in written) for v in parameters),
            extents,
            stages,
            lanes or _lanes(main.nest),
            _symbols(extents, stages),
            origins=tuple(self._origin(v) for part, _ in parts for v in part.values()),
            bytes_moved=kernel_bytes(extents, stages),
            flops=kernel_flops(extents, stages),
        )
        return kernel, parameters

    def _origin(self, value: Value | None) -> Origin:
        return Origin() if value is None else Origin(self.names[value], self.locs((value.node,)))

    def locs(self, nodes: Sequence[Node]) -> tuple[Loc, ...]:
        """The user's lines that nodes came from."""
        locs = self.plan.graph.locs
        return tuple(dict.fromkeys(loc for n in nodes for loc in locs.get(n, ())))


def joined(
    parts: Sequence[tuple[Builder, When]], parameters: Mapping[Value, int]
) -> tuple[Stage, ...]:
    """The stages of several builders as those of one kernel, with its parameters and registers."""
    outer = next(builder.nest.outer for builder, when in parts if when == "each")
    stages: list[Stage] = []
    registers = 0
    for builder, when in parts:
        missing = outer - builder.nest.outer
        buffers = [parameters[value] for value in builder.parameters]
        for stage in shifted(builder.stages(), registers):
            body = tuple(_placed(it, buffers, missing) for it in stage.body)
            stages.append(Stage(stage.extents, body, when))
        registers += builder.registers
    return tuple(stages)


def _placed(it: Instruction, buffers: Sequence[int], loops: int) -> Instruction:
    """An instruction inside more loops, which it does not depend on, and with other buffers."""
    if not isinstance(it, Load | Store | Position):
        return it
    index = replace(it.index, coefficients=(*(0,) * loops, *it.index.coefficients))
    if isinstance(it, Position):
        return replace(it, index=index)
    return replace(it, index=index, buffer=buffers[it.buffer])


def runs_without_rows(shape: Shape, *, inside: bool) -> Runs:
    """A space without reductions: one loop over all elements, outer or `inside` a stage."""
    return tuple((size, inside) for size, _ in runs_of(shape, ()))


def _lanes(nest: Nest) -> Lanes:
    if nest.inner:
        return "inner"
    return "outer" if nest.outer else "none"


def _symbols(extents: Sequence[Dim], stages: Sequence[Stage]) -> tuple[str, ...]:
    """The named sizes that loops and indices mention, in order."""
    dims = [*extents]
    for stage in stages:
        dims += stage.extents
        for it in stage.body:
            if isinstance(it, Load | Store | Position):
                dims += [it.index.offset, *it.index.coefficients, *(s for _, s in it.index.dynamic)]
    found: dict[str, None] = {}
    for dim in dims:
        if not isinstance(dim, int):
            found.update(dict.fromkeys(sorted(dim_symbols(dim))))
    return tuple(found)
