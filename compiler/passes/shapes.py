"""Shapes: movement that moves nothing, or that one movement does as well as two.

The law: each of these is a map from the positions of a result to positions of an operand; maps that
are the identity go away, and those that follow one another become one.
"""

from __future__ import annotations

from ..aval import Shape
from ..ir import Graph, Node, Value
from ..primitives.create import full_like, iota
from ..primitives.elementwise import add
from ..primitives.movement import (
    broadcast,
    concat,
    flip,
    reshape,
    set_slice,
    slice_,
    transpose,
    window_stop,
)
from ..primitives.reduce import argmax, reduce_max, reduce_min, reduce_prod, reduce_sum
from .rewrite import Rules, rewrite

RULES = Rules()


def run(graph: Graph) -> Graph:
    """Removes and joins movements; see the module for the law."""
    return rewrite(graph, RULES)


def _source(node: Node, *prims: object) -> Node | None:
    """The node of the first operand, if it is of one of the primitives."""
    before = node.operands[0].node
    return before if before.prim in prims else None


def _shape(node: Node) -> Shape:
    return node.results[0].aval.shape


def _squeezed(shape: Shape) -> Shape:
    """A shape without its dimensions of size 1."""
    return tuple(size for size in shape if size != 1)


# --- reshape and transpose ----------------------------------------------------------------------


@RULES.on(reshape, broadcast)
def to_same_shape(node: Node) -> Value | None:
    """reshape x, broadcast x -> x,  to its own shape"""
    x = node.operands[0]
    return x if x.aval.shape == _shape(node) else None


@RULES.on(reshape)
def reshape_of_reshape(node: Node) -> Value | None:
    """reshape(reshape x) -> reshape x"""
    inner = _source(node, reshape)
    return None if inner is None else reshape(inner.operands[0], shape=_shape(node))


@RULES.on(transpose)
def transpose_in_place(node: Node) -> Value | None:
    """transpose x -> x,  by the identity;  -> reshape x,  if only dimensions of size 1 move"""
    x, perm = node.operands[0], node.params["perm"]
    long = [axis for axis in perm if x.aval.shape[axis] != 1]
    if long != sorted(long):
        return None
    return reshape(x, shape=_shape(node))


@RULES.on(transpose)
def transpose_of_transpose(node: Node) -> Value | None:
    """transpose(transpose x) -> transpose x"""
    inner = _source(node, transpose)
    if inner is None:
        return None
    perm = tuple(inner.params["perm"][axis] for axis in node.params["perm"])
    return transpose(inner.operands[0], perm=perm)


@RULES.on(transpose)
def transpose_of_broadcast(node: Node) -> Value | None:
    """transpose(broadcast x) -> broadcast x,  if the dimensions of x keep their order"""
    inner = _source(node, broadcast)
    if inner is None:
        return None
    dims = tuple(node.params["perm"].index(dim) for dim in inner.params["dims"])
    if list(dims) != sorted(dims):
        return None
    return broadcast(inner.operands[0], dims=dims, shape=_shape(node))


# --- broadcast ----------------------------------------------------------------------------------


@RULES.on(broadcast)
def broadcast_along_ones(node: Node) -> Value | None:
    """broadcast x -> reshape x,  if it only adds dimensions of size 1"""
    x = node.operands[0]
    if _squeezed(x.aval.shape) != _squeezed(_shape(node)):
        return None
    return reshape(x, shape=_shape(node))


@RULES.on(broadcast)
def broadcast_of_broadcast(node: Node) -> Value | None:
    """broadcast(broadcast x) -> broadcast x"""
    inner = _source(node, broadcast)
    if inner is None:
        return None
    dims = tuple(node.params["dims"][dim] for dim in inner.params["dims"])
    return broadcast(inner.operands[0], dims=dims, shape=_shape(node))


@RULES.on(broadcast)
def broadcast_of_unsqueezed(node: Node) -> Value | None:
    """broadcast(reshape x) -> broadcast x,  if the reshape only adds dimensions of size 1"""
    inner = _source(node, reshape)
    if inner is None or inner.operands[0].aval.shape != _squeezed(_shape(inner)):
        return None
    pairs = zip(node.params["dims"], _shape(inner), strict=True)
    dims = tuple(dim for dim, size in pairs if size != 1)
    return broadcast(inner.operands[0], dims=dims, shape=_shape(node))


# --- windows ------------------------------------------------------------------------------------


@RULES.on(slice_)
def slice_of_all(node: Node) -> Value | None:
    """slice x -> x,  of the whole"""
    x = node.operands[0]
    whole = x.aval.shape == node.params["stop"] == _shape(node)
    return x if whole and not any(node.params["start"]) else None


@RULES.on(slice_)
def slice_of_slice(node: Node) -> Value | None:
    """slice(slice x) -> slice x,  of known sizes or with steps of 1"""
    inner = _source(node, slice_)
    if inner is None:
        return None
    first, second, sizes = inner.params, node.params, _shape(node)
    step = tuple(a * b for a, b in zip(first["step"], second["step"], strict=True))
    if any(s != 1 for s in step) and not all(isinstance(size, int) for size in sizes):
        return None
    moved = zip(first["start"], second["start"], first["step"], sizes, strict=True)
    start = tuple(a + b * by if size != 0 else 0 for a, b, by, size in moved)
    stop = tuple(map(window_stop, start, sizes, step))
    return slice_(inner.operands[0], start=start, stop=stop, step=step)


def _same_window(node: Node, other: Node) -> bool:
    return all(node.params[key] == other.params[key] for key in ("start", "step"))


@RULES.on(set_slice)
def write_over_all(node: Node) -> Value | None:
    """set_slice(x, y) -> y,  where the window is all of x;  -> x,  where it is empty"""
    x, y = node.operands
    if x.aval.shape == y.aval.shape:
        return y
    return x if 0 in y.aval.shape else None


@RULES.on(slice_)
def read_what_was_written(node: Node) -> Value | None:
    """slice(set_slice(x, y)) -> y,  of the same window"""
    inner = _source(node, set_slice)
    if inner is None or inner.operands[1].aval.shape != _shape(node):
        return None
    return inner.operands[1] if _same_window(inner, node) else None


@RULES.on(set_slice)
def write_what_was_read(node: Node) -> Value | None:
    """set_slice(x, slice x) -> x,  of the same window"""
    x, y = node.operands
    same = y.node.prim is slice_ and y.node.operands[0] is x and _same_window(y.node, node)
    return x if same else None


@RULES.on(set_slice)
def write_twice(node: Node) -> Value | None:
    """set_slice(set_slice(x, y), z) -> set_slice(x, z),  of the same window"""
    inner, z = _source(node, set_slice), node.operands[1]
    if inner is None or inner.operands[1].aval.shape != z.aval.shape:
        return None
    return set_slice(inner.operands[0], z, **node.params) if _same_window(inner, node) else None


# --- flip and concat ----------------------------------------------------------------------------


@RULES.on(flip)
def flip_of_ones(node: Node) -> Value | None:
    """flip x -> flip x,  along fewer dimensions where some have size 1;  -> x,  along none"""
    x, dims = node.operands[0], node.params["dims"]
    long = tuple(dim for dim in dims if x.aval.shape[dim] != 1)
    if not long:
        return x
    return flip(x, dims=long) if long != dims else None


@RULES.on(flip)
def flip_of_flip(node: Node) -> Value | None:
    """flip(flip x) -> flip x,  along the dimensions that are in one of the two"""
    inner = _source(node, flip)
    if inner is None:
        return None
    dims = set(inner.params["dims"]) ^ set(node.params["dims"])
    return flip(inner.operands[0], dims=tuple(sorted(dims)))


@RULES.on(concat)
def concat_of_one(node: Node) -> Value | None:
    """concat x -> x,  concat(x, y, ...) without operands that are empty"""
    dim = node.params["dim"]
    parts = [part for part in node.operands if part.aval.shape[dim] != 0] or [node.operands[0]]
    if len(parts) == 1:
        return parts[0]
    return concat(*parts, dim=dim) if len(parts) < len(node.operands) else None


# --- reductions ---------------------------------------------------------------------------------


@RULES.on(reduce_sum, reduce_prod, reduce_max, reduce_min)
def reduce_of_ones(node: Node) -> Value | None:
    """reduce x -> reshape x,  over dimensions of size 1;  of floats sum x -> reshape x + 0.0

    A sum starts from 0.0, which turns -0.0 into 0.0.
    """
    x = node.operands[0]
    if any(x.aval.shape[dim] != 1 for dim in node.params["dims"]):
        return None
    same = reshape(x, shape=_shape(node))
    if node.prim is reduce_sum and x.aval.dtype.is_floating_point:
        return add(same, full_like(same, 0))
    return same


@RULES.on(argmax, iota)
def position_in_one(node: Node) -> Value | None:
    """argmax x, iota -> 0,  along a dimension of size 1"""
    along = node.operands[0].aval.shape if node.prim is argmax else _shape(node)
    dim = node.params["dims"][0] if node.prim is argmax else node.params["dim"]
    return full_like(node.results[0], 0) if along[dim] == 1 else None
