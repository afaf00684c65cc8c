"""Scalar functions that users wrote, called on lanes.

A function is defined in an LLVM module of its own, which is linked to the program's.  On vectors it
is called in a loop over lanes that lie on the stack, which LLVM vectorises: from the function's
scalar code, branches included.  Where it succeeds, loop and stack are gone; where it does not, the
loop stays.  The `exp` of such a function is that of `VectorMath`: it is vectorised with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from ..primitive import ElementwiseFunction
from .llvm_control import Carried, Number, as_value, loop
from .llvm_values import (
    F32,
    F64,
    I1,
    I8,
    I32,
    POINTER,
    element_type,
    memory_type,
    register_type,
    spread,
    vector,
    width_of,
)
from .vector_math import FUNCTIONS, VectorMath

ALIGNMENT = 64
_MATHEMATICS = ("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "erf", "pow")
MATHEMATICS = {name + end: name for name in _MATHEMATICS for end in ("", "f")}
"""Functions of C's library that are computed as the primitives of these names are."""


class Functions:
    """Emits calls of users' functions into one module.

    Attributes:
        called: the functions that were called.
    """

    def __init__(self, module: ir.Module, math: VectorMath) -> None:
        self._module, self._math = module, math
        self.called: dict[str, ElementwiseFunction] = {}

    def call(
        self,
        builder: ir.IRBuilder,
        function: ElementwiseFunction,
        operands: Sequence[ir.Value],
        mask: ir.Value | None,
    ) -> ir.Value:
        """The function of each lane; where the mask is not set, of the first lane's operands.

        That lane's mask is set: a function may not end, or trap, on what nobody gave it.
        """
        self.called[function.symbol] = function
        width = max(map(width_of, operands))
        if mask is not None and width:
            operands = [_kept(builder, o, mask) for o in operands]
        target = self._scalar(function, len(operands))
        if width:
            target = self._on_lanes(target, function, [width_of(o) for o in operands], width)
        return builder.call(target, operands)

    def _scalar(self, function: ElementwiseFunction, arity: int) -> ir.Function:
        """The function itself, defined elsewhere."""
        if function.symbol not in self._module.globals:
            types = [register_type(function.dtype)] * arity
            kind = ir.FunctionType(register_type(function.result), types)
            ir.Function(self._module, kind, function.symbol)
            for name in MATHEMATICS.keys() & set(function.externs):
                self._define(name)
        return self._module.globals[function.symbol]

    def _define(self, name: str) -> None:
        """A function of C's library under its name, for the module that calls it."""
        if name in self._module.globals:
            return
        number = F32 if name.endswith("f") and name != "erf" else F64
        count = FUNCTIONS[MATHEMATICS[name]].operands
        made = ir.Function(self._module, ir.FunctionType(number, [number] * count), name)
        made.attributes.add("alwaysinline")
        builder = ir.IRBuilder(made.append_basic_block("entry"))
        builder.ret(self._math.call(MATHEMATICS[name], builder, *made.args))

    def _on_lanes(
        self, scalar: ir.Function, function: ElementwiseFunction, widths: list[int], width: int
    ) -> ir.Function:
        """The function on vectors; operands that are the same in all lanes stay scalars."""
        pattern = "".join("v" if w else "s" for w in widths)
        symbol = f"{function.symbol}.{width}{pattern}"
        if symbol not in self._module.globals:
            types = [vector(register_type(function.dtype), w) for w in widths]
            kind = ir.FunctionType(vector(register_type(function.result), width), types)
            made = ir.Function(self._module, kind, symbol)
            made.linkage = "internal"
            made.attributes.add("alwaysinline")
            _emit_lanes(made, scalar, function, width)
        return self._module.globals[symbol]


def _emit_lanes(
    made: ir.Function, scalar: ir.Function, function: ElementwiseFunction, width: int
) -> None:
    """Lanes to the stack, the scalar function on one after the other, and back."""
    builder = ir.IRBuilder(made.append_basic_block("entry"))
    element, result = memory_type(function.dtype), memory_type(function.result)
    places = [_stored(builder, a, element) if width_of(a) else None for a in made.args]
    target = _stack(builder, vector(result, width))

    def lane(i: Number, _: Carried) -> Carried:
        pairs = zip(places, made.args, strict=True)
        given = [a if p is None else _lane(builder, p, i, element, a) for p, a in pairs]
        value = builder.call(scalar, given)
        value = builder.zext(value, I8) if value.type == I1 else value
        builder.store(value, _place(builder, target, i, result))
        return []

    loop(builder, 0, width, 1, [], lane)
    _unroll_once_vectorised(made.module, made.basic_blocks[1].terminator)
    value = builder.load(target, align=ALIGNMENT, typ=vector(result, width))
    builder.ret(
        builder.trunc(value, vector(I1, width)) if function.result.kind == "bool" else value
    )


def _stack(builder: ir.IRBuilder, of: ir.Type) -> ir.Value:
    """A place on the stack, aligned as vectors are."""
    place = builder.alloca(of)
    place.align, place.type = ALIGNMENT, POINTER  # llvmlite would have it typed
    return place


def _stored(builder: ir.IRBuilder, value: ir.Value, element: ir.Type) -> ir.Value:
    kind = vector(element, width_of(value))
    place = _stack(builder, kind)
    value = builder.zext(value, kind) if element_type(value) == I1 else value
    builder.store(value, place, align=ALIGNMENT)
    return place


def _place(builder: ir.IRBuilder, base: ir.Value, i: Number, element: ir.Type) -> ir.Value:
    return builder.gep(base, [as_value(i)], source_etype=element)


def _lane(
    builder: ir.IRBuilder, base: ir.Value, i: Number, element: ir.Type, like: ir.Value
) -> ir.Value:
    value = builder.load(_place(builder, base, i, element), typ=element)
    return builder.trunc(value, I1) if element_type(like) == I1 else value


def _kept(builder: ir.IRBuilder, value: ir.Value, mask: ir.Value) -> ir.Value:
    """A vector with its first lane wherever the mask is not set."""
    if not width_of(value):
        return value
    first = builder.extract_element(value, ir.Constant(I32, 0))
    return builder.select(mask, value, spread(builder, first, width_of(value)))


class _LoopMark(ir.values.MDValue):  # type: ignore[misc]  # llvmlite has no type stubs
    """A loop's metadata, which LLVM tells from other loops' by its reference to itself."""

    def descr(self, buf: list[str]) -> None:
        """Appends the node's text."""
        operands = ", ".join(o.get_reference() for o in (self, *self.operands))
        buf += [f"distinct !{{ {operands} }}", "\n"]


def _unroll_once_vectorised(module: ir.Module, branch: ir.Instruction) -> None:
    """Asks LLVM to unroll the loop that ends in `branch`, but only after it was vectorised.

    To demand that it be vectorised would make LLVM complain where it cannot.
    """
    unrolled = module.add_metadata(["llvm.loop.unroll.full"])
    marks = [module.add_metadata(["llvm.loop.vectorize.followup_vectorized", unrolled])]
    branch.set_metadata("llvm.loop", _LoopMark(module, marks, str(len(module.metadata))))
