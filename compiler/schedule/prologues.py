"""Kernels that run by blocks of rows before the product that reads them: its *prologues*.

    for block in blocks:  the kernel's rows of the block;  the product's rows;  what follows it

So the operand never is in memory as a whole: a block of rows is, over and over.  But the product
packs its other operand once for each block, so that this pays only where that has few columns.

The kernel's rows must be the product's, and nothing else may read them.  So it can run as late as
the product does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from ..aval import Dim
from ..errors import WhyNot
from ..ir import Node, Value
from .access import plain_root
from .blocks import length_of, rows_before
from .effects import reads, writes
from .indexing import exact, never_negative
from .loops import Kernel, Store
from .lowering import Lowered
from .plan import Cut, FusionPlan
from .program import RunBlocks, RunKernel, RunMatmul, Step
from .unions import OPERAND
from .whole import whole_values

MARGIN = 2
"""Bytes to be saved for each that is packed again; measured, as the next two (decision 0004)."""

WORTH_WHILE = 8 << 20
"""Bytes to be saved at least: the operand would stay in the cache as a whole."""

SHORT = 384
"""Bytes of a row below which making rows in blocks costs more than it saves."""


class _Candidate(NamedTuple):
    """A kernel and the product that alone reads it, as numbers of steps."""

    kernel: int
    product: int


def join_prologues(lowered: Lowered) -> FusionPlan:
    """Joins kernels in `lowered.steps` to the products that read them; the plan says which."""
    why: dict[tuple[Value, Node], WhyNot | None] = {}
    joined: list[_Candidate] = []
    for found in _candidates(lowered):
        kernel, step = lowered.steps[found.kernel], lowered.steps[found.product]
        assert isinstance(kernel, RunKernel)
        product = step.product if isinstance(step, RunBlocks) else step
        assert isinstance(product, RunMatmul)
        edge = _edge(lowered, found)
        why[edge] = _why_not(product)
        if why[edge] is None:
            after = step.after if isinstance(step, RunBlocks) else None
            lowered.steps[found.product] = RunBlocks(product, after, kernel)
            joined.append(found)
    return _without(lowered, joined, why)


def _without(
    lowered: Lowered, joined: list[_Candidate], why: Mapping[tuple[Value, Node], WhyNot | None]
) -> FusionPlan:
    """Drops the steps of kernels that are part of another now."""
    plan, gone = lowered.plan, {found.kernel for found in joined}
    pairs = tuple((lowered.group[a], lowered.group[b]) for a, b in joined)
    lowered.group = [g for i, g in enumerate(lowered.group) if i not in gone]
    lowered.steps = [s for i, s in enumerate(lowered.steps) if i not in gone]
    verdicts = ((c, why.get((c.producer, c.consumer), c.why)) for c in plan.cuts)
    cuts = tuple(Cut(c.producer, c.consumer, w) for c, w in verdicts if w is not None)
    return replace(plan, cuts=cuts, prologues=pairs)


def _edge(lowered: Lowered, found: _Candidate) -> tuple[Value, Node]:
    (written,) = writes(lowered.steps[found.kernel])
    return lowered.values[written], lowered.plan.groups[lowered.group[found.product]].root


# --- which kernels could --------------------------------------------------------------------------


def _candidates(lowered: Lowered) -> Iterator[_Candidate]:
    readers: dict[int, list[int]] = {}
    writers: dict[int, list[int]] = {}
    for i, step in enumerate(lowered.steps):
        for found, values in ((readers, reads(step)), (writers, writes(step))):
            for value in values:
                found.setdefault(value, []).append(i)
    kept = whole_values(lowered.plan.graph, {})
    for i, step in enumerate(lowered.steps):
        product = step.product if isinstance(step, RunBlocks) else step
        if not isinstance(product, RunMatmul) or lowered.values[product.x.buffer] in kept:
            continue
        x = product.x.buffer
        made = writers.get(x, [])
        if (
            len(made) == 1
            and readers[x] == [i]
            and _fits(lowered, lowered.steps[made[0]], product, step)
        ):
            yield _Candidate(made[0], i)


def _fits(lowered: Lowered, kernel: Step, product: RunMatmul, step: Step) -> bool:
    """Whether a kernel makes rows of a product's left operand, one after the other.

    And nothing else: other results would be whole, and so would what it keeps for itself (a
    softmax: its exponentials).
    """
    if not isinstance(kernel, RunKernel) or len(writes(kernel)) > 1 or not kernel.kernel.extents:
        return False
    after = step.after if isinstance(step, RunBlocks) else None
    x, runs = product.x, [run for run in (kernel, after) if run is not None]
    is_alone = x.buffer not in {product.y.buffer, *(after.buffers if after else ())}
    is_by_rows = all(exact(length_of(run), product.rows) is not None for run in runs)
    size = lowered.values[x.buffer].aval.size
    has_all_rows = not (x.transposed or x.offset != 0 or product.batch)
    return (
        is_alone
        and is_by_rows
        and has_all_rows
        and x.leading * product.rows == size
        and _writes_in_order(kernel.kernel, size)
        and not _overwrites(lowered, kernel, step)
    )


def _writes_in_order(kernel: Kernel, size: Dim) -> bool:
    """Whether each step of the first loop writes the next elements of a value, which it fills."""
    for stage in kernel.stages:
        for it in (it for it in stage.body if isinstance(it, Store)):
            first, *others = it.index.coefficients
            is_plain = stage.when == "each" and it.combine == "set" and not it.index.dynamic
            in_order = it.index.offset == 0 and kernel.extents[0] * first == size
            if not (is_plain and in_order and all(map(never_negative, others))):
                return False
    return True


def _overwrites(lowered: Lowered, kernel: RunKernel, step: Step) -> bool:
    """Whether the product's step gives a result the memory of an input that the kernel reads."""
    graph, read = lowered.plan.graph, reads(kernel)
    written = {lowered.values[number] for number in writes(step)}
    return any(
        target in read and plain_root(value) in written
        for value, target in zip(graph.outputs, graph.donations, strict=True)
    )


# --- which kernels should -------------------------------------------------------------------------


def _why_not(product: RunMatmul) -> WhyNot | None:
    """Why blocks of rows would not pay."""
    rows, columns, inner = product.rows, product.columns, product.inner
    if not (isinstance(rows, int) and isinstance(columns, int) and isinstance(inner, int)):
        return WhyNot(f"{OPERAND}: whether blocks of rows would pay needs sizes that are known")
    if product.dtype.name not in ("f32", "f64"):
        return WhyNot(OPERAND)
    item = product.dtype.itemsize
    blocks = -(-rows // rows_before(product))
    saved, packed = 2 * rows * inner * item, 2 * (blocks - 1) * inner * columns * item
    if blocks < 2:
        return WhyNot(OPERAND)
    if inner * item < SHORT:
        return WhyNot(f"{OPERAND}: rows of {inner * item} bytes are too short for blocks of them")
    if saved >= max(WORTH_WHILE, MARGIN * packed):
        return None
    return WhyNot(f"{OPERAND}: blocks of rows would save {saved} bytes and pack {packed} again")
