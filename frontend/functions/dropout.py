"""Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import shape_of
from ..create import filled
from ..inplace import assign
from .arithmetic import div, mul
from .conversion import cast
from .dtype_names import LEGACY_NAMES
from .random import draw_bernoulli

if TYPE_CHECKING:
    from ..tensor import Tensor


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Elements zeroed with probability `p`, the others scaled by 1 / (1 - p), in training only.

    Raises:
        ValueError: `p` is not a probability.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0 or 0 in shape_of(input):
        return input
    if not input.dtype.is_floating_point:
        raise RuntimeError(
            "result type Float can't be cast to the desired output type "
            f"{LEGACY_NAMES[input.dtype.long_name]}"
        )
    if p == 1:
        result = mul(input, filled((), 0, input.dtype))
    else:
        kept = cast(draw_bernoulli(1 - p, shape_of(input)), input.dtype)
        result = mul(input, div(kept, 1 - p))
    return assign(input, result) if inplace else result
