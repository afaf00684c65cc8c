"""The schedule: from a graph to a program of kernels, library calls and buffers.

fuse    Graph -> FusionPlan    which nodes run together, and why other edges stay cut
lower   FusionPlan -> Lowered  each group as loop nests, steps over values
join    Lowered -> Lowered     kernels run by blocks before products, equal ones as one step
place   Lowered -> Program     order, memory, in-place writes
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..ir import Graph
from ..target import Target
from .fuse import fuse as make_plan
from .lower import lower
from .memory import place
from .plan import FusionPlan
from .printing import print_kernels, print_memory, print_plan
from .program import Program
from .prologues import join_prologues
from .sweeps import join_sweeps

__all__ = [
    "FusionPlan",
    "Program",
    "Scheduled",
    "print_kernels",
    "print_memory",
    "print_plan",
    "schedule",
    "schedule_stages",
]


@dataclass(frozen=True)
class Scheduled:
    """A schedule and what it came from."""

    plan: FusionPlan
    program: Program

    def text(self, stage: str) -> str:
        """The text of one stage: "fused", "memory" or "kernel"."""
        match stage:
            case "fused":
                return print_plan(self.plan)
            case "memory":
                return print_memory(self.program)
            case "kernel":
                return print_kernels(self.program)
        raise ValueError(f"no such stage of a schedule: {stage!r}")


def schedule(graph: Graph, target: Target, *, fuse: bool = True) -> Program:
    """The program that computes `graph`.

    Args:
        graph: a verified graph.
        target: the machine; nothing of today's schedule depends on it.
        fuse: whether nodes share kernels.  Results are the same to the bit.
    """
    return schedule_stages(graph, target, fuse=fuse).program


def schedule_stages(graph: Graph, target: Target, *, fuse: bool = True) -> Scheduled:
    """As `schedule`, with the fusion plan."""
    del target
    plan = make_plan(graph, enabled=fuse)
    lowered = lower(plan)
    if fuse:
        plan = join_prologues(lowered)
        plan = replace(plan, sweeps=tuple(join_sweeps(lowered)))
    return Scheduled(plan, place(lowered))
