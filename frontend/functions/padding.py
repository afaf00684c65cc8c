"""Borders around tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...compiler.aval import Dim
from ...compiler.primitives import movement as M
from ..core import shape_of
from ..create import filled
from ..tape import apply
from .labels import named
from .shape import window

if TYPE_CHECKING:
    from ..tensor import Tensor


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """A border around the last dimensions.

    `pad`: for the last dimension how much before and behind, then for the one before it, and so
    on; negative numbers cut off.

    `value`: what the border holds; 0 unless given.

    Raises:
        NotImplementedError: the mode is not "constant".
    """
    if mode != "constant":
        raise NotImplementedError(f"pad: mode {mode!r} is not implemented")
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pad) > 2 * input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(pad)} and input of dimension {input.ndim}"
        )
    before, behind = [0] * input.ndim, [0] * input.ndim
    for place_, (first, last) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        before[-1 - place_], behind[-1 - place_] = first, last
    return named(
        _bordered(_cropped(input, before, behind), before, behind, value or 0), "ConstantPadNd"
    )


def _cropped(x: Tensor, before: Sequence[int], behind: Sequence[int]) -> Tensor:
    if min((*before, *behind), default=0) >= 0:
        return x
    bounds = zip(before, behind, shape_of(x), strict=True)
    ranges: dict[int, tuple[Dim, Dim, int]] = {
        d: (max(-a, 0), size + min(b, 0), 1) for d, (a, b, size) in enumerate(bounds)
    }
    return window(x, ranges)


def _bordered(x: Tensor, before: Sequence[int], behind: Sequence[int], value: float) -> Tensor:
    bounds = zip(before, behind, shape_of(x), strict=True)
    shape = tuple(max(a, 0) + size + max(b, 0) for a, b, size in bounds)
    start = tuple(max(a, 0) for a in before)
    base = filled(shape, value, x.dtype)
    return apply(M.set_slice, base, x, start=start, step=(1,) * x.ndim)
