"""One element of each line, chosen by an index that is data: what `max`, losses and metrics need.

It is a comparison and a sum rather than a gather, so that it fuses with the softmax before it, and
its gradient is elementwise rather than a scatter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.primitives import create
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import movement as M
from ...compiler.primitives import reduce as R
from ..core import shape_of
from ..tape import apply
from .promotion import converted

if TYPE_CHECKING:
    from ..tensor import Tensor


def picked(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """`x[..., index, ...]` along a dimension, which disappears; a position outside gives 0.

    Args:
        x: any shape.
        index: integers of `x`'s shape without `axis`.
        axis: counted from the front.
    """
    chosen = apply(E.select, one_hot_along(index, axis, shape_of(x)), x, converted(0, x.dtype))
    return apply(R.reduce_sum, chosen, dims=(axis,))


def one_hot_along(index: Tensor, axis: int, shape: tuple[object, ...]) -> Tensor:
    """Whether each position along `axis` is the one that `index` (other dimensions) names."""
    rest = tuple(d for d in range(len(shape)) if d != axis)
    positions = apply(create.iota, dim=axis, dtype=index.dtype, shape=shape)
    return apply(E.eq, positions, apply(M.broadcast, index, dims=rest, shape=shape))
