"""Primitives applied at random: for each one, operands and parameters that fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..compiler import dtypes
from ..compiler.aval import Aval, Dim, Shape, SymDim, size_of, symbol
from ..compiler.dtypes import DType
from ..compiler.errors import IRError
from ..compiler.ir import Check, Loc, Value
from ..compiler.primitive import Elementwise, Primitive
from ..compiler.primitives import create, elementwise, index, movement
from ..compiler.primitives.create import constant, full_like, graph_input
from ..compiler.primitives.random import STATE

T = TypeVar("T")

SIZES = (0, 1, 1, 2, 2, 3, 3, 4, 5)
"""Sizes of dimensions, those worth meeting more often repeated."""
LARGEST = 500
"""Elements, symbolic sizes not counted, that an operand may have."""
FLOATS = (dtypes.f16, dtypes.f32, dtypes.f32, dtypes.f32, dtypes.f64)
INTEGERS = tuple(d for d in dtypes.ALL if d.kind in ("int", "uint"))
CONSTANTS = (0, 1, 2, -1, -0.0, 0.5, 3, 1.5)


class Builder:
    """The values made so far, and ways to find or make others.

    Attributes:
        inputs: the graph's inputs.
        made: results of all primitives applied, in order.
        values: what may be an operand of the next.
        states: states of random generators, each the last of its chain.
        checks: conditions that hold.
    """

    def __init__(self, rng: np.random.Generator, symbolic: bool) -> None:
        self.rng, self.symbolic = rng, symbolic
        self.inputs: list[Value] = []
        self.made: list[Value] = []
        self.values: list[Value] = []
        self.states: list[Value] = []
        self.checks: list[Check] = []
        for dtype in (dtypes.f32, dtypes.f32, dtypes.i64, dtypes.boolean):
            self.input(Aval(dtype, self.shape()))
        if symbolic:
            self.input(Aval(dtypes.f32, (symbol("B"), 2)))  # B must stand in an input by itself

    def apply(self, primitive: Primitive) -> None:
        """Applies a primitive to fitting operands; its results may be operands of later ones."""
        results = MAKERS.get(primitive.name, _elementwise)(self, primitive)
        self.made += results
        self.values += [r for r in results if self._handy(r.aval)]
        scalar = [r for r in results if r.aval == Aval(dtypes.boolean)]
        if scalar and self.rng.random() < 0.3:
            always = elementwise.or_(scalar[0], elementwise.not_(scalar[0]))
            loc = None if self.rng.random() < 0.5 else Loc("check.py", 1, 2)
            self.checks.append(Check(always, f'"{primitive}"\nholds: ✓', loc))

    def _handy(self, aval: Aval) -> bool:
        """Whether a value may be an operand: no generator's state, nothing that grows too large."""
        static = (d for d in aval.shape if isinstance(d, int))
        return aval != STATE and aval.ndim < 5 and math.prod(static) <= LARGEST

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def size(self) -> Dim:
        """A size, now and then a symbolic one."""
        if self.symbolic and self.rng.random() < 0.25:
            return self.pick([symbol("B"), symbol("B"), symbol("B") + 1, symbol("B") * 2])
        return self.pick(SIZES)

    def shape(self) -> Shape:
        """Up to three sizes."""
        return tuple(self.size() for _ in range(self.rng.integers(4)))

    def input(self, aval: Aval) -> Value:
        """A new input of the graph."""
        weak = aval.ndim == 0 and aval.dtype in (dtypes.f64, dtypes.i64) and self.rng.random() < 0.5
        value = graph_input(len(self.inputs), Aval(aval.dtype, aval.shape, weak))
        self.inputs.append(value)
        if self._handy(aval):
            self.values.append(value)
        return value

    def constant(self, aval: Aval) -> Value:
        """A `full` of a type."""
        value = self.pick(CONSTANTS)
        return constant(abs(value) if aval.dtype.kind == "uint" else value, aval)

    def find(self, fits: Callable[[Aval], bool], dtypes_: Sequence[DType], ndim: int = 0) -> Value:
        """A value whose type fits, or a new input of one of the dtypes and some dimensions."""
        fitting = [v for v in self.values if fits(v.aval)]
        if fitting and self.rng.random() < 0.9:
            return self.pick(fitting)
        extra = tuple(self.pick([1, 2, 3]) for _ in range(ndim))
        return self.input(Aval(self.pick(dtypes_), self.shape()[: 3 - ndim] + extra))

    def number(self, ndim: int = 0) -> Value:
        """A value of numbers, not bools."""
        return self.find(
            lambda a: a.dtype.kind != "bool" and a.ndim >= ndim, (*FLOATS, *INTEGERS), ndim
        )

    def any(self, ndim: int = 0) -> Value:
        """A value of any dtype."""
        return self.find(lambda a: a.ndim >= ndim, dtypes.ALL, ndim)

    def like(self, dtype: DType, shape: Shape) -> Value:
        """A value of a dtype and shape: one that is there, a constant, or a new input."""
        there = [v for v in self.values if (v.aval.dtype, v.aval.shape) == (dtype, shape)]
        choice = self.rng.random()
        if there and choice < 0.7:
            return self.pick(there)
        aval = Aval(dtype, shape)
        if choice < 0.85:
            return self.constant(aval)
        return self.input(aval)

    def dims(self, ndim: int) -> tuple[int, ...]:
        """Some of the dimensions below `ndim`."""
        return tuple(d for d in range(ndim) if self.rng.random() < 0.5)

    def positions(self, shape: Shape, rows: Dim) -> Value:
        """Positions in range(rows), as an integer tensor."""
        small = isinstance(rows, SymDim) or rows < 128
        dtype = self.pick((dtypes.i64, dtypes.i32, dtypes.u8 if small else dtypes.i16))
        if isinstance(rows, SymDim):
            return create.full(value=0, dtype=dtype, shape=shape)
        any_number = self.like(dtype, shape)
        return elementwise.rem(any_number, full_like(any_number, rows))

    def with_rows(self) -> Value:
        """A value with at least one row."""
        x = self.any(ndim=1)
        return x if x.aval.shape[0] != 0 else self.input(Aval(x.aval.dtype, (2, *x.aval.shape[1:])))

    def window(self, shape: Shape) -> tuple[Shape, Shape, tuple[int, ...]]:
        """Start, stop and step of a window in each dimension."""
        triples: list[tuple[Dim, Dim, int]] = []
        for size in shape:
            step = self.pick((1, 1, 2))
            if isinstance(size, SymDim):
                triples.append((0, size, step))
            else:
                start, stop = sorted(map(int, self.rng.integers(0, size + 1, 2)))
                triples.append((0, size, 1) if self.rng.random() < 0.4 else (start, stop, step))
        return (
            tuple(t[0] for t in triples),
            tuple(t[1] for t in triples),
            tuple(t[2] for t in triples),
        )


Results = Sequence[Value]


def _elementwise(b: Builder, p: Primitive) -> Results:
    """Operands of the kind that the type rule accepts, found by asking it."""
    assert isinstance(p.lowering, Elementwise), f"random_graph cannot make operands of {p}"
    arity = sum(f"{{{i}}}" in p.lowering.python for i in range(4))
    while True:
        x = b.any()
        try:
            return p.bind(x, *(b.like(x.aval.dtype, x.aval.shape) for _ in range(arity - 1)))
        except IRError:
            continue


def _power(b: Builder, p: Primitive) -> Results:
    """No negative powers of integers, and of floats none that rewriting makes more exact."""
    x = b.number()
    return p.bind(
        x, full_like(x, b.pick([0, 3, 1.5, -2] if x.aval.dtype.kind == "float" else [0, 1, 2, 3]))
    )


def _select(b: Builder, p: Primitive) -> Results:
    x = b.any()
    condition, other = (b.like(d, x.aval.shape) for d in (dtypes.boolean, x.aval.dtype))
    return p.bind(condition, x, other)


def _cast(b: Builder, p: Primitive) -> Results:
    """No float that its integer type cannot hold: what that becomes is undefined."""
    x, dtype = b.any(), b.pick(dtypes.ALL)
    if x.aval.dtype.is_floating_point and dtype.kind in ("int", "uint"):
        x = elementwise.abs_(x)
        x = elementwise.select(elementwise.le(x, full_like(x, 100)), x, full_like(x, 1))
    return p.bind(x, dtype=dtype)


def _full(b: Builder, p: Primitive) -> Results:
    return (b.constant(Aval(b.pick(dtypes.ALL), b.shape())),)


def _size(b: Builder, p: Primitive) -> Results:
    return p.bind(value=b.size())


def _iota(b: Builder, p: Primitive) -> Results:
    shape = (b.size(), *b.shape()[:2])
    dim = b.pick(range(len(shape)))
    return p.bind(dim=dim, dtype=b.pick((*FLOATS, *INTEGERS)), shape=shape)


def _broadcast(b: Builder, p: Primitive) -> Results:
    x = b.any()
    shape = [b.size() if s == 1 and b.rng.random() < 0.5 else s for s in x.aval.shape]
    dims = list(range(len(shape)))
    for _ in range(b.rng.integers(3)):
        at = int(b.rng.integers(len(shape) + 1))
        shape.insert(at, b.size())
        dims = [d + (d >= at) for d in dims]
    return p.bind(x, dims=tuple(dims), shape=tuple(shape))


def _reshape(b: Builder, p: Primitive) -> Results:
    x = b.any()
    shape = list(x.aval.shape)
    if b.rng.random() < 0.3:
        shape = [size_of(shape)]
    elif len(shape) > 1 and b.rng.random() < 0.5:
        shape[:2] = [shape[0] * shape[1]]
    for _ in range(b.rng.integers(3)):
        shape.insert(int(b.rng.integers(len(shape) + 1)), 1)
    if b.rng.random() < 0.3:
        shape = [s for s in shape if s != 1]
    return p.bind(x, shape=tuple(shape))


def _transpose(b: Builder, p: Primitive) -> Results:
    x = b.any()
    return p.bind(x, perm=tuple(map(int, b.rng.permutation(x.aval.ndim))))


def _slice(b: Builder, p: Primitive) -> Results:
    x = b.any()
    start, stop, step = b.window(x.aval.shape)
    return p.bind(x, start=start, stop=stop, step=step)


def _set_slice(b: Builder, p: Primitive) -> Results:
    x = b.any()
    start, stop, step = b.window(x.aval.shape)
    shape = tuple(map(movement.window_size, start, stop, step))
    return p.bind(x, b.like(x.aval.dtype, shape), start=start, step=step)


def _flip(b: Builder, p: Primitive) -> Results:
    x = b.any()
    return p.bind(x, dims=b.dims(x.aval.ndim))


def _concat(b: Builder, p: Primitive) -> Results:
    x = b.any(ndim=1)
    dim = b.pick(range(x.aval.ndim))
    parts = [x]
    for _ in range(b.rng.integers(3)):
        shape = (*x.aval.shape[:dim], b.size(), *x.aval.shape[dim + 1 :])
        parts.append(b.like(x.aval.dtype, shape))
    return p.bind(*parts, dim=dim)


def _take(b: Builder, p: Primitive) -> Results:
    x = b.with_rows()
    return p.bind(x, b.positions(b.shape()[:2], x.aval.shape[0]))


def _scatter(b: Builder, p: Primitive) -> Results:
    x = b.with_rows()
    if p is index.scatter_add and x.aval.dtype is dtypes.boolean:
        x = elementwise.cast(x, dtype=dtypes.i32)
    where = b.positions(b.shape()[:2], x.aval.shape[0])
    rows = b.like(x.aval.dtype, (*where.aval.shape, *x.aval.shape[1:]))
    return p.bind(x, where, rows)


def _matmul(b: Builder, p: Primitive) -> Results:
    x = b.number(ndim=2)
    *batch, _, inner = x.aval.shape
    return p.bind(x, b.like(x.aval.dtype, (*batch, inner, b.size())))


def _solve(b: Builder, p: Primitive) -> Results:
    n = b.pick((1, 2, 3))
    batch = b.shape()[:1]
    dtype = b.pick((dtypes.f32, dtypes.f64))
    return p.bind(b.input(Aval(dtype, (*batch, n, n))), b.like(dtype, (*batch, n, b.size())))


def _reduction(b: Builder, p: Primitive) -> Results:
    x = b.number() if p.name in ("reduce_sum", "reduce_prod") else b.any()
    return p.bind(x, dims=b.dims(x.aval.ndim))


def _argmax(b: Builder, p: Primitive) -> Results:
    x = b.with_rows()
    dims = [d for d, size in enumerate(x.aval.shape) if size != 0]
    return p.bind(x, dims=(b.pick(dims),))


SAMPLERS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "normal": {},
    "uniform_between": {"low": -1.0, "high": 2.5},
    "normal_scaled": {"mean": 0.1, "std": 3.0},
    "integers": {"low": -2, "high": 5},
    "bernoulli": {"p": 0.25},
}
"""Random primitives, and the parameters that neither shape nor dtype implies."""


def _sample(b: Builder, p: Primitive) -> Results:
    params = dict(SAMPLERS[p.name])
    if "dtype" in p.from_type:
        params["dtype"] = b.pick(FLOATS)
    before = b.pick(b.states) if b.states else b.input(STATE)
    sample, after = p.bind(before, **params, shape=b.shape())
    b.states.append(after)
    return sample, after


Maker = Callable[[Builder, Primitive], Results]
MAKERS: dict[str, Maker] = {
    "pow": _power,
    "select": _select,
    "cast": _cast,
    "full": _full,
    "iota": _iota,
    "size": _size,
    "broadcast": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "set_slice": _set_slice,
    "flip": _flip,
    "concat": _concat,
    "take": _take,
    "scatter": _scatter,
    "scatter_add": _scatter,
    "matmul": _matmul,
    "solve": _solve,
    **dict.fromkeys(("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"), _reduction),
    "argmax": _argmax,
    **dict.fromkeys(SAMPLERS, _sample),
}
"""How to find operands and parameters; primitives that are not named here are elementwise."""
