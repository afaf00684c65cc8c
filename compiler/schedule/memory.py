"""`place`: which memory each value gets, and the finished program.

Steps arrive over *cells*: the values that need memory, and a few copies of them.  A cell's home is
an input's memory, a fresh output's, or a slot of the arena for as long as it lives.  Cells share a
home where one dies as the next is written at the same place.  A donated output is written straight
into its input's memory if nothing reads the input later and no check comes later; otherwise it
lives in a temporary and is copied when everything else is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..aval import Aval
from .access import plain_root
from .arena import Life, assign_slots
from .blocks import blocks_of
from .effects import Renaming, may_overwrite, reads, writes
from .loops import Kernel
from .lowering import Lowered
from .order import order
from .program import (
    Buffer,
    Program,
    RunBlocks,
    RunCheck,
    RunCopy,
    RunKernel,
    RunSweep,
    Step,
    kernel_runs,
)
from .sharing import share
from .sweeps import parted


def place(lowered: Lowered) -> Program:
    """Orders the steps of a lowered program and gives every value memory."""
    cells = Cells(lowered)
    steps = [*cells.first, *order(lowered.steps, cells.donated), *cells.last]
    homes = _Homes(cells, steps)
    return _program(lowered, homes, steps)


class Cells:
    """What needs memory, and the copies that outputs need.

    Attributes:
        avals, names: of each cell; the first are the inputs.
        outputs: the cell of each fresh output.
        donated: for the cell of a donated output the input that it may overwrite.
        first, last: copies before and after all other steps.
    """

    def __init__(self, lowered: Lowered) -> None:
        graph = lowered.plan.graph
        self.avals = [v.aval for v in lowered.values]
        for step in lowered.steps:
            if isinstance(step, RunBlocks) and step.before is not None:
                shape = blocks_of(step).block, step.product.x.leading
                self.avals[step.product.x.buffer] = Aval(step.product.dtype, shape)
        self.names = [lowered.names[v] for v in lowered.values]
        self.inputs = len(graph.inputs)
        self.outputs: dict[int, int] = {}
        self.donated: dict[int, int] = {}
        self.first: list[Step] = []
        self.last: list[Step] = []
        roots = [lowered.number(plain_root(v)) for v in graph.outputs]
        for number, (root, target) in enumerate(zip(roots, graph.donations, strict=True)):
            if target is None:
                self._fresh(number, root, graph.outputs[number].aval)
        moved = {t for r, t in zip(roots, graph.donations, strict=True) if t not in (None, r)}
        for root, target in zip(roots, graph.donations, strict=True):
            if target is not None and target != root:
                self._donate(root, target, root in moved)

    def _new(self, aval: Aval, name: str) -> int:
        self.avals.append(aval)
        self.names.append(name)
        return len(self.avals) - 1

    def _fresh(self, number: int, root: int, aval: Aval) -> None:
        """An output that the caller gets in memory of its own."""
        if root >= self.inputs and root not in self.outputs.values():
            self.outputs[number] = root
            return
        copy = self.outputs[number] = self._new(aval, self.names[root])
        (self.first if root < self.inputs else self.last).append(RunCopy(root, copy))

    def _donate(self, root: int, target: int, is_overwritten: bool) -> None:
        """An output that takes an input's memory; `is_overwritten`: `root` itself changes."""
        if root >= self.inputs and root not in self.outputs.values() and root not in self.donated:
            self.donated[root] = target
            return
        if is_overwritten:
            saved = self._new(self.avals[root], self.names[root])
            self.first.append(RunCopy(root, saved))
            root = saved
        self.last.append(RunCopy(root, target))


@dataclass
class _Span:
    """The steps that first write a cell, and last use it."""

    start: int
    end: int


class _Homes:
    """Where each cell lives.

    Attributes:
        fixed: the input (as its number) or the fresh output (as -1 - its number) whose memory a
            cell has.
        shared: the cell whose memory a cell has.
    """

    def __init__(self, cells: Cells, steps: list[Step]) -> None:
        self.cells, self.steps = cells, steps
        self.reads = [reads(s) for s in steps]
        self.writes = [writes(s) for s in steps]
        self.spans = self._spans()
        self.fixed = {i: i for i in range(cells.inputs)}
        self.fixed |= {cell: -1 - number for number, cell in cells.outputs.items()}
        self.shared: dict[int, int] = {}
        self._donate()
        self._share()

    def _spans(self) -> dict[int, _Span]:
        spans: dict[int, _Span] = {}
        for i in range(len(self.steps)):
            for cell in sorted(self.reads[i] | self.writes[i]):
                spans.setdefault(cell, _Span(i, i)).end = i
        return spans

    # --- donated inputs ---------------------------------------------------------------------------

    def _donate(self) -> None:
        """Puts donated outputs into their inputs' memory, or a copy to it at the end."""
        readers: dict[int, list[int]] = {}
        for i, read in enumerate(self.reads):
            for cell in read:
                readers.setdefault(cell, []).append(i)
        checks = [i for i, s in enumerate(self.steps) if isinstance(s, RunCheck)]
        for cell, target in self.cells.donated.items():
            start = self.spans[cell].start
            is_late = not checks or checks[-1] < start
            if is_late and all(
                self._is_done(i, start, target, cell) for i in readers.get(target, ())
            ):
                self.fixed[cell] = target
            else:
                self._copy_at_end(cell, target)

    def _is_done(self, reader: int, start: int, source: int, target: int) -> bool:
        """Whether step `reader` has read the input before step `start` overwrites it."""
        step = self.steps[reader]
        return reader < start or (reader == start and may_overwrite(step, source, target))

    def _copy_at_end(self, cell: int, target: int) -> None:
        self.steps.append(RunCopy(cell, target))
        self.reads.append({cell})
        self.writes.append({target})
        self.spans[cell].end = len(self.steps) - 1
        self.spans.setdefault(target, _Span(0, 0)).end = len(self.steps) - 1

    # --- sharing ----------------------------------------------------------------------------------

    def _share(self) -> None:
        """Gives a result the memory of an operand that dies as it is written."""
        for i, step in enumerate(self.steps):
            if isinstance(step, RunKernel | RunSweep | RunBlocks | RunCopy):
                for cell in sorted(self.writes[i]):
                    if self.spans[cell].start == i and self.fixed.get(cell, -1) < 0:
                        self._share_one(i, cell)

    def _share_one(self, number: int, cell: int) -> None:
        for operand in sorted(self.reads[number] - {cell}):
            if operand in self.fixed or operand in self.shared:
                continue
            avals = self.cells.avals[operand], self.cells.avals[cell]
            same_size = avals[0].nbytes == avals[1].nbytes and avals[0].dtype is avals[1].dtype
            dies = self.spans[operand].end == number
            if dies and same_size and may_overwrite(self.steps[number], operand, cell):
                self.shared[operand] = cell
                return

    def owner(self, cell: int) -> int:
        """The cell whose home a cell has."""
        while cell in self.shared:
            cell = self.shared[cell]
        return cell

    def temporaries(self) -> tuple[list[int], list[Life]]:
        """The cells that need a slot of the arena, and how long."""
        lives: dict[int, _Span] = {}
        for cell, span in self.spans.items():
            owner = self.owner(cell)
            if owner not in self.fixed:
                life = lives.setdefault(owner, _Span(span.start, span.end))
                life.start, life.end = min(life.start, span.start), max(life.end, span.end)
        cells = sorted(lives, key=lambda c: (lives[c].start, c))
        sizes = [self.cells.avals[c].nbytes for c in cells]
        pairs = zip(cells, sizes, strict=True)
        return cells, [Life(lives[c].start, lives[c].end, size) for c, size in pairs]


def _program(lowered: Lowered, homes: _Homes, steps: list[Step]) -> Program:
    """The program on final buffers: inputs, fresh outputs, temporaries."""
    graph, cells = lowered.plan.graph, homes.cells
    buffers = [Buffer(cells.names[i], v.aval, "input", i) for i, v in enumerate(graph.inputs)]
    places = {i: i for i in range(len(buffers))}
    for number, cell in cells.outputs.items():
        places[-1 - number] = len(buffers)
        buffers.append(Buffer(cells.names[cell], graph.outputs[number].aval, "output", number))
    temporaries, lives = homes.temporaries()
    slots, sizes = assign_slots(lives)
    slot_of = dict(zip(temporaries, slots, strict=True))
    temporary_place: dict[int, int] = {}
    for cell in temporaries:
        temporary_place[cell] = len(buffers)
        buffers.append(Buffer(cells.names[cell], cells.avals[cell], "temp", slot_of[cell]))

    def buffer(cell: int) -> int:
        owner = homes.owner(cell)
        return places[homes.fixed[owner]] if owner in homes.fixed else temporary_place[owner]

    to = [buffer(c) if c in homes.spans or c in homes.fixed else 0 for c in range(len(cells.avals))]
    labels = [b.name for b in buffers]
    final = list(map(Renaming(to, labels), steps))
    final = [s for s in final if not (isinstance(s, RunCopy) and s.source == s.target)]
    return Program(
        graph.name,
        tuple(v.aval for v in graph.inputs),
        tuple(v.aval for v in graph.outputs),
        graph.donations,
        tuple(buffers),
        tuple(sizes),
        tuple(_named(_shared(final))),
        tuple(c.message for c in graph.checks),
        graph.symbols,
    )


def _shared(steps: list[Step]) -> list[Step]:
    """The steps with kernels shared, and sweeps of one kernel each."""
    shared = _with_runs(steps, share([run for step in steps for run in kernel_runs(step)]))
    return [s for step in shared for s in (parted(step) if isinstance(step, RunSweep) else [step])]


def _with_runs(steps: list[Step], runs: list[RunKernel]) -> list[Step]:
    """The steps with other runs, in order, for those that they have."""
    rest = iter(runs)
    result: list[Step] = []
    for step in steps:
        match step:
            case RunKernel():
                result.append(next(rest))
            case RunSweep():
                result.append(RunSweep(tuple(next(rest) for _ in step.runs)))
            case RunBlocks():
                before = step.before and next(rest)
                result.append(RunBlocks(step.product, step.after and next(rest), before))
            case _:
                result.append(step)
    return result


def _named(steps: list[Step]) -> list[Step]:
    """Equal kernels made one, with a name that is unique and the lines of its first run."""
    named: dict[Kernel, Kernel] = {}
    taken: dict[str, int] = {}
    runs: list[RunKernel] = []
    for run in (run for step in steps for run in kernel_runs(step)):
        kernel = named.get(run.kernel)
        if kernel is None:
            stem = run.kernel.name
            taken[stem] = count = taken.get(stem, 0) + 1
            name = stem if count == 1 else f"{stem}_{count}"
            kernel = named[run.kernel] = replace(run.kernel, name=name, locs=run.locs)
        runs.append(replace(run, kernel=kernel))
    return _with_runs(steps, runs)
