"""How a node reaches the values that it reads: through which movements, and from where.

Movement nodes compute nothing.  A consumer looks through a chain of them at the value behind (its
*source*), and what counts is how the consumer's points relate to the source's elements:

    same    element for element in row-major order (reshapes, unit dimensions): one loop serves both
    row     each element serves a run of points (a broadcast): a reduced value over its row
    other   another order, or a part (transpose, slice, flip)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..aval import Dim, Shape, size_of
from ..ir import Node, Value
from ..primitive import Gather, Movement, Reduction, Scatter
from ..primitive import Literal as Constant
from .indexing import keeps_order

Runs: TypeAlias = "tuple[tuple[Dim, bool], ...]"
Relation: TypeAlias = Literal["same", "row", "other"]


def runs_of(shape: Shape, axes: tuple[int, ...]) -> Runs:
    """Neighbouring dimensions joined: (elements, whether reduced), dimensions of size 1 left out.

    Two reductions with equal runs have the same rows, whatever the shapes: (B,T,C) over 2, (B*T,C)
    over 1.  A dimension of size 1 that is not reduced parts two that are, as it would if its size
    were not known: a reduction's order must not depend on that.
    """
    runs: list[tuple[Dim, bool]] = []
    parted = False
    for axis, size in enumerate(shape):
        reduced = axis in axes
        if size == 1:
            parted |= not reduced
        elif runs and runs[-1][1] == reduced and not (reduced and parted):
            runs[-1] = (runs[-1][0] * size, reduced)
        else:
            runs.append((size, reduced))
            parted = False
    return tuple(runs)


def is_over_lanes(shape: Shape, axes: tuple[int, ...]) -> bool:
    """Whether a reduction runs over lanes: over the last dimensions, if they are not of size 1."""
    axis = len(shape)
    while axis - 1 in axes:
        axis -= 1
    return size_of(shape[axis:]) != 1


@dataclass(frozen=True, slots=True)
class Access:
    """A source, and how the reader's points relate to its elements.

    Attributes:
        source: the value behind the movements; of a literal, the literal.
        relation: see the module.
        runs: for "row", the reader's space: the runs over which an element is repeated.
        via: the movement that spoils it, for "other".
        expands: whether elements are repeated.
    """

    source: Value
    relation: Relation = "same"
    runs: Runs = ()
    via: str = ""
    expands: bool = False


class Accesses:
    """Looks through movements; each value's answer is kept."""

    def __init__(self) -> None:
        self._known: dict[Value, Access] = {}

    def __call__(self, value: Value) -> Access:
        """The access that reading `value` in its own order is."""
        chain: list[Value] = []
        while value not in self._known and isinstance(value.node.prim.lowering, Movement):
            chain.append(value)
            value = value.node.operands[0]
        access = self._known.get(value) or Access(value)
        for moved in reversed(chain):
            access = self._known[moved] = _after(access, moved.node)
        return access

    def operand(self, node: Node, position: int) -> Access:
        """How `node` reads an operand, from a point of its result (a reduction: of its operand)."""
        access = self(node.operands[position])
        if isinstance(node.prim.lowering, Gather):
            rows = node.results[0].aval.shape
            return _row_of(access, node, rows) if position == 1 else _other(access, "take", False)
        if scatters_rows(node) and position == 1:
            return _row_of(access, node, node.operands[2].aval.shape)
        return access


def _after(access: Access, node: Node) -> Access:
    """The access of a movement's result, given its operand's."""
    if keeps_order(node):
        return access
    if node.prim.name != "broadcast":
        return _other(access, node.prim.name, access.expands)
    if access.relation == "same":
        return _spread(access, node.results[0].aval.shape, _expanded(node))
    return _other(access, "broadcast", True)


def _other(access: Access, via: str, expands: bool) -> Access:
    return Access(access.source, "other", (), access.via or via, expands)


def _spread(access: Access, shape: Shape, axes: tuple[int, ...]) -> Access:
    return Access(access.source, "row", runs_of(shape, axes), "broadcast", True)


def _expanded(node: Node) -> tuple[int, ...]:
    """The dimensions of a broadcast's result along which elements are repeated."""
    sizes = dict(zip(node.params["dims"], node.operands[0].aval.shape, strict=True))
    shape = node.results[0].aval.shape
    return tuple(a for a, size in enumerate(shape) if sizes.get(a, 1) != size)


def _row_of(access: Access, node: Node, shape: Shape) -> Access:
    """Positions are read as if they were broadcast over the rows taken or written, of `shape`."""
    index = node.operands[1].aval.shape
    if size_of(shape[len(index) :]) == 1:
        return access
    if access.relation == "same":
        return _spread(access, shape, tuple(range(len(index), len(shape))))
    return _other(access, node.prim.name, True)


def scatters_rows(node: Node) -> bool:
    """Whether a node writes rows of more than one number."""
    if not isinstance(node.prim.lowering, Scatter):
        return False
    return size_of(node.operands[0].aval.shape[1:]) not in (0, 1)


def is_movement(node: Node) -> bool:
    """Whether a node computes nothing, but has its operand's elements elsewhere."""
    return isinstance(node.prim.lowering, Movement)


def is_literal(node: Node) -> bool:
    """Whether a node's elements follow from their positions alone."""
    return isinstance(node.prim.lowering, Constant)


def is_unit_reduction(node: Node) -> bool:
    """Whether a reduction combines nothing: each result has one element behind it."""
    if not isinstance(node.prim.lowering, Reduction):
        return False
    shape = node.operands[0].aval.shape
    return all(shape[dim] == 1 for dim in node.params["dims"])


def is_reduction(node: Node) -> bool:
    """Whether a node combines elements."""
    return isinstance(node.prim.lowering, Reduction) and not is_unit_reduction(node)


def plain_root(value: Value) -> Value:
    """The value whose contiguous buffer is also `value`'s: behind reshapes and the like."""
    while is_movement(value.node) and keeps_order(value.node):
        value = value.node.operands[0]
    return value
