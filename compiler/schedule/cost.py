"""What kernels cost: bytes moved, operations done, and what is cheap enough to do twice."""

from __future__ import annotations

from collections.abc import Sequence

from ..aval import Dim, dim_symbols, evaluate_dim, size_of
from ..ir import Node, Value
from ..primitive import Elementwise, ElementwiseFunction
from .loops import Compute, Index, Load, Reduce, Stage, Store

NOMINAL_SIZE = 64
"""What a symbolic size counts as, where a choice depends on sizes."""

TRANSCENDENTAL = 10
"""Additions that an exponential is worth."""

_SIMPLE_MATH = frozenset({"abs", "floor", "ceil", "trunc", "round", "maximum", "minimum"})


def nominal(dim: Dim) -> int:
    """A size as a number to compare with."""
    if isinstance(dim, int):
        return dim
    return evaluate_dim(dim, dict.fromkeys(dim_symbols(dim), NOMINAL_SIZE))


def nominal_bytes(value: Value) -> int:
    """Bytes of a value's buffer, as a number to compare with."""
    return nominal(value.aval.nbytes)


def weight(node: Node) -> int:
    """The cost of one element of an elementwise node, in additions."""
    lowering = node.prim.lowering
    assert isinstance(lowering, Elementwise)
    if isinstance(lowering, ElementwiseFunction):
        return TRANSCENDENTAL
    kind = node.operands[0].aval.dtype.kind
    operation = lowering.llvm.get(kind) or lowering.llvm["any"]
    if operation.startswith("math"):
        function = operation.split()[-1]
        return 1 if function in _SIMPLE_MATH else 3 if function == "sqrt" else TRANSCENDENTAL
    return 3 if operation == "fdiv" or "floordiv" in operation or "rem" in operation else 1


def kernel_flops(extents: Sequence[Dim], stages: Sequence[Stage]) -> Dim:
    """Operations of a kernel, each Compute and Reduce counted once an element."""
    total: Dim = 0
    for stage in stages:
        count = sum(isinstance(i, Compute | Reduce) for i in stage.body)
        outer = extents if stage.when == "each" else ()
        total = total + size_of((*outer, *stage.extents)) * count
    return total


def kernel_bytes(extents: Sequence[Dim], stages: Sequence[Stage]) -> Dim:
    """Bytes that a kernel reads and writes, each buffer counted once, by its widest access."""
    widest: dict[int, Dim] = {}
    for stage in stages:
        loops = (*(extents if stage.when == "each" else (1,) * len(extents)), *stage.extents)
        for access in stage.body:
            if isinstance(access, Load | Store):
                size = _reached(access.index, loops) * access.dtype.itemsize
                if nominal(size) > nominal(widest.get(access.buffer, 0)):
                    widest[access.buffer] = size
    total: Dim = 0
    for size in widest.values():
        total = total + size
    return total


def _reached(index: Index, loops: Sequence[Dim]) -> Dim:
    """How many elements an index names over all points."""
    if index.dynamic:
        return size_of(loops)
    pairs = zip(loops, index.coefficients, strict=True)
    return size_of([extent for extent, coefficient in pairs if coefficient != 0])
