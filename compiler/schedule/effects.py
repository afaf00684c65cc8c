"""What steps read and write, and steps with their buffers renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .cost import kernel_bytes
from .loops import Instruction, Kernel, KernelBuffer, Load, Stage, Store
from .program import (
    MatrixView,
    RunBlocks,
    RunCall,
    RunCheck,
    RunCopy,
    RunKernel,
    RunMatmul,
    RunSweep,
    Step,
    kernel_runs,
    parts,
)

_CALL_OPERANDS = {"solve": 2}


def reads(step: Step) -> set[int]:
    """The buffers whose contents a step uses."""
    match step:
        case RunKernel():
            return {step.buffers[i] for i in loaded(step.kernel)}
        case RunMatmul():
            return {step.x.buffer, step.y.buffer}
        case RunSweep() | RunBlocks():
            return {buffer for part in parts(step) for buffer in reads(part)}
        case RunCall():
            return set(step.buffers[: _CALL_OPERANDS.get(step.function, 1)])
        case RunCopy():
            return {step.source}
        case RunCheck():
            return {step.buffer}


def writes(step: Step) -> set[int]:
    """The buffers that a step fills, or part of which it writes."""
    match step:
        case RunKernel():
            pairs = zip(step.buffers, step.kernel.buffers, strict=True)
            return {number for number, buffer in pairs if buffer.written}
        case RunMatmul():
            return {step.out.buffer}
        case RunSweep() | RunBlocks():
            return {buffer for part in parts(step) for buffer in writes(part)}
        case RunCall():
            return set(step.buffers[_CALL_OPERANDS.get(step.function, 1) :])
        case RunCopy():
            return {step.target}
        case RunCheck():
            return set()


def loaded(kernel: Kernel) -> frozenset[int]:
    """The parameters of a kernel that it reads."""
    return frozenset(
        it.buffer
        for stage in kernel.stages
        for it in stage.body
        if isinstance(it, Load) or (isinstance(it, Store) and it.combine == "add")
    )


def renamed(step: Step, to: Sequence[int], labels: Sequence[str]) -> Step:
    """The step with buffer `to[b]` in place of `b`; parameters that become one are joined."""
    match step:
        case RunSweep():
            return RunSweep(tuple(_kernel(run, to, labels) for run in step.runs))
        case RunBlocks():
            return RunBlocks(_product(step.product, to), _kernel(step.kernel, to, labels))
        case RunKernel():
            return _kernel(step, to, labels)
        case RunMatmul():
            return _product(step, to)
    return _renamed(step, to)


def _renamed(step: RunCall | RunCopy | RunCheck, to: Sequence[int]) -> Step:
    match step:
        case RunCall():
            return replace(step, buffers=tuple(to[b] for b in step.buffers))
        case RunCopy():
            return replace(step, source=to[step.source], target=to[step.target])
        case RunCheck():
            return RunCheck(to[step.buffer], step.number)


def _product(step: RunMatmul, to: Sequence[int]) -> RunMatmul:
    x, y, out = (_view(v, to) for v in (step.x, step.y, step.out))
    return replace(step, x=x, y=y, out=out)


def _view(view: MatrixView, to: Sequence[int]) -> MatrixView:
    return replace(view, buffer=to[view.buffer])


def may_overwrite(step: Step, source: int, target: int) -> bool:
    """Whether a step that writes `target` may have it in the memory of `source`, which it reads."""
    if isinstance(step, RunBlocks) and source in reads(step.product):
        return False  # the product reads its operands again for each block
    touching = [r for r in kernel_runs(step) if source in r.buffers or target in r.buffers]
    if len(touching) == 1:
        (run,) = touching
        if source in run.buffers and target in run.buffers:
            return same_place(run.kernel, run.buffers.index(source), run.buffers.index(target))
    return isinstance(step, RunCopy)


def _kernel(step: RunKernel, to: Sequence[int], labels: Sequence[str]) -> RunKernel:
    buffers = [to[b] for b in step.buffers]
    kept = list(dict.fromkeys(buffers))
    places = [kept.index(b) for b in buffers]
    old = step.kernel.buffers
    written = {buffer for buffer, b in zip(buffers, old, strict=True) if b.written}
    parameters = tuple(
        KernelBuffer(labels[b], old[buffers.index(b)].dtype, b in written) for b in kept
    )
    if len(kept) == len(buffers):
        return RunKernel(replace(step.kernel, buffers=parameters), tuple(buffers))
    stages = tuple(
        Stage(s.extents, tuple(_moved(it, places) for it in s.body)) for s in step.kernel.stages
    )
    moved = kernel_bytes(step.kernel.extents, stages)
    kernel = replace(step.kernel, buffers=parameters, stages=stages, bytes_moved=moved)
    return RunKernel(kernel, tuple(kept))


def _moved(it: Instruction, places: Sequence[int]) -> Instruction:
    return replace(it, buffer=places[it.buffer]) if isinstance(it, Load | Store) else it


def same_place(kernel: Kernel, source: int, target: int) -> bool:
    """Whether a kernel may write parameter `target` over `source`.

    It may if it reads each element of `source` at the place of the element that it writes, and not
    after that.
    """
    if kernel.buffers[source].dtype is not kernel.buffers[target].dtype:
        return False
    accesses = [
        (stage.extents, it)
        for stage in kernel.stages
        for it in stage.body
        if isinstance(it, Load | Store) and it.buffer in (source, target)
    ]
    last = next(i for i, (_, it) in enumerate(accesses) if it.buffer == target)
    place, store = accesses[last]
    if not isinstance(store, Store) or store.index.dynamic or store.combine != "set":
        return False
    before, after = accesses[:last], accesses[last + 1 :]
    return all(at == place and it.index == store.index for at, it in before) and all(
        it.buffer == target and isinstance(it, Load) for _, it in after
    )
