"""`lower`: from a fusion plan to steps, each group's kernels as loop nests.

The steps name buffers by their number in `Lowered.values`: which memory each value gets is settled
later.
"""

from __future__ import annotations

from dataclasses import replace

from .access import Accesses, plain_root, runs_of, scatters_rows
from .builder import Builder
from .forms import form_of
from .lowering import Lowered, runs_without_rows
from .names import value_names
from .nest import Nest
from .own_steps import (
    lower_call,
    lower_matmul,
    lower_scatter,
    lower_window,
    scatter_bases,
    write_rows,
)
from .plan import FusionPlan, Group
from .program import RunBlocks, RunCheck, RunKernel, RunMatmul
from .stages import Stages, stages_of


def lower(plan: FusionPlan) -> Lowered:
    """Turns each group into steps."""
    lowered = Lowered(plan, value_names(plan.graph))
    for value in plan.graph.inputs:
        lowered.number(value)
    access = Accesses()
    for number, group in enumerate(plan.groups):
        _lower_group(lowered, group, access)
        lowered.group += [number] * (len(lowered.steps) - len(lowered.group))
    for number, check in enumerate(plan.graph.checks):
        lowered.steps.append(RunCheck(lowered.number(plain_root(check.condition)), number))
    return lowered


def _lower_group(lowered: Lowered, group: Group, access: Accesses) -> None:
    match group.kind:
        case "kernel":
            _lower_kernel(lowered, group, access)
        case "matmul":
            _lower_product(lowered, group, access)
        case "call":
            lower_call(lowered, group)
        case "scatter":
            lower_scatter(lowered, group)
        case "window":
            lower_window(lowered, group)


def _lower_product(lowered: Lowered, group: Group, access: Accesses) -> None:
    """A product, and the kernel that follows it, if its group has more than a transpose of it."""
    lower_matmul(lowered, group)
    nodes = tuple(n for n in group.nodes if n is not group.root)
    if not nodes or group.root.results[0] not in group.stores:
        return
    product = lowered.steps.pop()
    stores = tuple(v for v in group.stores if v.node is not group.root)
    _lower_kernel(lowered, replace(group, kind="kernel", nodes=nodes, stores=stores), access)
    kernel = lowered.steps.pop()
    assert isinstance(product, RunMatmul)
    assert isinstance(kernel, RunKernel)
    lowered.steps.append(RunBlocks(product, kernel))


def _lower_kernel(lowered: Lowered, group: Group, access: Accesses) -> None:
    """The kernel of a group; groups of one form share it, if nothing in them runs once."""
    first = scatter_bases(lowered, (n for n in group.nodes if scatters_rows(n)))
    first += [_built(lowered, part, access) for part in group.first]
    last = [_built(lowered, part, access) for part in group.last]
    if first or last:
        lowered.add(group, *lowered.kernel(group, _built(lowered, group.main, access), first, last))
        return
    form = form_of(group, lowered.plan.stored)
    if form.key not in lowered.forms:
        kernel, parameters = lowered.kernel(group, _built(lowered, group, access))
        lowered.forms[form.key] = kernel, tuple([form.values[v] for v in parameters])
    kernel, numbers = lowered.forms[form.key]
    values = [*form.values]
    lowered.add(group, kernel, [values[n] for n in numbers])


def _built(lowered: Lowered, group: Group, access: Accesses) -> Builder:
    if not group.reduced:
        nest = Nest(runs_without_rows(group.shape, inside=False))
        return lowered.built(group, nest, lambda b: _write_all(b, group))
    stages = stages_of(group, access)
    whole = any(n.prim.name == "argmax" for n in group.nodes)
    nest = Nest(runs_of(group.shape, group.reduced), (), group.inner, whole)
    return lowered.built(group, nest, lambda b: _write_stages(b, stages))


def _write_all(builder: Builder, group: Group) -> None:
    """Writes a kernel without reductions: its results at each point."""
    point = builder.nest.point()
    for value in group.stores:
        builder.store(value, point, value, point, inner=False)


def _write_stages(builder: Builder, stages: Stages) -> None:
    """Writes a kernel with reductions, loop by loop."""
    point, row, column = builder.nest.point(), builder.nest.row(), builder.nest.column()
    for part in stages.loops:
        builder.begin_loops()
        for node in part.reductions:
            builder.reduce(node)
        for node in part.columns:
            if scatters_rows(node):
                write_rows(builder, node)
            else:
                (operand,), (result,) = node.operands, node.results
                builder.store(operand, point, result, column, inner=True, combine="sum")
        for value in part.stores:
            builder.store(value, point, value, point, inner=True)
    for value in stages.rows:
        builder.store(value, row, value, row, inner=False)
