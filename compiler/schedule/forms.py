"""Forms: what two groups must share for one kernel to serve both.

The layers of a network are groups that differ in nothing but the values that they read and write.
A group's *form* is what it does with values that are only numbers: first come, first numbered.
Groups of one form are written once.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from ..ir import Node, Value
from .access import is_literal, is_movement
from .plan import Group


class Form(NamedTuple):
    """What a group does.

    Attributes:
        key: equal for groups of one form.
        values: for each value that it meets the number that the key has for it.
    """

    key: object
    values: dict[Value, int]


def form_of(group: Group, stored: AbstractSet[Value]) -> Form:
    """The form of a group that is one kernel; `stored` are the values in memory."""
    values: dict[Value, int] = {}
    parts = tuple(_parts(group, stored, values))
    stores = tuple([values[v] for v in group.stores])
    return Form((group.shape, group.reduced, group.inner, parts, stores), values)


def _parts(group: Group, stored: AbstractSet[Value], values: dict[Value, int]) -> Iterator[object]:
    """What is read, and what is done to it, operands first."""
    stack = [*reversed(group.nodes)]
    while stack:
        node = stack[-1]
        if node.results[0] in values:
            stack.pop()
            continue
        unknown = [o for o in node.operands if o not in values]
        inside = [o.node for o in unknown if not _is_read(o, group, stored)]
        if inside:
            stack += reversed(inside)
            continue
        for operand in unknown:
            if operand not in values:
                values[operand] = len(values)
                yield operand.aval.dtype, operand.aval.shape
        yield node.signature, tuple([values[o] for o in node.operands]), _role(node, group)
        values.update((result, len(values)) for result in node.results)


def _is_read(value: Value, group: Group, stored: AbstractSet[Value]) -> bool:
    """Whether a group finds a value in memory: what is behind movements, unless it is a literal."""
    if value not in stored or value.node in group.members:
        return value.is_input
    return not (is_movement(value.node) or is_literal(value.node))


def _role(node: Node, group: Group) -> tuple[bool, ...]:
    return tuple([node in part for part in (group.members, group.rows, group.moved, group.columns)])
