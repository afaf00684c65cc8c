"""The graph IR: immutable, interned nodes in SSA form, and graphs that name and locate them.

A node's identity is its primitive, its operands and its parameters; building the same node twice
gives the same object.  Common subexpressions and dead code therefore never exist: a graph is what
its outputs reach.  Names and source locations belong to the `Graph`, not to the node, so that
moving a line changes no identity and no cache key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

from .aval import Aval, Dim, SymDim, dim_symbols, evaluate_dim
from .errors import IRError

if TYPE_CHECKING:
    from .primitive import Primitive

Params = Mapping[str, Any]
Signature: TypeAlias = "tuple[Primitive, tuple[tuple[str, object], ...]]"


class Value:
    """One result of a node.  Compared by identity, which interning makes structural equality.

    `is_input`: whether it is an input of a graph rather than computed.
    """

    __slots__ = ("__weakref__", "aval", "index", "is_input", "node")

    def __init__(self, node: Node, index: int, aval: Aval) -> None:
        self.node, self.index, self.aval = node, index, aval
        self.is_input = node.prim.name == "input"

    def __repr__(self) -> str:
        suffix = f"#{self.index}" if len(self.node.results) > 1 else ""
        return f"<{self.node.prim.name}{suffix}: {self.aval}>"


class Node:
    """A primitive applied to operands.  Make one with `make_node`, which interns it.

    `signature` is what it does, whatever its operands: equal for equal primitives and parameters.
    """

    __slots__ = ("__weakref__", "operands", "params", "prim", "results", "signature")

    def __init__(
        self,
        signature: Signature,
        operands: tuple[Value, ...],
        params: Params,
        avals: Sequence[Aval],
    ) -> None:
        self.signature, self.prim = signature, signature[0]
        self.operands, self.params = operands, params
        self.results = tuple([Value(self, i, aval) for i, aval in enumerate(avals)])

    def __repr__(self) -> str:
        return f"<node {self.prim.name} -> {', '.join(str(r.aval) for r in self.results)}>"


_interned: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()


def _param_key(value: object) -> object:
    """Tells apart what `==` does not (1, 1.0 and True; 0.0 and -0.0); nan is equal to itself."""
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, bool):
        return ("bool", value)
    # A list, not a generator: most tuples are short, and every node made comes by here.
    if type(value) is tuple and any([type(v) is not int for v in value]):  # noqa: C419  # as above
        return tuple([_param_key(v) for v in value])
    return value


def make_node(prim: Primitive, operands: tuple[Value, ...], params: dict[str, Any]) -> Node:
    """The one node that applies `prim` to `operands`; its type rule runs if it is new.

    Raises:
        IRError: the type rule rejects the operands.
    """
    items = sorted(params.items()) if len(params) > 1 else params.items()
    return _node((prim, tuple([(k, _param_key(v)) for k, v in items])), operands, dict(items))


def apply_again(node: Node, operands: tuple[Value, ...]) -> Node:
    """The one node that does to `operands` what `node` does to its own."""
    return _node(node.signature, operands, node.params)


def _node(signature: Signature, operands: tuple[Value, ...], params: Params) -> Node:
    key = signature, operands
    node = _interned.get(key)
    if node is None:
        avals = signature[0].infer(tuple([o.aval for o in operands]), params)
        node = _interned.setdefault(key, Node(signature, operands, params, avals))
    return node


class Loc(NamedTuple):
    """A place in the user's program; `grad` marks what differentiation derived from that line."""

    file: str
    line: int
    column: int
    grad: bool = False

    def __str__(self) -> str:
        return f'{"grad " if self.grad else ""}"{self.file}":{self.line}:{self.column}'


@dataclass(frozen=True)
class Check:
    """A condition (a bool scalar) that must hold when the program runs, and what to say if not."""

    condition: Value
    message: str
    loc: Loc | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """A program: inputs, outputs, ordered checks, and the names and lines of what happens between.

    Attributes:
        name: the function's name.
        inputs: `input` values, in order.
        outputs: the results, in order.
        donations: for each output, the position of the input whose memory it replaces (the new
            value of a piece of state), or None for a fresh result.
        checks: conditions, tested in this order before anything is written that the caller can see.
        names: readable names of some values.
        locs: the user's lines that each node came from.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    donations: tuple[int | None, ...] = ()
    checks: tuple[Check, ...] = ()
    names: Mapping[Value, str] = field(default_factory=dict)
    locs: Mapping[Node, tuple[Loc, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.donations:
            object.__setattr__(self, "donations", (None,) * len(self.outputs))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node that the outputs and checks reach, inputs left out, operands before users."""
        roots = [*(c.condition for c in self.checks), *self.outputs]
        return tuple(n for n in topological(roots) if n.prim.name != "input")

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The named sizes, in the order in which the inputs mention them."""
        seen: dict[str, None] = {}
        for value in self.inputs:
            for dim in value.aval.shape:
                seen.update(dict.fromkeys(sorted(dim_symbols(dim))))
        return tuple(seen)

    @cached_property
    def users(self) -> Mapping[Value, tuple[Node, ...]]:
        """For each value the nodes that read it, in order."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for operand in dict.fromkeys(node.operands):
                found.setdefault(operand, []).append(node)
        return {value: tuple(nodes) for value, nodes in found.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self.inputs, self.outputs, self.donations))

    def _identity(self) -> tuple[object, ...]:
        live = {*self.inputs, *(r for n in self.nodes for r in n.results)}
        names = {v: n for v, n in self.names.items() if v in live}
        locs = {n: set(locs) for n, locs in self.locs.items() if n in set(self.nodes) and locs}
        parts = (self.inputs, self.outputs, self.donations, self.checks)
        return (self.name, *parts, names, locs)

    def __str__(self) -> str:
        from .text.printer import print_graph

        return print_graph(self)

    def replace(self, **changes: Any) -> Graph:
        """A copy with some fields changed."""
        return replace(self, **changes)


def topological(roots: Iterable[Value]) -> Iterator[Node]:
    """The nodes that `roots` depend on, each after its operands, in a fixed order (depth first)."""
    done: set[Node] = set()
    stack = [root.node for root in reversed(list(roots))]
    while stack:
        node = stack.pop()
        if node in done:
            continue
        above = [o.node for o in reversed(node.operands) if o.node not in done]
        if above:
            stack.append(node)
            stack += above
        else:
            done.add(node)
            yield node


def bind_sizes(shape_or_param: Any, sizes: Mapping[str, int]) -> Any:
    """A parameter with each symbolic size replaced by its number."""
    if isinstance(shape_or_param, SymDim):
        return evaluate_dim(shape_or_param, sizes)
    if isinstance(shape_or_param, tuple):
        return tuple(bind_sizes(p, sizes) for p in shape_or_param)
    return shape_or_param


def solve_sizes(avals: Sequence[Aval], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The sizes of the symbols in `avals`, read off the shapes of actual arguments.

    Raises:
        IRError: a shape contradicts its aval, or a symbol stands in no argument by itself.
    """
    sizes: dict[str, int] = {}
    later: list[tuple[int, int, Dim, int]] = []
    for position, (aval, shape) in enumerate(zip(avals, shapes, strict=True)):
        if len(aval.shape) != len(shape):
            raise IRError(f"argument {position}: expected {aval}, got shape {tuple(shape)}")
        for axis, (dim, size) in enumerate(zip(aval.shape, shape, strict=True)):
            name = _plain_symbol(dim)
            if name is not None and name not in sizes:
                sizes[name] = size
            elif dim != size:
                later.append((position, axis, dim, size))
    for position, axis, dim, size in later:
        missing = dim_symbols(dim) - sizes.keys()
        if missing:
            raise IRError(f"the size {min(missing)} is the size of no argument by itself")
        if evaluate_dim(dim, sizes) != size:
            raise IRError(
                f"argument {position}: expected {avals[position]}, got size {size} in dimension "
                f"{axis}"
            )
    return sizes


def _plain_symbol(dim: Dim) -> str | None:
    if isinstance(dim, SymDim) and len(dim.terms) == 1:
        ((monomial, coefficient),) = dim.terms
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], str):
            return monomial[0]
    return None
