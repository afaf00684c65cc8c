"""A primitive: one frozen object that holds all that anyone may ask of an operation.

`taut` has few primitives; everything else that users call is composed of them in the front end.  A
part that is missing is a loud `None`: asking for it raises an error that names the primitive and
the part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .aval import Aval
from .dtypes import DType
from .errors import CompileError, IRError
from .ir import Params, Value, make_node


@dataclass(frozen=True)
class Elementwise:
    """Scalar code, the same for each element.

    Attributes:
        python: the expression that a Python kernel evaluates, its operands as `{0}`, `{1}`.
        llvm: for each kind of the *first operand's* dtype ("float", "int", "uint", "bool"; "any"
            serves all) what the LLVM emitter does: an instruction (`fadd`), a comparison (`fcmp
            olt`), or a function of `VectorMath` (`math exp`).
    """

    python: str
    llvm: dict[str, str]


@dataclass(frozen=True)
class ElementwiseFunction(Elementwise):
    """Scalar code that a user wrote: a function that generated code calls by its symbol.

    Attributes:
        symbol: its name in generated code, which tells apart what differs in any way.
        module: an LLVM module that defines the symbol on numbers as registers hold them.
        externs: the functions that the module needs.
        dtype: in which it takes its operands; the kernel's own are converted.
        result: the dtype of its result, likewise.
    """

    symbol: str
    module: str
    externs: tuple[str, ...]
    dtype: DType
    result: DType


@dataclass(frozen=True)
class Reduction:
    """Combines elements along the `dims` parameter.

    Attributes:
        combine: "add", "mul", "max", "min" or "argmax".
    """

    combine: str


@dataclass(frozen=True)
class Movement:
    """Moves or repeats elements: a map from each index of the result to an index of the operand."""


@dataclass(frozen=True)
class Literal:
    """Computes each element from its position alone (`full`, `iota`)."""


@dataclass(frozen=True)
class Gather:
    """Reads rows of its first operand at the positions that its second holds."""


@dataclass(frozen=True)
class Scatter:
    """Writes rows into a copy of its first operand; `combine` is "add" or "set"."""

    combine: str


@dataclass(frozen=True)
class Window:
    """A copy of parts of its operands into windows of the result (`pad`, `concat`, `set_slice`)."""


@dataclass(frozen=True)
class Matmul:
    """A batched matrix product."""


@dataclass(frozen=True)
class Call:
    """A native function, called on contiguous buffers: LAPACK, or a random generator."""

    function: str


@dataclass(frozen=True)
class CallFunction(Call):
    """A native function that a user wrote: `function` is its symbol, as generated code calls it.

    It takes the addresses of operands and results, then all their sizes.

    Attributes:
        ranks: how many dimensions each operand and each result has.
    """

    ranks: tuple[int, ...]


Lowering: TypeAlias = (
    Elementwise | Reduction | Movement | Literal | Gather | Scatter | Window | Matmul | Call
)
Cotangents: TypeAlias = "Sequence[Value | None]"


def no_gradient(*_: Any, **__: Any) -> Cotangents:
    """The VJP rule of what is constant almost everywhere, or whose results are not floats."""
    return ()


@dataclass(frozen=True, eq=False)
class Primitive:
    """An operation of the IR.

    Attributes:
        name: its name in IR text.
        type_rule: `(*avals, **params) -> aval | tuple of avals`; raises IRError.
        reference: `(*arrays, **params) -> array | tuple of arrays`: what it means, in NumPy.
        vjp: `(ct, out, *operands, **params) -> cotangents of the operands`, written in primitives;
            `ct` and `out` are tuples where there are several results.
        lowering: how it becomes part of a kernel.
        doc: one line for `taut ops`.
        from_type: parameters that the result's type implies, so that text leaves them out.
        view: whether eager mode's result shares memory with its first operand.
        batch: the batching rule, for `vmap`; `primitives/batching.py` says what it does.
        label: what kernels and buffers are named after; the primitive's name, unless given.
    """

    name: str
    type_rule: Callable[..., Aval | tuple[Aval, ...]]
    reference: Callable[..., Any]
    vjp: Callable[..., Cotangents] | None
    lowering: Lowering | None
    doc: str
    from_type: tuple[str, ...] = ()
    view: bool = False
    batch: Callable[..., Any] | None = None
    label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)

    def infer(self, avals: tuple[Aval, ...], params: Params) -> tuple[Aval, ...]:
        """Types of the results.  Raises IRError, headed by the primitive's name."""
        try:
            result = self.type_rule(*avals, **params)
        except IRError as error:
            raise IRError(f"{self.name}: {error}") from None
        except TypeError as error:
            got = ", ".join(map(str, avals))
            raise IRError(f"{self.name}: wrong operands or parameters ({got}): {error}") from None
        return result if isinstance(result, tuple) else (result,)

    def bind(self, *operands: Value, **params: Any) -> tuple[Value, ...]:
        """Results of applying the primitive, as graph values."""
        return make_node(self, operands, params).results

    def __call__(self, *operands: Value, **params: Any) -> Value:
        """The first (for most primitives, the only) result, as a graph value."""
        return make_node(self, operands, params).results[0]

    def require_vjp(self) -> Callable[..., Cotangents]:
        """Its VJP rule; CompileError if it has none."""
        if self.vjp is None:
            raise CompileError(f"{self.name} has no VJP rule, so it cannot be differentiated")
        return self.vjp

    def require_lowering(self) -> Lowering:
        """Its lowering; CompileError if it has none."""
        if self.lowering is None:
            raise CompileError(f"{self.name} has no lowering, so it cannot be compiled")
        return self.lowering

    def require_batch(self) -> Callable[..., Any]:
        """Its batching rule; CompileError if it has none."""
        if self.batch is None:
            raise CompileError(f"{self.name} has no batching rule, so vmap cannot map over it")
        return self.batch

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return get, (self.name,)


_registry: dict[str, Primitive] = {}
_users: dict[str, Primitive] = {}


def register(primitive: Primitive) -> Primitive:
    """Makes a primitive known to the text form, the CLI and the tests; names are unique."""
    if primitive.name in _registry:
        raise ValueError(f"a primitive called {primitive.name} exists already")
    _registry[primitive.name] = primitive
    return primitive


def register_user(primitive: Primitive) -> Primitive:
    """Makes a primitive that a user wrote known by its name, which depends on its code.

    One may come again with another gradient; text means the last one.
    """
    _users[primitive.name] = primitive
    return primitive


def get(name: str) -> Primitive:
    """The primitive called `name`; KeyError if there is none."""
    found = _registry.get(name)
    return _users[name] if found is None else found


def all_primitives() -> tuple[Primitive, ...]:
    """Every registered primitive, in the order of declaration; none that users wrote."""
    return tuple(_registry.values())
