"""Index arithmetic: where in a buffer the element lies that a kernel needs at a point of its loops.

A value's element is named by its *flat* index, its number in row-major order, as a linear
expression of the kernel's loops.  Reshaping therefore changes nothing, and so does an elementwise
operation; transposing, slicing, flipping and broadcasting split the flat index into one index a
dimension (`split`, by the dimension's size) and put it together again.  Loops may be too coarse for
that: one loop over B*C elements, whose `l // C` and `l % C` are needed.  These stay in the
expression as `Quotient` and `Remainder`, which cancel (`(l // C)*C + l % C = l`) or tell where to
cut the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ..aval import Dim, Shape, SymDim
from ..errors import IRError
from ..ir import Node


class Expr(NamedTuple):
    """`offset + sum(coefficient * atom)`, its terms in a fixed order."""

    offset: Dim
    terms: tuple[tuple[Atom, Dim], ...]


@dataclass(frozen=True, slots=True)
class Data:
    """A register: a position that is data."""

    register: int


@dataclass(frozen=True, slots=True)
class Quotient:
    """`expr // by`."""

    expr: Expr
    by: Dim


@dataclass(frozen=True, slots=True)
class Remainder:
    """`expr % by`."""

    expr: Expr
    by: Dim


Atom: TypeAlias = "int | Data | Quotient | Remainder"  # an int is a loop
ZERO = Expr(0, ())


def exact(a: Dim, b: Dim) -> Dim | None:
    """a / b if that is a size, whatever the symbols are."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    if a == b:
        return 1
    if isinstance(a, int):
        return 0 if a == 0 else None
    if b == 0:
        return None
    try:
        quotient = a // b
    except IRError:
        return None
    return quotient if quotient * b == a else None


def never_negative(dim: Dim) -> bool:
    """Whether a size cannot be below zero; false if that cannot be seen."""
    if isinstance(dim, SymDim):
        return all(coefficient >= 0 for _, coefficient in dim.terms)
    return dim >= 0


def linear(parts: Iterable[tuple[Expr, Dim]], offset: Dim = 0) -> Expr:
    """`offset + sum(factor * expr)`."""
    totals: dict[Atom, Dim] = {}
    for expr, factor in parts:
        if factor == 0:
            continue
        offset = offset + expr.offset * factor
        for atom, coefficient in expr.terms:
            totals[atom] = totals.get(atom, 0) + coefficient * factor
    return _normal(offset, totals)


def loop(number: int, coefficient: Dim = 1) -> Expr:
    """A loop's variable."""
    return Expr(0, ((number, coefficient),)) if coefficient != 0 else ZERO


def _normal(offset: Dim, totals: dict[Atom, Dim]) -> Expr:
    quotients = [a for a in totals if isinstance(a, Quotient)]
    while quotients:
        atom = quotients.pop()
        rest = Remainder(atom.expr, atom.by)
        factor = totals.get(rest)
        if factor is None or factor == 0 or totals[atom] != factor * atom.by:
            continue
        del totals[atom], totals[rest]
        offset = offset + atom.expr.offset * factor
        for inner, coefficient in atom.expr.terms:
            totals[inner] = totals.get(inner, 0) + coefficient * factor
        quotients = [a for a in totals if isinstance(a, Quotient)]
    terms = [t for t in totals.items() if t[1] != 0]
    return Expr(offset, tuple(sorted(terms, key=_order) if len(terms) > 1 else terms))


def _order(term: tuple[Atom, Dim]) -> tuple[int, str]:
    atom = term[0]
    return (atom, "") if isinstance(atom, int) else (1 << 30, repr(atom))


# --- ranges ---------------------------------------------------------------------------------------


def _largest(atom: Atom, extents: Sequence[Dim]) -> Dim | None:
    """The largest value of an atom (none is negative), if it is known."""
    if isinstance(atom, int):
        return extents[atom] - 1
    if isinstance(atom, Remainder):
        return atom.by - 1
    if isinstance(atom, Quotient):
        bounds = _range(atom.expr, extents)
        if bounds is not None and never_negative(bounds[0]):
            blocks = exact(bounds[1] + 1, atom.by)
            return None if blocks is None else blocks - 1
    return None


def _range(expr: Expr, extents: Sequence[Dim]) -> tuple[Dim, Dim] | None:
    """The least and the largest value over all points of the loops, if they are known."""
    low = high = expr.offset
    for atom, coefficient in expr.terms:
        top = _largest(atom, extents)
        if top is None:
            return None
        if never_negative(coefficient):
            high = high + coefficient * top
        elif never_negative(coefficient * -1):
            low = low + coefficient * top
        else:
            return None
    return low, high


def _is_below(expr: Expr, bound: Dim, extents: Sequence[Dim]) -> bool:
    """Whether 0 <= expr < bound at every point of the loops."""
    bounds = _range(expr, extents)
    return (
        bounds is not None and never_negative(bounds[0]) and never_negative(bound - 1 - bounds[1])
    )


def split(expr: Expr, by: Dim, extents: Sequence[Dim]) -> tuple[Expr, Expr]:
    """`expr // by` and `expr % by`."""
    if by == 1:
        return expr, ZERO
    if by == 0:  # of nothing: no such point is ever run, but it must not look like a fixed one
        return expr, expr
    high: list[tuple[Atom, Dim]] = []
    low: list[tuple[Atom, Dim]] = []
    for atom, coefficient in expr.terms:
        quotient = exact(coefficient, by)
        if quotient is None:
            low.append((atom, coefficient))
        else:
            high.append((atom, quotient))
    whole, rest = _split_offset(expr.offset, by)
    upper, lower = Expr(whole, tuple(high)), Expr(rest, tuple(low))
    if _is_below(lower, by, extents):
        return upper, lower
    carried = Expr(0, ((Quotient(lower, by), 1),))
    return linear([(upper, 1), (carried, 1)]), Expr(0, ((Remainder(lower, by), 1),))


def _split_offset(offset: Dim, by: Dim) -> tuple[Dim, Dim]:
    if isinstance(offset, int) and isinstance(by, int):
        return divmod(offset, by)
    quotient = exact(offset, by)
    return (0, offset) if quotient is None else (quotient, 0)


# --- flat indices and indices ---------------------------------------------------------------------


def strides(shape: Shape) -> tuple[Dim, ...]:
    """Elements from one index of each dimension to the next, row-major."""
    result: list[Dim] = []
    step: Dim = 1
    for size in reversed(shape):
        result.append(step)
        step = step * size
    return tuple(reversed(result))


def unflatten(flat: Expr, shape: Shape, extents: Sequence[Dim]) -> list[Expr]:
    """The index in each dimension of the element number `flat`."""
    indices: list[Expr] = [ZERO] * len(shape)
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    for axis in reversed(axes[1:]):
        flat, indices[axis] = split(flat, shape[axis], extents)
    if axes:
        indices[axes[0]] = flat
    return indices


def flatten(indices: Sequence[Expr], shape: Shape, offset: Dim = 0) -> Expr:
    """The number of the element at an index."""
    return linear(zip(indices, strides(shape), strict=True), offset)


def through(node: Node, flat: Expr, extents: Sequence[Dim]) -> Expr:
    """The element of a movement's operand that is element `flat` of its result."""
    if keeps_order(node):
        return flat
    indices = unflatten(flat, node.results[0].aval.shape, extents)
    shape = node.operands[0].aval.shape
    return _MAPS[node.prim.name](node.params, indices, shape)


def _broadcast(params: Any, indices: list[Expr], shape: Shape) -> Expr:
    sources = zip(params["dims"], shape, strict=True)
    return flatten([ZERO if size == 1 else indices[dim] for dim, size in sources], shape)


def _transpose(params: Any, indices: list[Expr], shape: Shape) -> Expr:
    perm = params["perm"]
    return flatten([indices[perm.index(axis)] for axis in range(len(perm))], shape)


def _slice(params: Any, indices: list[Expr], shape: Shape) -> Expr:
    steps, starts = strides(shape), params["start"]
    parts = [(i, s * k) for i, s, k in zip(indices, steps, params["step"], strict=True)]
    offset: Dim = 0
    for start, step in zip(starts, steps, strict=True):
        offset = offset + start * step
    return linear(parts, offset)


def _flip(params: Any, indices: list[Expr], shape: Shape) -> Expr:
    turned = [
        linear([(index, -1)], size - 1) if axis in params["dims"] and size != 1 else index
        for axis, (index, size) in enumerate(zip(indices, shape, strict=True))
    ]
    return flatten(turned, shape)


_MAPS = {"broadcast": _broadcast, "transpose": _transpose, "slice": _slice, "flip": _flip}


def keeps_order(node: Node) -> bool:
    """Whether a movement's result differs from its operand in shape only, not in the order."""
    shape, result = node.operands[0].aval.shape, node.results[0].aval.shape
    match node.prim.name:
        case "reshape":
            return True
        case "broadcast":
            kept = zip(shape, node.params["dims"], strict=True)
            sizes = {dim: size for size, dim in kept}
            return all(sizes.get(axis, 1) == size for axis, size in enumerate(result))
        case "slice":
            return shape == result
        case "transpose":
            moved = [p for p in node.params["perm"] if shape[p] != 1]
            return moved == sorted(moved)
        case "flip":
            return all(shape[dim] == 1 for dim in node.params["dims"])
    return False
