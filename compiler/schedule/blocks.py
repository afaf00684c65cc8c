"""How a product and the kernels beside it take turns: in blocks that stay in the cache.

    for block in blocks:  steps of a kernel that make rows of its operand (if there is one before);
                          the product's rows of the block;  the steps of a kernel that read them

A kernel's first loop goes through the product's rows in order, so that each of its steps has its
own run of rows.  How many rows a block has follows from shapes alone, and changes no result.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..aval import Dim, size_of
from ..target import CHUNK
from .cost import nominal
from .indexing import exact
from .program import RunBlocks, RunKernel, RunMatmul, Simple, kernel_runs, parts

BLOCK_BYTES = 1 << 19
"""Bytes of the product in a block: a part of the second cache, which holds operands, too."""

MADE_BYTES = 5 << 19
"""Bytes of an operand in a block that a kernel makes: a part of the last cache."""

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
        counts: for each part what a unit has of it: steps of a kernel's first loop; matrices of a
            product's batch, or rows, where there is one matrix.
    """

    units: Dim
    block: int
    counts: tuple[Dim, ...]


def blocks_of(step: RunBlocks) -> Blocks:
    """The blocks of a product and its kernels: a single one where their loops do not match."""
    items = length_of(step.product)
    whole = tuple(map(length_of, parts(step)))
    for units in (items, *whole):
        counts = tuple(n for n in (exact(length, units) for length in whole) if n is not None)
        if len(counts) == len(whole):
            return Blocks(units, _units_in_block(step, exact(items, units) or 1), counts)
    return Blocks(1, 1, whole)


def length_of(part: Simple) -> Dim:
    """Steps of a kernel's first loop; matrices of a product, or rows, where there is one matrix."""
    if isinstance(part, RunKernel):
        return part.size(part.kernel.extents[0]) if part.kernel.extents else 1
    assert isinstance(part, RunMatmul)
    return size_of(part.batch) if part.batch else part.rows


def _units_in_block(step: RunBlocks, items: Dim) -> int:
    product = step.product
    if step.before is not None:
        return rows_before(product)
    rows = max(1, nominal(items * product.rows if product.batch else items))
    line = max(1, nominal(product.columns)) * product.dtype.itemsize
    count = max(1, BLOCK_BYTES // (rows * line))
    if not product.batch and rows * count < FEWEST_ROWS:
        count = -(-MOST_ROWS // rows)
    kernels = [run.kernel for run in kernel_runs(step)]
    first_is_in_lanes = any(k.lanes == "outer" and len(k.extents) == 1 for k in kernels)
    return -(-count // CHUNK) * CHUNK if first_is_in_lanes else count


def rows_before(product: RunMatmul) -> int:
    """Rows in a block that a kernel makes before the product reads them."""
    line = max(1, nominal(product.x.leading)) * product.dtype.itemsize
    return max(1, min(MADE_BYTES // line, MOST_ROWS) // CHUNK) * CHUNK
