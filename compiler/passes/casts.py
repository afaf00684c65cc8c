"""Casts: a conversion that changes nothing, or that the next one makes superfluous.

The law: going from one dtype to another through a third that holds every number of the first is
going there directly.  Between integers only the low bits count.  What a float becomes that an
integer type cannot hold is undefined, so such ways are left as they are.
"""

from __future__ import annotations

import numpy as np

from ..dtypes import DType
from ..ir import Graph, Node, Value
from ..primitives.elementwise import cast
from .rewrite import Rules, rewrite

RULES = Rules()


def run(graph: Graph) -> Graph:
    """Removes superfluous casts; see the module for the law."""
    return rewrite(graph, RULES)


@RULES.on(cast)
def cast_to_same(node: Node) -> Value | None:
    """cast x -> x,  to its own dtype"""
    x = node.operands[0]
    return x if x.aval.dtype is node.params["dtype"] else None


@RULES.on(cast)
def cast_of_cast(node: Node) -> Value | None:
    """cast(cast x) -> cast x,  where the first cast loses nothing that the second keeps"""
    inner = node.operands[0].node
    if inner.prim is not cast:
        return None
    x, to = inner.operands[0], node.params["dtype"]
    return cast(x, dtype=to) if _skippable(x.aval.dtype, inner.params["dtype"], to) else None


def _skippable(start: DType, middle: DType, end: DType) -> bool:
    """Whether going from `start` to `end` through `middle` is going there directly."""
    if middle.kind in ("int", "uint") and end.kind in ("int", "uint"):
        whole = start.kind in ("int", "uint") and end.bits <= middle.bits
        return whole or _holds(middle, start)  # the low bits are all that count
    if end.kind in ("int", "uint"):  # from a float: defined only for numbers that `end` holds
        return _holds(middle, start) and _holds(end, start)
    return _holds(middle, start)


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether every number of `narrow` is one of `wide`."""
    if wide is narrow or narrow.kind == "bool":
        return True
    if wide.kind == "bool" or (narrow.kind == "float" and wide.kind != "float"):
        return False
    if wide.kind == "float" and narrow.kind == "float":
        return wide.bits >= narrow.bits
    low, high = _range(narrow)
    if wide.kind == "float":
        return high <= 1 << (np.finfo(wide.long_name).nmant + 1)
    return _range(wide)[0] <= low and high <= _range(wide)[1]


def _range(dtype: DType) -> tuple[int, int]:
    info = np.iinfo(dtype.long_name)
    return info.min, info.max
