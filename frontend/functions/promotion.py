"""Bringing operands together: PyTorch's dtype promotion and broadcasting, made explicit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...compiler import dtypes
from ...compiler.aval import Dim
from ...compiler.dtypes import DType
from ...compiler.primitives import elementwise as E
from ...compiler.primitives import movement as M
from ..context import current
from ..core import TensorBase, shape_of
from ..create import scalar_dtype
from ..frames import place
from ..tape import Operand, apply
from .sizes import is_one, same_size, stretches

if TYPE_CHECKING:
    from ..tensor import Tensor

Shape = tuple[Dim, ...]


def result_dtype(*operands: Operand) -> DType:
    """The dtype in which PyTorch computes on these operands.

    Tensors with dimensions decide; a 0-d tensor, and after it a number, counts only if its kind
    ranks higher.
    """
    tiers: list[DType | None] = [None, None, None]
    for operand in operands:
        tier, dtype = _tier(operand)
        known = tiers[tier]
        tiers[tier] = dtype if known is None else dtypes.promote(known, dtype)
    chosen: DType | None = None
    for candidate in tiers:
        if candidate is not None:
            chosen = candidate if chosen is None else dtypes.promote_weak(chosen, candidate)
    assert chosen is not None
    return chosen


def _tier(operand: Operand) -> tuple[int, DType]:
    if not isinstance(operand, TensorBase):
        return 2, scalar_dtype(operand)
    if operand.traced_aval is not None and operand.traced_aval.weak:
        return 2, dtypes.f32 if operand.dtype.is_floating_point else operand.dtype
    return (0 if operand.ndim else 1), operand.dtype


def converted(operand: Operand, dtype: DType) -> Operand:
    """An operand in the given dtype; numbers stay numbers, but integers wrap as PyTorch's do."""
    if isinstance(operand, TensorBase):
        same = operand.dtype is dtype and not (operand.traced_aval and operand.traced_aval.weak)
        return operand if same else apply(E.cast, operand, dtype=dtype)
    return dtypes.number(operand, dtype)


def broadcast_shapes(*shapes: Sequence[Dim]) -> Shape:
    """The shape that all of `shapes` broadcast to.

    Raises:
        RuntimeError: two sizes differ and neither is 1.
    """
    ndim = max(map(len, shapes))
    result: list[Dim] = [1] * ndim
    for shape in shapes:
        for axis, size in enumerate(shape, ndim - len(shape)):
            known = result[axis]
            if size == known or is_one(size):
                continue
            if is_one(known) or (not stretches(size, known) and same_size(known, 1)):
                result[axis] = size
            elif not stretches(size, known):
                raise RuntimeError(
                    f"The size of tensor a ({result[axis]}) must match the size of tensor b "
                    f"({size}) at non-singleton dimension {axis}{place()}"
                )
    return tuple(result)


def broadcast_to(x: Tensor, shape: Shape) -> Tensor:
    """`x` repeated to `shape`, explicitly."""
    own = shape_of(x)
    if own == shape:
        return x
    offset = len(shape) - len(own)
    return apply(M.broadcast, x, dims=tuple(range(offset, len(shape))), shape=shape)


def together(*operands: Operand, dtype: DType | None = None) -> tuple[Any, ...]:
    """The operands in one dtype and one shape; at least one is a tensor."""
    target = dtype or result_dtype(*operands)
    typed = [converted(o, target) for o in operands]
    tensors = [o for o in typed if isinstance(o, TensorBase)]
    shapes = [shape_of(t) for t in tensors]
    if shapes.count(shapes[0]) == len(shapes):
        return tuple(typed)
    shape = broadcast_shapes(*shapes)
    if _numpy_broadcasts(tensors):
        return tuple(typed)
    return tuple(broadcast_to(o, shape) if isinstance(o, TensorBase) else o for o in typed)


def _numpy_broadcasts(tensors: Sequence[TensorBase]) -> bool:
    """Whether nobody records the operation, so that NumPy's implicit broadcasting does."""
    mode = current()
    return mode.trace is None and not (mode.grad and any(t._requires_grad for t in tensors))
