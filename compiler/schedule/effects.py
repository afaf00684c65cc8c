"""What steps read and write, and steps with their buffers renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from .cost import kernel_bytes
from .loops import Instruction, Kernel, KernelBuffer, Load, Store
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


def reads(step: Step) -> set[int]:
    """The buffers whose contents a step uses."""
    match step:
        case RunKernel():
            return {step.buffers[i] for i in step.kernel.loaded}
        case RunMatmul():
            return {step.x.buffer, step.y.buffer}
        case RunSweep() | RunBlocks():
            return {buffer for part in parts(step) for buffer in reads(part)}
        case RunCall():
            return set(step.buffers[: step.operands])
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
            return set(step.buffers[step.operands :])
        case RunCopy():
            return {step.target}
        case RunCheck():
            return set()


class Renaming:
    """Steps with buffer `to[b]` in place of `b`; parameters that become one are joined."""

    def __init__(self, to: Sequence[int], labels: Sequence[str]) -> None:
        self._to, self._labels = to, labels
        self._kernels: dict[tuple[Kernel, tuple[int, ...]], Kernel] = {}

    def __call__(self, step: Step) -> Step:
        """The step with its buffers renamed."""
        match step:
            case RunSweep():
                return RunSweep(tuple(map(self._run, step.runs)))
            case RunBlocks():
                after, before = (k and self._run(k) for k in (step.after, step.before))
                return RunBlocks(_product(step.product, self._to), after, before)
            case RunKernel():
                return self._run(step)
            case RunMatmul():
                return _product(step, self._to)
        return _renamed(step, self._to)

    def _run(self, run: RunKernel) -> RunKernel:
        buffers = [self._to[b] for b in run.buffers]
        kept = list(dict.fromkeys(buffers))
        key = run.kernel, tuple(map(kept.index, buffers))
        if key not in self._kernels:
            self._kernels[key] = _joined(*key, [self._labels[b] for b in kept])
        return RunKernel(self._kernels[key], tuple(kept), run.sizes, run.locs)


def _joined(kernel: Kernel, places: Sequence[int], labels: Sequence[str]) -> Kernel:
    """The kernel with its parameters at other places, where several may become one."""
    written = {place for place, b in zip(places, kernel.buffers, strict=True) if b.written}
    parameters = tuple(
        KernelBuffer(label, kernel.buffers[places.index(i)].dtype, i in written)
        for i, label in enumerate(labels)
    )
    if len(labels) == len(places):
        return replace(kernel, buffers=parameters)
    stages = tuple(
        replace(s, body=tuple(_moved(it, places) for it in s.body)) for s in kernel.stages
    )
    moved = kernel_bytes(kernel.extents, stages)
    return replace(kernel, buffers=parameters, stages=stages, bytes_moved=moved)


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
    if isinstance(step, RunBlocks) and any(
        source in reads(part) for part in parts(step) if part is not step.after
    ):
        return False  # it is read again for the next block
    touching = [r for r in kernel_runs(step) if source in r.buffers or target in r.buffers]
    if len(touching) == 1:
        (run,) = touching
        if source in run.buffers and target in run.buffers:
            return same_place(run.kernel, run.buffers.index(source), run.buffers.index(target))
    return isinstance(step, RunCopy)


def _moved(it: Instruction, places: Sequence[int]) -> Instruction:
    return replace(it, buffer=places[it.buffer]) if isinstance(it, Load | Store) else it


@lru_cache(maxsize=1024)
def same_place(kernel: Kernel, source: int, target: int) -> bool:
    """Whether a kernel may write parameter `target` over `source`.

    It may if it reads each element of `source` at the place of the element that it writes, and not
    after that.
    """
    if kernel.buffers[source].dtype is not kernel.buffers[target].dtype:
        return False
    accesses = [
        ((stage.when, stage.extents), it)
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
