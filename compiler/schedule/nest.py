"""The loops of a kernel, and how they are cut where index maps need finer ones.

A kernel starts with one loop for each run of dimensions (`runs_of`): elementwise kernels with a
single one over all elements.  Where an index map needs `l // q` or `l % q`, the run is cut at q
into two loops, provided that the cuts of a run divide one another.  What cannot be cut is computed
in the kernel from the loop's variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..aval import Dim
from .access import Runs
from .indexing import Expr, Quotient, Remainder, exact, linear, loop, never_negative

REDUCTION_BLOCK = 64
"""A loop over lanes that reduces may be cut at multiples of this only: no back end has more partial
results, so each element goes to the same one as without the cut."""


@dataclass(frozen=True)
class Nest:
    """Loops over runs: first the outer ones, then those inside a stage.

    Attributes:
        runs: (elements, whether it is a loop of the stages), outermost first.
        cuts: for each run the strides of all but its innermost loop, ascending, each dividing the
            next.
        inner: whether the last run is reduced over lanes.
        whole: whether stages must have one loop (an argmax counts along it).
        extents: the loops' sizes, outer loops first.
        outer: how many loops are outer.
        placed: for each loop its run, and its stride inside the run.
    """

    runs: Runs
    cuts: tuple[tuple[Dim, ...], ...] = ()
    inner: bool = False
    whole: bool = False
    extents: tuple[Dim, ...] = field(init=False)
    outer: int = field(init=False)
    placed: tuple[tuple[int, Dim], ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.cuts:
            object.__setattr__(self, "cuts", ((),) * len(self.runs))
        loops = [(run, *pair) for run in self._order() for pair in self._loops(run)]
        object.__setattr__(self, "placed", tuple((run, stride) for run, stride, _ in loops))
        object.__setattr__(self, "extents", tuple(extent for _, _, extent in loops))
        outer = sum(not self.runs[run][1] for run, _, _ in loops)
        object.__setattr__(self, "outer", outer)

    @property
    def empty(self) -> bool:
        """Whether there is no point at all; points have no numbers then, but rows may have."""
        return any(size == 0 for size, _ in self.runs)

    def _order(self) -> list[int]:
        return sorted(range(len(self.runs)), key=lambda run: self.runs[run][1])

    def _loops(self, run: int) -> Iterator[tuple[Dim, Dim]]:
        """(stride inside the run, extent) of a run's loops, outermost first."""
        size = self.runs[run][0]
        for stride in reversed((1, *self.cuts[run])):
            extent = exact(size, stride)
            assert extent is not None, f"cut {stride} does not divide {size}"
            yield stride, extent
            size = stride

    # --- points -----------------------------------------------------------------------------------

    def point(self) -> Expr:
        """The number of the point among all points of the space."""
        return self._number([True] * len(self.runs))

    def row(self) -> Expr:
        """The number of the outer point among the outer points."""
        return self._number([not inside for _, inside in self.runs])

    def column(self) -> Expr:
        """The number of the point among the points of its row."""
        return self._number([inside for _, inside in self.runs])

    def _number(self, counted: list[bool]) -> Expr:
        step: Dim = 1
        steps: dict[int, Dim] = {}
        for run in reversed(range(len(self.runs))):
            if counted[run]:
                steps[run] = step
                step = step * self.runs[run][0]
        placed = enumerate(self.placed)
        return linear((loop(i), steps[run] * stride) for i, (run, stride) in placed if run in steps)

    # --- cuts -------------------------------------------------------------------------------------

    def cut(self, wanted: Iterable[tuple[int, Dim]]) -> Nest | None:
        """The nest with loops cut as (loop, at) asks, as far as may be; None if nothing can."""
        cuts = list(self.cuts)
        for number, at in wanted:
            run, stride = self.placed[number]
            chain = _insert(cuts[run], stride * at, self.runs[run][0])
            if chain is not None and self._may_cut(run, chain):
                cuts[run] = chain
        return replace(self, cuts=tuple(cuts)) if tuple(cuts) != self.cuts else None

    def _may_cut(self, run: int, chain: tuple[Dim, ...]) -> bool:
        if not self.runs[run][1]:
            return True
        if self.whole:
            return False
        over_lanes = self.inner and run == len(self.runs) - 1
        return not over_lanes or exact(chain[0], REDUCTION_BLOCK) is not None


def _insert(chain: tuple[Dim, ...], cut: Dim, size: Dim) -> tuple[Dim, ...] | None:
    """The chain of divisors with one more, or None if it does not fit or is there already."""
    if cut in (0, 1) or cut == size or cut in chain or exact(size, cut) is None:
        return None
    below = tuple(c for c in chain if exact(cut, c) is not None)
    above = chain[len(below) :]
    if chain[: len(below)] != below or any(exact(c, cut) is None for c in above):
        return None
    return (*below, cut, *above)


def wanted_cuts(expr: Expr, by: Dim) -> Iterator[tuple[int, Dim]]:
    """The cuts (loop, at) that would make `expr // by` linear."""
    for atom, coefficient in expr.terms:
        ratio = exact(by, coefficient)
        if ratio is None:
            continue
        if never_negative(ratio * -1):  # a loop that runs backwards is cut at the same places
            ratio = ratio * -1
        if isinstance(atom, int):
            yield atom, ratio
        elif isinstance(atom, Quotient):
            yield from wanted_cuts(atom.expr, atom.by * ratio)
            yield from wanted_cuts(atom.expr, atom.by)
        elif isinstance(atom, Remainder):
            yield from wanted_cuts(atom.expr, ratio)
            yield from wanted_cuts(atom.expr, atom.by)
