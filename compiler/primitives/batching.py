"""Batching rules: a primitive on one dimension more, the first.

A rule is `(size, node, operands) -> results`.  `node` is the application to batch and `operands`
are its operands in the batched graph: one is *batched* where it has a dimension more than the
node's own operand, the first, of `size`; at least one is.  The law: slice i of each result is what
the node computes from slice i of the batched operands and from the others as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..aval import Dim
from ..ir import Node, Value

Results: TypeAlias = "Sequence[Value]"
BatchRule: TypeAlias = "Callable[[Dim, Node, Sequence[Value]], Results]"


def is_batched(operand: Value, before: Value) -> bool:
    """Whether a value of the batched graph, which stands for `before`, has a batch dimension."""
    return operand.aval.ndim > before.aval.ndim


def spread(size: Dim, node: Node, operands: Sequence[Value]) -> list[Value]:
    """The operands, those that are not batched repeated along a batch dimension."""
    pairs = zip(operands, node.operands, strict=True)
    return [x if is_batched(x, before) else repeated(size, x) for x, before in pairs]


def repeated(size: Dim, x: Value) -> Value:
    """`x` repeated along a new first dimension."""
    from .movement import broadcast  # here, since movement's own rules are made of these helpers

    dims = tuple(range(1, x.aval.ndim + 1))
    return broadcast(x, dims=dims, shape=(size, *x.aval.shape))


def by_params(change: Callable[..., dict[str, Any]]) -> BatchRule:
    """The rule of a primitive whose parameters alone speak of dimensions.

    All operands are batched; `change(size, **params)` gives the parameters for them.
    """

    def rule(size: Dim, node: Node, operands: Sequence[Value]) -> Results:
        params = {**node.params, **change(size, **node.params)}
        return node.prim.bind(*spread(size, node, operands), **params)

    return rule


elementwise = by_params(lambda size, **_: {})
"""Of primitives that treat each element, or each matrix of a batch, alike."""

along_dims = by_params(lambda size, *, dims: {"dims": tuple(d + 1 for d in dims)})
"""Of primitives with dimensions to reduce or to reverse."""


def moved(x: Value, source: int, target: int) -> Value:
    """`x` with one dimension moved to another place."""
    from .movement import transpose  # as above

    perm = [axis for axis in range(x.aval.ndim) if axis != source]
    perm.insert(target, source)
    return transpose(x, perm=tuple(perm))


def reshaped(x: Value, *shape: Dim) -> Value:
    """`x` in another shape."""
    from .movement import reshape  # as above

    return reshape(x, shape=shape)


def draw(size: Dim, node: Node, operands: Sequence[Value]) -> Results:
    """Of random primitives: one draw for each slice, one after another; the state has no slices."""
    shape: tuple[Dim, ...] = node.params["shape"]
    return node.prim.bind(*operands, **{**node.params, "shape": (size, *shape)})
