"""Stages of a schedule as deterministic text, for people and `taut dump`.

A kernel prints as its loops, one instruction a line:

    kernel max_sub_exp_sum_div(x: f32 in, y: f32 out)  outer (64)  lanes inner
      stage (10):
        %0 = load x[i0*10 + i1]
        %1 = reduce max %0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..aval import Dim, SymDim, size_of
from ..ir import Node, Value
from .access import is_reduction
from .loops import Compute, Const, Index, Instruction, Kernel, Load, Position, Reduce, Store
from .names import kernel_name, value_names
from .plan import FusionPlan, Group
from .program import (
    MatrixView,
    Program,
    RunBlocks,
    RunCall,
    RunCheck,
    RunCopy,
    RunKernel,
    RunMatmul,
    RunSweep,
    Step,
)

# --- the fusion plan ------------------------------------------------------------------------------


def print_plan(plan: FusionPlan) -> str:
    """The `fused` stage: groups with their members, and the cut edges with their reasons."""
    names = value_names(plan.graph)
    lines = [f"fused @{plan.graph.name}: {len(plan.groups)} groups, {len(plan.cuts)} edges cut"]
    for number, group in enumerate(plan.groups):
        lines += ["", *_group_lines(number, group, names)]
    if plan.prologues:
        lines += ["", "prologues:"]
    for before, product in plan.prologues:
        lines.append(f"  group {before} by blocks of rows before group {product}")
    if plan.sweeps:
        lines += ["", "sweeps:"]
    for sweep in plan.sweeps:
        lines.append(f"  {len(sweep)} segments, one step: groups {', '.join(map(str, sweep))}")
    if plan.cuts:
        lines += ["", "cut:"]
    for cut in plan.cuts:
        target = names[cut.consumer.results[0]]
        lines.append(f"  %{names[cut.producer]} -> %{target}: {cut.why}")
    return "\n".join(lines) + "\n"


def _group_lines(number: int, group: Group, names: dict[Value, str]) -> Iterator[str]:
    over = f" over {_tuple(group.shape)}" if group.kind == "kernel" else ""
    combines = any(is_reduction(node) for node in group.nodes)
    reduced = f" reducing {_tuple(group.reduced)}" if combines else ""
    yield f"group {number}: {group.kind} {kernel_name(group.nodes)}{over}{reduced}"
    for node in sorted({*group.again}, key=group.again.index):
        yield f"  again  {_node_text(node, names)}"
    for node in group.nodes:
        stored = any(r in group.stores for r in node.results)
        yield f"  {'store  ' if stored else '       '}{_node_text(node, names)}"


def _node_text(node: Node, names: dict[Value, str]) -> str:
    results = ", ".join(f"%{names[r]}: {r.aval}" for r in node.results)
    operands = ", ".join(f"%{names[o]}" for o in node.operands)
    return f"{results} = {node.prim.name} {operands}".rstrip()


def _tuple(shape: Sequence[Dim]) -> str:
    return f"({', '.join(map(str, shape))})"


# --- memory ---------------------------------------------------------------------------------------


def print_memory(program: Program) -> str:
    """The `memory` stage: buffers, arena and steps."""
    lines = [f"program @{program.name}", "  buffers"]
    lines += [
        f"    {i}: {b.name}: {b.aval} {b.kind} {b.position}" for i, b in enumerate(program.buffers)
    ]
    inputs, outputs, arena = needed = memory_needed(program)
    parts = f"inputs {inputs}, outputs {outputs}, arena {arena}"
    lines.append(f"  peak {_total(needed)} bytes: {parts}")
    lines.append(f"  arena {arena} bytes in {len(program.slots)} slots")
    lines += [f"    slot {i}: {size} bytes" for i, size in enumerate(program.slots)]
    lines.append("  steps")
    lines += [f"    {i}: {_step_text(step, program)}" for i, step in enumerate(program.steps)]
    return "\n".join(lines) + "\n"


class MemoryNeeded(NamedTuple):
    """Bytes in use while a program runs, known before it does: together they are its peak.

    Attributes:
        inputs: arguments and state, which the caller holds; results that replace one are in it.
        outputs: fresh results.
        arena: temporaries.
    """

    inputs: Dim
    outputs: Dim
    arena: Dim


def memory_needed(program: Program) -> MemoryNeeded:
    """What a call of a program needs, its inputs included."""
    fresh = zip(program.outputs, program.donations, strict=True)
    outputs = [aval.nbytes for aval, donated in fresh if donated is None]
    return MemoryNeeded(
        _total(aval.nbytes for aval in program.inputs), _total(outputs), arena_bytes(program)
    )


def arena_bytes(program: Program) -> Dim:
    """Bytes of all slots together."""
    return _total(program.slots)


def _total(sizes: Iterable[Dim]) -> Dim:
    total: Dim = 0
    for size in sizes:
        total = total + size
    return total


def _step_text(step: Step, program: Program) -> str:
    def name(buffer: int) -> str:
        return f"{program.buffers[buffer].name}#{buffer}"

    match step:
        case RunSweep():
            segments = (f"\n         {_run_text(run, name)}" for run in step.runs)
            return f"sweep {step.kernel.name} over {len(step.runs)} segments{''.join(segments)}"
        case RunBlocks():
            text = _part_text(step.product, name)
            for run, place in ((step.before, "before"), (step.after, "")):
                if run is not None:
                    words = " ".join(["by blocks with", _part_text(run, name), place]).rstrip()
                    text += f"\n       {words}"
            return text
        case RunCheck():
            return f"check {name(step.buffer)} else {step.number}: {program.checks[step.number]}"
    return _part_text(step, name)


def _part_text(step: RunKernel | RunMatmul | RunCall | RunCopy, name: Callable[[int], str]) -> str:
    match step:
        case RunKernel():
            return f"kernel {step.kernel.name}{_run_text(step, name)}"
        case RunMatmul():
            x, y, out = (_view_text(v, name(v.buffer)) for v in (step.x, step.y, step.out))
            sizes = f"{step.rows}x{step.inner}x{step.columns}"
            batch = f"{size_of(step.batch)} times " if step.batch else ""
            return f"matmul {x} @ {y} -> {out}  [{batch}{sizes} {step.dtype.name}]"
        case RunCall():
            arguments = ", ".join(
                [*map(name, step.buffers), *map(str, step.integers), *map(str, step.floats)]
            )
            return f"call {step.function}({arguments})"
        case RunCopy():
            offset = f"+{step.offset}" if step.offset != 0 else ""
            return f"copy {name(step.source)} -> {name(step.target)}{offset}"


def _run_text(run: RunKernel, name: Callable[[int], str]) -> str:
    """What a kernel reads and writes in one run, its sizes there, and its cost."""
    kernel = run.kernel
    pairs = list(zip(run.buffers, kernel.buffers, strict=True))
    out = ", ".join(name(b) for b, parameter in pairs if parameter.written)
    read = kernel.loaded
    into = ", ".join(name(b) for i, (b, _) in enumerate(pairs) if i in read)
    named = zip(kernel.symbols, run.sizes, strict=False)
    sizes = ", ".join(f"{symbol} = {size}" for symbol, size in named if str(size) != symbol)
    cost = f"{run.size(kernel.bytes_moved)} bytes, {run.size(kernel.flops)} flops"
    return f"{f'<{sizes}>' if sizes else ''}({into}) -> {out}  [{cost}]"


def _view_text(view: MatrixView, name: str) -> str:
    offset = f"+{view.offset}" if view.offset != 0 else ""
    return f"{name}{offset}{'.T' if view.transposed else ''}"


# --- kernels --------------------------------------------------------------------------------------


def print_kernels(program: Program) -> str:
    """The `kernel` stage: each kernel of a program once."""
    return "\n".join(print_kernel(kernel) for kernel in program.kernels)


def print_kernel(kernel: Kernel) -> str:
    """A kernel as in the module's example."""
    return "\n".join(_kernel_lines(kernel)) + "\n"


def _kernel_lines(kernel: Kernel) -> Iterator[str]:
    read = kernel.loaded
    ways = (
        f"{b.name}: {b.dtype.name} {_way(b.written, i in read)}"
        for i, b in enumerate(kernel.buffers)
    )
    sizes = f"<{', '.join(kernel.symbols)}>" if kernel.symbols else ""
    head = f"kernel {kernel.name}{sizes}({', '.join(ways)})"
    yield f"{head}  outer {_tuple(kernel.extents)}  lanes {kernel.lanes}"
    locs = f"  loc({', '.join(map(str, kernel.locs))})" if kernel.locs else ""
    yield f"  // {kernel.bytes_moved} bytes, {kernel.flops} flops{locs}"
    for stage in kernel.stages:
        name = "stage" if stage.when == "each" else f"{stage.when} stage"
        yield f"  {name} {_tuple(stage.extents)}:" if stage.extents else f"  {name}:"
        for instruction in stage.body:
            yield f"    {_instruction_text(instruction, kernel)}"


def _way(is_written: bool, is_read: bool) -> str:
    return "in out" if is_written and is_read else "out" if is_written else "in"


def _instruction_text(it: Instruction, kernel: Kernel) -> str:
    match it:
        case Load():
            return f"%{it.register} = load {kernel.buffers[it.buffer].name}[{index_text(it.index)}]"
        case Const():
            return f"%{it.register} = {it.dtype.name} {it.value}"
        case Position():
            return f"%{it.register} = {it.dtype.name} position {index_text(it.index)}"
        case Compute():
            operands = ", ".join(f"%{r}" for r in it.operands)
            to = f" to {it.dtype.name}" if it.primitive == "cast" else ""
            return f"%{it.register} = {it.primitive} {operands}{to}"
        case Reduce():
            return f"%{it.register} = reduce {it.combine} %{it.operand}"
        case Store():
            sign = {"set": "=", "add": "+=", "sum": "sum="}[it.combine]
            return (
                f"store {kernel.buffers[it.buffer].name}[{index_text(it.index)}] {sign} %{it.value}"
            )


def index_text(index: Index) -> str:
    """`i0*10 + i1 + %3*4 + 7`."""
    loops = [(f"i{number}", c) for number, c in enumerate(index.coefficients) if c != 0]
    terms = [_term(name, c) for name, c in [*loops, *((f"%{r}", s) for r, s in index.dynamic)]]
    if index.offset != 0 or not terms:
        terms.append(str(index.offset))
    return " + ".join(terms).replace("+ -", "- ")


def _term(name: str, coefficient: Dim) -> str:
    if coefficient == 1:
        return name
    text = str(coefficient)
    is_sum = isinstance(coefficient, SymDim) and len(coefficient.terms) > 1
    return f"{name}*({text})" if is_sum else f"{name}*{text}"
