"""The pipeline: every pass over the graph, in the order in which they run.

A program goes through these stages, each of which prints:

    trace   the graph as recorded                                          the front end's tracer
    joint   forward, derived backward and optimiser's update in one graph  autodiff
    opt     the graph after the passes below                               run_passes
    fused   groups of nodes, one kernel each; why edges are not fused      schedule
    memory  buffers, their lives and the arena: a Program                  schedule
    kernel  loop nests                                                     schedule
    llvm    LLVM IR, or Python source for the other back end               codegen
    asm     machine code                                                   the runtime
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .errors import IRError
from .ir import Graph
from .passes import algebra, casts, checks, fold, layout, logic, narrow, shapes, simplify
from .text.lexer import suggestion
from .verify import verify

STAGES = ("trace", "joint", "opt", "fused", "memory", "kernel", "llvm", "asm")


class Pass(NamedTuple):
    """A step of the pipeline.

    Attributes:
        name: its file's name, which the CLI takes to stop after it.
        run: what it does; pure.
        why: what it is for, in one line.
    """

    name: str
    run: Callable[[Graph], Graph]
    why: str


PASSES = (
    Pass("layout", layout.run, "a weight's gradient is written in the order of the weight"),
    Pass(
        "simplify", simplify.run, "what backward and optimiser leave behind costs nothing to skip"
    ),
    Pass(
        "checks", checks.run, "a condition that simplify proved needs no test when the program runs"
    ),
)
"""The list.  `compiler/schedule` goes on from here: `schedule(graph, target) -> Program`."""

PARTS = (
    Pass("fold", fold.run, "what follows from constants alone is a constant"),
    Pass("algebra", algebra.run, "x * 1 is x, and its like"),
    Pass("logic", logic.run, "comparisons and choices whose outcome is known"),
    Pass("casts", casts.run, "conversions that change nothing"),
    Pass("shapes", shapes.run, "movements that move nothing, or that are one movement"),
    Pass("narrow", narrow.run, "what is repeated is computed once, before it is"),
)
"""The rules of `simplify`, one family at a time: for who studies one of them."""

Observe = Callable[[str, Graph], None]


def find_pass(name: str) -> Pass:
    """The pass called `name`, of the pipeline or a part of one of its passes.

    Raises:
        ValueError: no pass is called so; the message proposes the nearest.
    """
    known = {p.name: p for p in (*PASSES, *PARTS)}
    if name not in known:
        hint = suggestion(name, known) or f"; there are {', '.join(known)}"
        raise ValueError(f"no pass is called {name!r}{hint}")
    return known[name]


def run_passes(
    graph: Graph,
    passes: Sequence[Pass] | None = None,
    *,
    until: str | None = None,
    check: bool = False,
    observe: Observe | None = None,
) -> Graph:
    """The graph after the passes: what the stage "opt" prints.

    Args:
        graph: a well-formed graph.
        passes: what to run, in order; by default the whole pipeline.
        until: the last of them to run; by default all run.
        check: whether to verify the graph before the first pass and after each one.
        observe: called with each pass's name and result.

    Raises:
        ValueError: no pass is called `until`.
        IRError: `check` found a graph that is not well formed; the message says after which pass.
    """
    passes = PASSES if passes is None else passes
    names = [p.name for p in passes]
    if until is not None and until not in names:
        hint = suggestion(until, names)
        raise ValueError(f"no pass is called {until!r}{hint}; the passes are {', '.join(names)}")
    if check:
        verify_stage(graph, "before the first pass")
    for step in passes[: names.index(until) + 1 if until else None]:
        graph = step.run(graph)
        if check:
            verify_stage(graph, f"after the pass {step.name}")
        if observe is not None:
            observe(step.name, graph)
    return graph


def verify_stage(graph: Graph, when: str) -> None:
    """Raises IRError, with the point of time in it, unless the graph is well formed."""
    try:
        verify(graph)
    except IRError as error:
        raise IRError(f"{when}: {error}") from None
