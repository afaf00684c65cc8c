"""Einstein's summation: sums of products, written as subscripts."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...compiler.aval import Dim, size_of
from ...compiler.primitives import linalg as L
from ...compiler.primitives import reduce as R
from ..core import shape_of
from ..tape import apply
from .labels import named
from .products import require_alike
from .promotion import broadcast_shapes
from .reduce import reduced
from .shape import diagonal, expand, permute, reshape

if TYPE_CHECKING:
    from ..tensor import Tensor


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products over subscripts that the result lacks: `einsum("bij,bjk->bik", x, y)`.

    Operands are multiplied from left to right, each pair as one batched matrix product.

    Raises:
        RuntimeError: the subscripts do not fit the operands.
    """
    tensors = list(operands[0]) if isinstance(operands[0], (list, tuple)) else list(operands)
    inputs, output = _parse(equation, tensors)
    sizes = _sizes(inputs, tensors)
    result, known = _prepared(tensors[0], inputs[0], sizes)
    for position in range(1, len(tensors)):
        later = {*output, *"".join(inputs[position + 1 :])}
        following, names = _prepared(tensors[position], inputs[position], sizes)
        result, known = _contract(result, known, following, names, later)
    result, known = _summed(result, known, set(output))
    order = [known.index(c) for c in output]
    return named(permute(result, *order) if order != sorted(order) else result, "View")


def _parse(equation: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    """The operands' and the result's subscripts, an ellipsis replaced by letters of its own."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        which = "more" if len(tensors) > len(terms) else "fewer"
        raise RuntimeError(
            f"einsum(): {which} operands were provided than specified in the equation"
        )
    free = [c for c in string.ascii_letters if c not in equation]
    widest = max(t.ndim - len(s.replace("...", "")) for s, t in zip(terms, tensors, strict=True))
    dots = "".join(free[: max(widest, 0)])
    inputs = [_expanded(s, t, dots, i) for i, (s, t) in enumerate(zip(terms, tensors, strict=True))]
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        right = "..." + "".join(c for c in sorted(letters) if letters.count(c) == 1)
    output = right.replace("...", dots if "..." in left else "")
    for c in output:
        if c not in "".join(inputs):
            raise RuntimeError(
                f"einsum(): output subscript {c} does not appear in the equation for any input "
                "operand"
            )
    return inputs, output


def _expanded(subscripts: str, x: Tensor, dots: str, operand: int) -> str:
    named_dims = len(subscripts.replace("...", ""))
    if "..." in subscripts:
        hidden = x.ndim - named_dims
        return subscripts.replace("...", dots[len(dots) - hidden :] if hidden else "")
    if named_dims != x.ndim:
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({named_dims}) does not match the "
            f"number of dimensions ({x.ndim}) for operand {operand} and no ellipsis was given"
        )
    return subscripts


def _sizes(inputs: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, Dim]:
    sizes: dict[str, Dim] = {}
    for operand, (subscripts, x) in enumerate(zip(inputs, tensors, strict=True)):
        for c, size in zip(subscripts, shape_of(x), strict=True):
            try:
                (sizes[c],) = broadcast_shapes((sizes.get(c, 1),), (size,))
            except RuntimeError:
                raise RuntimeError(
                    f"einsum(): subscript {c} has size {size} for operand {operand} which does not "
                    f"broadcast with previously seen size {sizes[c]}"
                ) from None
    return sizes


def _prepared(x: Tensor, subscripts: str, sizes: dict[str, Dim]) -> tuple[Tensor, str]:
    """An operand of full sizes, with each subscript once: of a repeated one the diagonal."""
    shape = tuple(sizes[c] for c in subscripts)
    if shape != shape_of(x):
        x = expand(x, shape)
    while len(set(subscripts)) < len(subscripts):
        c = next(c for c in subscripts if subscripts.count(c) > 1)
        first, second = subscripts.index(c), subscripts.rindex(c)
        x = diagonal(x, 0, first, second)
        subscripts = (
            subscripts[:first] + subscripts[first + 1 : second] + subscripts[second + 1 :] + c
        )
    return x, subscripts


def _summed(x: Tensor, known: str, needed: set[str]) -> tuple[Tensor, str]:
    """Dimensions that nobody needs any more summed away."""
    dims = tuple(i for i, c in enumerate(known) if c not in needed)
    if not dims:
        return x, known
    return reduced(R.reduce_sum, x, dims), "".join(c for c in known if c in needed)


def _contract(x: Tensor, a: str, y: Tensor, b: str, later: set[str]) -> tuple[Tensor, str]:
    """Two operands as one: a batched matrix product over the subscripts that no one needs later."""
    x, a = _summed(x, a, later | set(b))
    y, b = _summed(y, b, later | set(a))
    batch = [c for c in a if c in b and c in later]
    inner = [c for c in a if c in b and c not in later]
    rows = [c for c in a if c not in b]
    columns = [c for c in b if c not in a]
    sizes = dict(zip(a + b, (*shape_of(x), *shape_of(y)), strict=True))

    def count(letters: Sequence[str]) -> Dim:
        return size_of(sizes[c] for c in letters)

    outer = tuple(sizes[c] for c in batch)
    left = reshape(
        permute(x, *map(a.index, (*batch, *rows, *inner))), (*outer, count(rows), count(inner))
    )
    right = reshape(
        permute(y, *map(b.index, (*batch, *inner, *columns))),
        (*outer, count(inner), count(columns)),
    )
    require_alike(left, right)
    product = apply(L.matmul, left, right)
    letters = [*batch, *rows, *columns]
    return reshape(product, tuple(sizes[c] for c in letters)), "".join(letters)
