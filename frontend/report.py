"""What compiling made of a function, stage by stage, as text.

    Report(graph).text("opt")               the graph after the passes
    Report(graph).text("trace..opt")        several stages, each below a line `// stage: ...`
    Report(recording, options).kernels()    the loop nests

A recorded function is one program, or two where its results carry gradients: the second is what
`backward()` runs outside of it.  Nothing is executed, and a stage that nobody asks for is not
computed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..compiler.ir import Graph
from ..compiler.pipeline import PASSES, STAGES, run_passes
from ..compiler.text import parse_graph
from ..compiler.text.lexer import suggestion
from ..runtime.options import Options, default_options

if TYPE_CHECKING:
    from ..compiler.codegen.spec import ProgramSpec
    from ..compiler.schedule import Scheduled
    from ..compiler.schedule.loops import Kernel
    from .record import Recording

PASS_NAMES = tuple(step.name for step in PASSES)
_DOCUMENT = re.compile(r"^(?=taut-ir\b)", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class Compilation:
    """One program on its way through the compiler; each form is made when it is first asked for.

    Attributes:
        graph: the program before the passes.
        options: how it is compiled.
    """

    graph: Graph
    options: Options

    def after(self, name: str) -> Graph:
        """The graph after the pass called `name`."""
        return run_passes(self.graph, until=name, check=self.options.check)

    @cached_property
    def optimised(self) -> Graph:
        """The graph after all passes."""
        return run_passes(self.graph, check=self.options.check)

    @cached_property
    def scheduled(self) -> Scheduled:
        """The groups of nodes that run together, and the kernels and the memory that come of it."""
        from ..compiler.schedule import schedule_stages
        from ..runtime.host import host_target

        return schedule_stages(self.optimised, host_target(), fuse=self.options.fuse)

    @cached_property
    def spec(self) -> ProgramSpec:
        """The program as the back end prints it."""
        from ..runtime.compile import emit

        return emit(self.scheduled.program, self.options)

    @property
    def assembly(self) -> str:
        """The machine code, as assembly text.

        Raises:
            CompileError: the back end has none to show.
        """
        from ..runtime.native import assembly

        return assembly(self.spec, level=self.options.opt_level)

    def text(self, stage: str) -> str:
        """A stage after the graphs: `fused`, `memory`, `kernel`, `llvm` or `asm`."""
        if stage == "asm":
            return self.assembly
        if stage == "llvm" or (stage == "kernel" and self.options.emitter == "numba"):
            return self.spec.text
        return self.scheduled.text(stage) or f"// {self.graph.name} has no kernels\n"


class Report:
    """Every stage of a function's compilation.

    Args:
        source: what tracing recorded, or graphs that nobody traced.
        options: the back end and its settings; the environment's, unless given.
    """

    def __init__(
        self, source: Recording | Graph | Sequence[Graph], options: Options | None = None
    ) -> None:
        self.options = options or default_options()
        self.traced, self.joint, compiled = _graphs(source)
        self.programs = tuple(Compilation(graph, self.options) for graph in compiled)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.joint[0].name

    def stages(self, selection: str) -> tuple[str, ...]:
        """The stages that a selection names: one, a pass, a range such as `trace..opt`, or `all`.

        The numba back end's last stage is the kernels' source: ranges do not go beyond it.

        Raises:
            ValueError: there is no such stage, or the range runs backwards.
        """
        stages = stages_of(selection)
        if len(stages) > 1 and self.options.emitter == "numba":
            return tuple(stage for stage in stages if stage not in ("llvm", "asm"))
        return stages

    def text(self, stage: str = "opt") -> str:
        """The text of one stage, or of several below headers.

        Args:
            stage: as for `stages`.

        Raises:
            ValueError: there is no such stage.
            CompileError: the back end cannot compile the program, or has no such stage.
        """
        stages = self.stages(stage)
        if len(stages) == 1 and ".." not in stage and stage != "all":
            return self._text(stages[0])
        return "\n".join(f"// stage: {name}\n{self._text(name)}" for name in stages)

    def kernels(self) -> list[Kernel]:
        """The kernels, in the order in which they run; equal ones once a program."""
        return [kernel for p in self.programs for kernel in p.scheduled.program.kernels]

    def graphs(self, stage: str) -> tuple[Graph, ...] | None:
        """The graphs of a stage that has any: `trace`, `joint`, `opt`, or the name of a pass."""
        if stage == "trace":
            return self.traced
        if stage == "joint":
            return self.joint
        if stage == "opt":
            return tuple(program.optimised for program in self.programs)
        if stage in PASS_NAMES:
            return tuple(program.after(stage) for program in self.programs)
        return None

    def _text(self, stage: str) -> str:
        graphs = self.graphs(stage)
        parts = map(str, graphs) if graphs else (p.text(stage) for p in self.programs)
        return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def stages_of(selection: str) -> tuple[str, ...]:
    """The stages that `opt`, `trace..opt`, `fused..`, `..opt` or `all` names, in order.

    Raises:
        ValueError: there is no such stage, or the range runs backwards.
    """
    if selection == "all":
        return STAGES
    first, dots, last = selection.partition("..")
    if not dots:
        return (_known(selection, (*STAGES, *PASS_NAMES)),)
    start, end = _known(first or STAGES[0], STAGES), _known(last or STAGES[-1], STAGES)
    found = STAGES[STAGES.index(start) : STAGES.index(end) + 1]
    if not found:
        raise ValueError(f"the stage {end!r} comes before {start!r}; did you mean {end}..{start}?")
    return found


def _known(name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    hint = suggestion(name, (*names, "all")) or f"; there are {', '.join(STAGES)} and all"
    raise ValueError(f"no stage is called {name!r}{hint}")


def parse_graphs(text: str, source: str = "<text>") -> tuple[Graph, ...]:
    """The graphs in a text of one or several functions, each with its own first line `taut-ir`.

    Raises:
        ParseError: the text cannot be read; it names the place.
    """
    starts = [found.start() for found in _DOCUMENT.finditer(text)] or [0]
    ends = [*starts[1:], len(text)]
    return tuple(
        parse_graph("\n" * text.count("\n", 0, start) + text[start:end], source)
        for start, end in zip(starts, ends, strict=True)
    )


def _graphs(
    source: Recording | Graph | Sequence[Graph],
) -> tuple[tuple[Graph, ...], tuple[Graph, ...], tuple[Graph, ...]]:
    """As traced, with gradients, and as compiled."""
    if isinstance(source, Graph):
        return (source,), (source,), (source,)
    if isinstance(source, Sequence):
        return tuple(source), tuple(source), tuple(source)
    if source.backward is None:
        return (source.forward,), (source.graph,), (source.graph,)
    from .differentiable import programs_of

    return (source.forward,), (source.graph, source.backward.graph), programs_of(source)
