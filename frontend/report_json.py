"""Stages of a report as plain data for JSON.

    {"name": "step", "backend": "llvm", "stages": [{"stage": "opt", "programs": [...]}, ...]}

Graphs, plans, programs and kernels are structured; generated code is `{"text": ...}`.  Values are
called as in the stage's text (`%x`).  Sizes are integers, or text where they are symbolic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..compiler.aval import Aval, Dim
from ..compiler.dtypes import DType
from ..compiler.ir import Check, Graph, Loc, Node, Value
from ..compiler.text.printer import value_names

if TYPE_CHECKING:
    from ..compiler.schedule.loops import Kernel
    from ..compiler.schedule.plan import FusionPlan, Group
    from ..compiler.schedule.program import MatrixView, Program, Step
    from .report import Compilation, Report

Json = dict[str, Any]
Names = Mapping[Value, str]


def report_json(report: Report, selection: str) -> Json:
    """The stages that `selection` names, as `Report.stages` understands it.

    Raises:
        ValueError: there is no such stage.
        CompileError: the back end cannot compile the program, or has no such stage.
    """
    stages = [_stage(report, stage) for stage in report.stages(selection)]
    return {"name": report.name, "backend": report.options.emitter, "stages": stages}


def _stage(report: Report, stage: str) -> Json:
    graphs = report.graphs(stage)
    if graphs is not None:
        programs = [graph_json(graph) for graph in graphs]
    else:
        programs = [_program_stage(program, stage) for program in report.programs]
    return {"stage": stage, "programs": programs}


def _program_stage(program: Compilation, stage: str) -> Json:
    name = program.graph.name
    if stage == "fused":
        return plan_json(program.scheduled.plan)
    if stage == "memory":
        return memory_json(program.scheduled.program)
    if stage == "kernel":
        kernels = program.scheduled.program.kernels
        return {"name": name, "kernels": [kernel_json(kernel) for kernel in kernels]}
    return {"name": name, "text": program.text(stage)}


# --- graphs -------------------------------------------------------------------------------------


def graph_json(graph: Graph) -> Json:
    """A graph: inputs, nodes, checks and outputs, in order."""
    names = value_names(graph)
    returned = zip(graph.outputs, graph.donations, strict=True)
    return {
        "name": graph.name,
        "symbols": list(graph.symbols),
        "inputs": [_value(value, names) for value in graph.inputs],
        "nodes": [_node(node, names, graph.locs.get(node, ())) for node in graph.nodes],
        "checks": [_check(check, names) for check in graph.checks],
        "outputs": [
            {
                **_value(output, names),
                "replaces": None if donated is None else names[graph.inputs[donated]],
            }
            for output, donated in returned
        ],
    }


def _value(value: Value, names: Names) -> Json:
    return {"name": names[value], **_type(value.aval)}


def _type(aval: Aval) -> Json:
    shape = [_size(dim) for dim in aval.shape]
    return {"dtype": aval.dtype.name, "shape": shape, "weak": aval.weak}


def _size(dim: Dim) -> int | str:
    return dim if isinstance(dim, int) else str(dim)


def _node(node: Node, names: Names, locs: Iterable[Loc]) -> Json:
    shown = {k: v for k, v in sorted(node.params.items()) if k not in node.prim.from_type}
    return {
        "primitive": node.prim.name,
        "results": [_value(result, names) for result in node.results],
        "operands": [names[operand] for operand in node.operands],
        "attributes": {key: _literal(value) for key, value in shown.items()},
        "locs": [_loc(loc) for loc in sorted(set(locs))],
    }


def _check(check: Check, names: Names) -> Json:
    locs = [] if check.loc is None else [_loc(check.loc)]
    return {"condition": names[check.condition], "message": check.message, "locs": locs}


def _loc(loc: Loc) -> Json:
    return {"file": loc.file, "line": loc.line, "column": loc.column, "grad": loc.grad}


def _literal(value: Any) -> Any:
    """An attribute's value; infinities and nan, which JSON lacks, are text."""
    if isinstance(value, tuple):
        return [_literal(item) for item in value]
    if isinstance(value, Graph):
        return graph_json(value)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    return value if isinstance(value, bool | int | str | None) else str(value)


# --- schedules ----------------------------------------------------------------------------------


def plan_json(plan: FusionPlan) -> Json:
    """A fusion plan: groups in the order in which they run, and the edges between them."""
    from ..compiler.schedule.names import value_names

    names = {value: f"%{name}" for value, name in value_names(plan.graph).items()}
    cuts = [
        {
            "producer": names[cut.producer],
            "consumer": names[cut.consumer.results[0]],
            "why": cut.why.reason,
        }
        for cut in plan.cuts
    ]
    groups = [_group(group, names) for group in plan.groups]
    return {"name": plan.graph.name, "groups": groups, "cuts": cuts}


def _group(group: Group, names: Names) -> Json:
    return {
        "kind": group.kind,
        "nodes": [names[node.results[0]] for node in group.nodes],
        "again": [names[node.results[0]] for node in group.again],
        "stores": [names[value] for value in group.stores],
        "shape": [_size(dim) for dim in group.shape],
        "reduced": list(group.reduced),
    }


def memory_json(program: Program) -> Json:
    """A scheduled program: its buffers, the arena's slots, and its steps."""
    buffers = [
        {"name": b.name, **_type(b.aval), "kind": b.kind, "position": b.position}
        for b in program.buffers
    ]
    return {
        "name": program.name,
        "buffers": buffers,
        "slots": [_size(slot) for slot in program.slots],
        "steps": [{"step": _step_name(step), **_fields(step)} for step in program.steps],
        "checks": list(program.checks),
    }


def _step_name(step: Step) -> str:
    """`RunKernel` is called `kernel`, and so on."""
    return type(step).__name__.removeprefix("Run").lower()


def _fields(record: Step | MatrixView) -> Json:
    return {f.name: _plain(getattr(record, f.name)) for f in fields(record)}


def _plain(value: Any) -> Any:
    """A step's attribute: buffers by number, kernels by name."""
    from ..compiler.schedule.loops import Kernel
    from ..compiler.schedule.program import MatrixView, RunKernel, RunMatmul

    if isinstance(value, Kernel):
        return value.name
    if isinstance(value, MatrixView | RunKernel | RunMatmul):
        return _fields(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _literal(value)


def kernel_json(kernel: Kernel) -> Json:
    """A kernel: parameters, loops, costs, and its text."""
    from ..compiler.schedule.printing import print_kernel

    buffers = [
        {"name": b.name, "dtype": b.dtype.name, "written": b.written} for b in kernel.buffers
    ]
    return {
        "name": kernel.name,
        "buffers": buffers,
        "symbols": list(kernel.symbols),
        "extents": [_size(dim) for dim in kernel.extents],
        "stages": [[_size(dim) for dim in stage.extents] for stage in kernel.stages],
        "lanes": kernel.lanes,
        "bytes": _size(kernel.bytes_moved),
        "flops": _size(kernel.flops),
        "locs": [_loc(loc) for loc in kernel.locs],
        "text": print_kernel(kernel),
    }
