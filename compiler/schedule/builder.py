"""Writes the instructions of one kernel: values on demand, each at a point of the loops.

Asking for a value at a flat index writes what computes it: a load if it is in memory, else its
operation on operands that are asked for in turn.  What does not depend on a stage's loops goes to
the straight stage before them, and is computed once for each outer point; everything else goes to
the stage that is being written, and is computed again by each stage that needs it.

    straight 0, loops 1 (its reductions), straight 1, loops 2, straight 2, ...
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from .. import dtypes
from ..aval import Dim, SymDim
from ..dtypes import DType
from ..errors import CompileError
from ..ir import Node, Value
from ..primitive import Elementwise, Gather, Reduction
from .access import is_literal, is_movement, is_unit_reduction
from .indexing import Atom, Data, Expr, Quotient, linear, split, through, unflatten
from .loops import (
    Combine,
    Compute,
    Const,
    Index,
    Instruction,
    Load,
    Position,
    Reduce,
    Register,
    Stage,
    Store,
)
from .nest import Nest, wanted_cuts
from .registers import defined, renumber

Scalar = bool | int | float
Key = tuple[Value, Expr]


class _Place(NamedTuple):
    """Where a register belongs: inside the current stage's loops, or in a straight stage."""

    inner: bool
    depth: int


class Builder:
    """The instructions of one kernel.

    Args:
        nest: its loops.
        members: nodes that are computed here even where their results are in memory.
        stored: values in memory.
    """

    def __init__(self, nest: Nest, members: AbstractSet[Node], stored: AbstractSet[Value]) -> None:
        self.nest, self.members, self.stored = nest, members, stored
        self.parameters: dict[Value, int] = {}
        self.written: set[Value] = set()
        self.wanted: dict[tuple[int, Dim], None] = {}
        self._straight: list[list[Instruction]] = [[]]
        self._looped: list[list[Instruction]] = []
        self._places: list[_Place] = []
        self._rows: dict[object, Register] = {}
        self._points: dict[object, Register] = {}
        self._values: dict[Register, Value] = {}
        self._resolved: dict[Key, Key] = {}
        self._reread: dict[Key, None] = {}

    # --- stages -----------------------------------------------------------------------------------

    def begin_loops(self) -> None:
        """Starts the next looped stage."""
        self._looped.append([])
        self._straight.append([])
        self._points = {}

    def reduce(self, node: Node) -> None:
        """Reduces the operand of `node` over the current stage's loops; usable in later stages."""
        lowering = node.prim.lowering
        assert isinstance(lowering, Reduction)
        operand, result = node.operands[0], node.results[0]
        source, dtype = operand.aval.dtype, result.aval.dtype
        value = self._inside(operand, self.nest.point())
        register = self._new(_Place(False, len(self._looped)))
        self._looped[-1].append(Reduce(register, lowering.combine, value, source, dtype))
        self._rows[result, self.nest.row()] = register
        self._values[register] = result

    def store(
        self,
        value: Value,
        at: Expr,
        target: Value,
        to: Expr,
        *,
        inner: bool,
        combine: Combine = "set",
    ) -> None:
        """Writes element `at` of a value to position `to` of `target`'s buffer."""
        register = self._inside(value, at) if inner else self.value(value, at)
        place = _Place(True, 0) if inner else self._places[register]
        index = self._index(to, place)
        buffer = self._parameter(target)
        self.written.add(target)
        self._write(place, Store(buffer, index, register, target.aval.dtype, combine))
        if inner and value is target and at == to:
            self._reread[value, at] = None

    def stages(self) -> tuple[Stage, ...]:
        """The kernel's stages, registers numbered in order."""
        return renumber(self._stages())

    def values(self) -> list[Value | None]:
        """For each register, as numbered in `stages`, the value that it is an element of."""
        known = [self._values.get(register) for register in defined(self._stages())]
        return [*known, *[None] * (self.registers - len(known))]

    def _stages(self) -> tuple[Stage, ...]:
        extents = self.nest.extents[self.nest.outer :]
        stages = [Stage((), tuple(self._straight[0]))]
        for looped, straight in zip(self._looped, self._straight[1:], strict=True):
            stages += [Stage(extents, tuple(looped)), Stage((), tuple(straight))]
        return tuple(s for s in stages if s.body)

    @property
    def registers(self) -> int:
        """How many registers there are."""
        return len(self._places)

    # --- values -----------------------------------------------------------------------------------

    def value(self, value: Value, flat: Expr) -> Register:
        """The register with element `flat` of a value, written if need be, operands first."""
        top = self._resolve(value, flat)
        stack = [top]
        while stack:
            key = stack[-1]
            missing = [] if self._known(key) is not None else [*self._missing(key)]
            if missing:
                stack += reversed(missing)
                continue
            if self._known(key) is None:
                self._finish(key)
                self._values.setdefault(self._register(key), key[0])
            stack.pop()
        register = self._known(top)
        assert register is not None
        return register

    def _inside(self, value: Value, flat: Expr) -> Register:
        """What a loop reduces or stores; loops without a point get a number they never meet.

        Points that do not exist have no numbers by which rows could be told apart, and nothing may
        be read there, even if it is the same at all of them.
        """
        return self._zero(value.aval.dtype) if self.nest.empty else self.value(value, flat)

    def position(self, value: Value, flat: Expr) -> Register:
        """The register with element `flat` of an integer value, as a position."""
        return self._cast(self.value(value, flat), value.aval.dtype, dtypes.i64)

    def _known(self, key: object) -> Register | None:
        register = self._rows.get(key)
        return self._points.get(key) if register is None else register

    def _resolve(self, value: Value, flat: Expr) -> Key:
        """The element behind movements."""
        key = value, flat
        found = self._resolved.get(key)
        if found is None:
            while is_movement(value.node):
                flat = through(value.node, flat, self.nest.extents)
                value = value.node.operands[0]
            found = self._resolved[key] = value, flat
        return found

    def _is_loaded(self, key: Key) -> bool:
        value = key[0]
        if value.is_input or key in self._reread:
            return True
        # What has no operands is cheaper made than read; nobody waits for the group that stores it.
        is_made = value.node in self.members or not (value.node.operands or value.is_input)
        return value in self.stored and not is_made

    def _missing(self, key: Key) -> Iterator[Key]:
        """What must be known before `key` can be written."""
        value, flat = key
        node = value.node
        if self._is_loaded(key) or is_literal(node):
            return
        if isinstance(node.prim.lowering, Gather):
            wanted = [self._positions(key)]
            if self._known(wanted[0]) is not None:
                wanted = [self._row_taken(key)]
        elif isinstance(node.prim.lowering, Elementwise) or is_unit_reduction(node):
            wanted = [self._resolve(operand, flat) for operand in node.operands]
        else:
            raise CompileError(f"{node!r} cannot be computed at this point of its kernel")
        yield from (w for w in wanted if self._known(w) is None)

    def _finish(self, key: Key) -> None:
        """Writes a value whose operands are known."""
        value, flat = key
        node, dtype = value.node, value.aval.dtype
        if self._is_loaded(key):
            self._define(key, *self._load(value, flat))
        elif is_literal(node):
            self._alias(key, self._literal(node, flat))
        elif isinstance(node.prim.lowering, Gather):
            self._alias(key, self._register(self._row_taken(key)))
        elif isinstance(node.prim.lowering, Reduction):
            self._alias(key, self._single(node, flat))
        else:
            operands = tuple(self._register(self._resolve(o, flat)) for o in node.operands)
            self._alias(key, self._compute(node.prim.name, operands, _operand_dtype(node), dtype))

    def _literal(self, node: Node, flat: Expr) -> Register:
        """A constant, a size, or an index along a dimension."""
        aval = node.results[0].aval
        if node.prim.name == "iota":
            along = unflatten(flat, aval.shape, self.nest.extents)[node.params["dim"]]
            return self._position(along, aval.dtype)
        number = node.params["value"]
        if isinstance(number, SymDim):
            return self._position(Expr(number, ()), aval.dtype)
        return self._constant(number, aval.dtype)

    def _register(self, key: Key) -> Register:
        register = self._known(key)
        assert register is not None
        return register

    def _single(self, node: Node, flat: Expr) -> Register:
        """A reduction of one element: a sum adds 0 to it, an argmax is its position."""
        operand, dtype = node.operands[0], node.results[0].aval.dtype
        if node.prim.name == "argmax":
            return self._constant(0, dtype)
        register = self._register(self._resolve(operand, flat))
        if node.prim.name == "reduce_sum":
            return self._compute("add", (register, self._zero(dtype)), dtype, dtype)
        return register

    # --- taking rows ------------------------------------------------------------------------------

    def _positions(self, key: Key) -> Key:
        """The element of the index tensor that an element of a `take` needs."""
        value, flat = key
        return self._resolve(value.node.operands[1], self._row(value.node, flat)[0])

    def _row_taken(self, key: Key) -> Key:
        """The element of the table, once the position is known."""
        value, flat = key
        table = value.node.operands[0]
        row, inside = self._row(value.node, flat)
        known = self._register(self._resolve(value.node.operands[1], row))
        position = self._cast(known, value.node.operands[1].aval.dtype, dtypes.i64)
        size = _row_size(table)
        data = Expr(0, ((Data(position), 1),))
        return self._resolve(table, linear([(data, size), (inside, 1)]))

    def _row(self, node: Node, flat: Expr) -> tuple[Expr, Expr]:
        return split(flat, _row_size(node.operands[0]), self.nest.extents)

    # --- instructions -----------------------------------------------------------------------------

    def _new(self, place: _Place) -> Register:
        self._places.append(place)
        return len(self._places) - 1

    def _write(self, place: _Place, instruction: Instruction) -> None:
        stage = self._looped[-1] if place.inner else self._straight[place.depth]
        stage.append(instruction)

    def _define(self, key: object, register: Register, place: _Place) -> Register:
        (self._points if place.inner else self._rows)[key] = register
        return register

    def _alias(self, key: object, register: Register) -> Register:
        return self._define(key, register, self._places[register])

    def _together(self, registers: tuple[Register, ...]) -> _Place:
        """Where an instruction with these operands belongs."""
        places = [self._places[r] for r in registers]
        inner = any(p.inner for p in places)
        return _Place(inner, 0 if inner else max((p.depth for p in places), default=0))

    def _compute(
        self, name: str, operands: tuple[Register, ...], source: DType, dtype: DType
    ) -> Register:
        place = self._together(operands)
        register = self._new(place)
        self._write(place, Compute(register, name, operands, source, dtype))
        return register

    def _cast(self, register: Register, source: DType, dtype: DType) -> Register:
        if source is dtype:
            return register
        known = self._known(("cast", register))
        if known is None:
            known = self._alias(
                ("cast", register), self._compute("cast", (register,), source, dtype)
            )
        return known

    def _constant(self, value: Scalar, dtype: DType) -> Register:
        key = ("constant", repr(value), dtype)
        register = self._known(key)
        if register is None:
            register = self._define(key, self._new(_Place(False, 0)), _Place(False, 0))
            self._write(_Place(False, 0), Const(register, value, dtype))
        return register

    def _zero(self, dtype: DType) -> Register:
        return self._constant(0.0 if dtype.is_floating_point else 0, dtype)

    def _position(self, expr: Expr, dtype: DType) -> Register:
        key = ("position", expr, dtype)
        known = self._known(key)
        if known is not None:
            return known
        expr = self._linear(expr)
        place = self._place_of(expr)
        register = self._define(key, self._new(place), place)
        self._write(place, Position(register, self._index(expr, place), dtype))
        return register

    def _load(self, value: Value, flat: Expr) -> tuple[Register, _Place]:
        flat = self._linear(flat)
        place = self._place_of(flat)
        register = self._new(place)
        index = self._index(flat, place)
        buffer = self._parameter(value)
        self._write(place, Load(register, buffer, index, value.aval.dtype))
        return register, place

    def _parameter(self, value: Value) -> int:
        return self.parameters.setdefault(value, len(self.parameters))

    # --- indices ----------------------------------------------------------------------------------

    def _index(self, expr: Expr, place: _Place) -> Index:
        """A position as coefficients of the loops around it and registers."""
        expr = self._linear(expr)
        loops = self.nest.extents if place.inner else self.nest.extents[: self.nest.outer]
        coefficients: list[Dim] = [0] * len(loops)
        dynamic: list[tuple[Register, Dim]] = []
        for atom, coefficient in expr.terms:
            if isinstance(atom, int):
                coefficients[atom] = coefficient
            else:
                assert isinstance(atom, Data)
                dynamic.append((atom.register, coefficient))
        return Index(expr.offset, tuple(coefficients), tuple(dynamic))

    def _linear(self, expr: Expr) -> Expr:
        """`expr` with quotients and remainders computed; notes the cuts that would save that."""
        if all(isinstance(atom, int | Data) for atom, _ in expr.terms):
            return expr
        parts = [(Expr(0, ((self._simple(atom), 1),)), c) for atom, c in expr.terms]
        return linear(parts, expr.offset)

    def _simple(self, atom: Atom) -> Atom:
        if isinstance(atom, int | Data):
            return atom
        self.wanted.update(dict.fromkeys(wanted_cuts(atom.expr, atom.by)))
        known = self._known(atom)
        if known is None:
            position = self._position(atom.expr, dtypes.i64)
            by = self._size(atom.by)
            name = "floordiv" if isinstance(atom, Quotient) else "rem"
            known = self._compute(name, (position, by), dtypes.i64, dtypes.i64)
            self._alias(atom, known)
        return Data(known)

    def _size(self, size: Dim) -> Register:
        if isinstance(size, SymDim):
            return self._position(Expr(size, ()), dtypes.i64)
        return self._constant(size, dtypes.i64)

    def _place_of(self, expr: Expr) -> _Place:
        """Where a position is known."""
        inner, depth = False, 0
        for atom, _ in expr.terms:
            if isinstance(atom, int):
                inner |= atom >= self.nest.outer
            else:
                assert isinstance(atom, Data)
                place = self._places[atom.register]
                inner, depth = inner or place.inner, max(depth, place.depth)
        return _Place(inner, 0 if inner else depth)


def _row_size(table: Value) -> Dim:
    size: Dim = 1
    for dim in table.aval.shape[1:]:
        size = size * dim
    return size


def _operand_dtype(node: Node) -> DType:
    """Of the first operand that is not `select`'s condition."""
    return node.operands[1 if node.prim.name == "select" else 0].aval.dtype
