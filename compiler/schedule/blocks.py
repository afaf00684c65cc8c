"""How a product and the kernel that follows it take turns: in blocks that stay in the cache.

    for block in blocks:  the product's rows of the block;  the kernel's steps that read them

The kernel's first loop goes through the product's elements in order, so that each of its steps has
its own run of rows.  How many rows a block has follows from shapes alone, and changes no result.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..aval import Dim, size_of
from ..target import CHUNK
from .cost import nominal
from .indexing import exact
from .program import RunKernel, RunMatmul

BLOCK_BYTES = 1 << 19
"""Bytes of the product in a block: a part of the second cache, which holds operands, too."""

FEWEST_ROWS, MOST_ROWS = 128, 640
"""Rows of one matrix in a block.  A product packs its second operand once for each block, which the
fewer rows do not make up for; the more are for rows so long that no block would stay in the cache.
"""


@dataclass(frozen=True)
class Blocks:
    """Block i has the units from i*block up to (i + 1)*block.

    Attributes:
        units: how many there are.
        block: units in a block.
        items: matrices of the batch (or rows, where there is one matrix) in a unit.
        steps: steps of the kernel's first loop in a unit.
    """

    units: Dim
    block: int
    items: Dim
    steps: Dim


def blocks_of(product: RunMatmul, run: RunKernel) -> Blocks:
    """The blocks of a product and its kernel: a single one where their loops do not match."""
    items = size_of(product.batch) if product.batch else product.rows
    steps = run.size(run.kernel.extents[0]) if run.kernel.extents else 1
    per_item, per_step = exact(steps, items), exact(items, steps)
    if per_item is not None:
        units, items, steps = items, 1, per_item
    elif per_step is not None:
        units, items, steps = steps, per_step, 1
    else:
        return Blocks(1, 1, items, steps)
    return Blocks(units, _units_in_block(product, run, items), items, steps)


def _units_in_block(product: RunMatmul, run: RunKernel, items: Dim) -> int:
    rows = max(1, nominal(items * product.rows if product.batch else items))
    line = max(1, nominal(product.columns)) * product.dtype.itemsize
    count = max(1, BLOCK_BYTES // (rows * line))
    if not product.batch and rows * count < FEWEST_ROWS:
        count = -(-MOST_ROWS // rows)
    first_is_in_lanes = run.kernel.lanes == "outer" and len(run.kernel.extents) == 1
    return -(-count // CHUNK) * CHUNK if first_is_in_lanes else count
