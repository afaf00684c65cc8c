"""How many lanes a kernel handles at a time: the sizes of its blocks."""

from __future__ import annotations

from ..schedule.loops import Compute, Index, Kernel, Reduce
from ..target import LANES
from .flatten import indices


def lanes_for(extent: int) -> int:
    """The least power of two of lanes, not below LANES, that holds `extent` elements."""
    return max(LANES, 1 << (extent - 1).bit_length())


def block_width(kernel: Kernel) -> int:
    """Lanes of a block of outer points (or of elements, where nothing is reduced).

    Measured: two vectors at a time are 5 to 15 % faster than one, and four no faster than two, but
    for sums over rows, which would wait for each other.  A gather is text for each lane.
    """
    if any(i.dynamic or _is_strided(kernel, i) for i in indices(kernel)):
        return LANES
    body = [i for stage in kernel.stages_for("each") for i in stage.body]
    reduces = kernel.lanes == "outer" and any(isinstance(i, Reduce) for i in body)
    is_long = any(isinstance(i, Compute) and i.primitive in _TRANSCENDENTAL for i in body)
    lanes = LANES * (4 if reduces and not is_long else 2)
    return max(LANES, lanes * 32 // max((32, *(i.dtype.bits for i in body))))


def _is_strided(kernel: Kernel, where: Index) -> bool:
    lane = where.coefficients[len(kernel.extents) - 1 :][:1] if kernel.extents else ()
    return kernel.lanes == "outer" and any(c not in (0, 1, -1) for c in lane)


_TRANSCENDENTAL = frozenset(
    {"exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "sigmoid", "erf", "pow"}
)
