"""The history of traced tensors as a graph that can be differentiated any number of times.

The graph that tracing records does not tell a detached tensor from the one it was detached from,
nor a custom function from the operations within it.  The tape does: what it takes as constant
becomes a `stop_gradient` here, and what has a derivative of its own a `Marker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..compiler.autodiff import batch
from ..compiler.aval import Aval, Dim
from ..compiler.evaluate import interpret
from ..compiler.ir import Graph, Node, Value
from ..compiler.primitive import Cotangents, Primitive
from ..compiler.primitives.batching import repeated, spread
from ..compiler.primitives.create import full_like, graph_input
from ..compiler.primitives.elementwise import stop_gradient
from .context import Mode, using
from .core import TensorBase
from .errors import UntraceableError
from .python_primitive import PythonPrimitive
from .residuals import outputs_of
from .tape import Entry, Source, source_of
from .tape_reading import aval_of
from .trace import Trace, with_constants

if TYPE_CHECKING:
    from .tensor import Tensor

Known: TypeAlias = "dict[Any, Value]"

_positions = count(1 << 20)


def _unexpanded(*_: Any) -> Any:
    raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Marker(Primitive):
    """Results with a derivative of their own; `expand` says what computes them."""

    expand: Callable[[Sequence[Value]], Sequence[Value]] = _unexpanded


def marker(
    name: str,
    types: Sequence[Aval],
    expand: Callable[[Sequence[Value]], Sequence[Value]],
    vjp: Callable[..., Cotangents],
) -> Marker:
    """A marker whose results have some types."""

    def reference(*arrays: Any) -> Any:
        inputs = _inputs(aval_of(np.asarray(a)) for a in arrays)
        outputs = tuple(expand(inputs))
        value_of = interpret(Graph(name, tuple(inputs), outputs), arrays, _computed)
        found = tuple(map(value_of, outputs))
        return found if len(found) != 1 else found[0]

    def type_rule(*_: Aval) -> tuple[Aval, ...]:
        return tuple(types)

    doc = "something with a derivative of its own"
    return Marker(name, type_rule, reference, vjp, None, doc, batch=_batched, expand=expand)


def _computed(node: Node, arrays: Sequence[Any]) -> Sequence[Any]:
    result = node.prim.reference(*arrays, **node.params)
    return result if isinstance(result, tuple) else (result,)


def _inputs(avals: Iterable[Aval]) -> list[Value]:
    """New inputs, of positions that no argument has: equal ones would be one value."""
    return [graph_input(next(_positions), aval) for aval in avals]


def _batched(size: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
    """A marker of a batch: what it expands to, and its VJP rule, for each slice."""
    types = [r.aval.with_shape((size, *r.aval.shape)) for r in node.results]

    def expand(xs: Sequence[Value]) -> Sequence[Value]:
        inputs = _inputs(o.aval for o in node.operands)
        return _for_each(size, inputs, _marker_of(node).expand(inputs), xs)

    def vjp(ct: Any, out: Any, *xs: Value) -> Cotangents:
        cts, outs = (ct, out) if isinstance(ct, tuple) else ((ct,), (out,))
        seeds = [full_like(o, 0) if c is None else c for c, o in zip(cts, outs, strict=True)]
        inputs, results, given = (
            _inputs(v.aval for v in values)
            for values in (node.operands, node.results, node.results)
        )
        single = len(results) == 1
        pulled = node.prim.require_vjp()(
            given[0] if single else tuple(given), results[0] if single else tuple(results), *inputs
        )
        present = [p for p in pulled if p is not None]
        each = iter(_for_each(size, [*inputs, *results, *given], present, [*xs, *outs, *seeds]))
        return [None if p is None else next(each) for p in pulled]

    return marker(node.prim.name, types, expand, vjp).bind(*spread(size, node, operands))


def _marker_of(node: Node) -> Marker:
    assert isinstance(node.prim, Marker)
    return node.prim


def _for_each(
    size: Dim, inputs: Sequence[Value], outputs: Sequence[Value], operands: Sequence[Value]
) -> list[Value]:
    """Values that are computed from some inputs, for each slice of the operands."""
    graph = Graph("slice", tuple(inputs), tuple(outputs))
    made, flags = batch(graph, size, [True] * len(inputs), "same")
    found = inlined(made.inputs, made.outputs, operands)
    return [x if flag else repeated(size, x) for x, flag in zip(found, flags, strict=True)]


def expanded(graph: Graph) -> Graph:
    """The graph with what its markers stand for in their place."""

    def bind(node: Node, operands: list[Value]) -> Sequence[Value]:
        if isinstance(node.prim, Marker):
            return node.prim.expand(operands)
        return node.prim.bind(*operands, **node.params)

    value_of = interpret(graph, graph.inputs, bind)
    return graph.replace(outputs=tuple(map(value_of, graph.outputs)))


def inlined(
    inputs: Sequence[Value], outputs: Sequence[Value], operands: Sequence[Value]
) -> list[Value]:
    """Values that are computed from some inputs, computed from operands in their place."""
    value_of = interpret(
        Graph("inlined", tuple(inputs), tuple(outputs)),
        operands,
        lambda node, xs: node.prim.bind(*xs, **node.params),
    )
    return list(map(value_of, outputs))


def history_of(
    trace: Trace, inputs: Sequence[Value], leaves: Sequence[Tensor], heads: Sequence[Tensor]
) -> Graph:
    """What the tape of a trace says of some tensors, as a graph.

    Args:
        trace: what recorded them.
        inputs: those of the recording, which are the graph's first ones.
        leaves: views from outside, which are its other inputs.
        heads: the tensors.
    """
    views = [graph_input(len(inputs) + i, leaf.aval) for i, leaf in enumerate(leaves)]
    moving: Known = dict(zip(leaves, views, strict=True))
    outputs = _History(trace, inputs, {}, moving).follow(heads)
    return Graph(trace.name, (*inputs, *views), tuple(outputs))


class _History:
    """Follows a tape.

    Attributes:
        scope: the inputs that values of the trace are computed from.
        known: what some sources are.
        moving: for leaves, the inputs that they stand for; None if other leaves are constant, too,
            and else these are the trace's inputs.
    """

    def __init__(
        self, trace: Trace, scope: Sequence[Value], known: Known, moving: Known | None
    ) -> None:
        self.trace, self.scope, self.known, self.moving = trace, tuple(scope), known, moving

    def follow(self, tensors: Sequence[Tensor]) -> list[Value]:
        """The values of some tensors."""
        sources = [source_of(tensor) for tensor in tensors]
        for entry in self._behind([s[0] for s in sources if type(s) is tuple]):
            pairs = zip(entry.inputs, entry.sources, strict=True)
            operands = [self._operand(payload, source) for payload, source in pairs]
            self.known.update(
                ((entry, number), result)
                for number, result in enumerate(self._applied(entry, operands))
                if (entry, number) not in self.known
            )
        return [self._operand(self.trace.read(t), s) for t, s in zip(tensors, sources, strict=True)]

    def _behind(self, heads: Sequence[Entry]) -> list[Entry]:
        """The entries that lead to `heads` from what is known, in order of evaluation."""
        found, stack = set(heads), list(heads)
        while stack:
            for source in stack.pop().sources:
                if type(source) is tuple and source not in self.known and source[0] not in found:
                    found.add(source[0])
                    stack.append(source[0])
        return sorted(found, key=lambda entry: entry.order)

    def _operand(self, payload: Any, source: Source) -> Any:
        if source in self.known:
            return self.known[source]
        if not isinstance(payload, Value):
            return payload
        leaf = self._leaf(source)
        if leaf is None:
            return stop_gradient(payload)
        return payload if payload is leaf else _moving_with(payload, leaf)

    def _leaf(self, source: Any) -> Value | None:
        """The input that a leaf stands for; None for constants."""
        if source is None or self.moving is None:
            return None
        position = self.trace.positions.get(source.storage)
        here = None if position is None else self.trace.inputs[position]
        return self.moving.get(source, here)

    def _applied(self, entry: Entry, operands: Sequence[Any]) -> Sequence[Value]:
        if isinstance(entry.primitive, PythonPrimitive):
            return _custom(self.trace, self.scope, entry).bind(*operands, *self.scope)
        primitive: Any = entry.primitive  # no composition: a trace records its steps
        return primitive.bind(*with_constants(primitive, operands), **entry.params)  # type: ignore[no-any-return]  # see above


def _moving_with(payload: Value, leaf: Value) -> Value:
    """A leaf's value after a write that is no part of its history: the gradient is the leaf's."""

    def vjp(ct: Value, *_: Value) -> Cotangents:
        return None, ct

    moved = marker("moved_leaf", [aval_of(payload)], lambda xs: xs[:1], vjp)
    return moved(stop_gradient(payload), leaf)


def _custom(trace: Trace, scope: tuple[Value, ...], entry: Entry) -> Primitive:
    """A custom function, of its operands and of all that its results were computed from."""
    *results, _ = outputs_of(entry, {})
    types = tuple(map(aval_of, results))
    number = len(entry.sources)

    @cache
    def rule() -> tuple[list[Value], list[Value | None]]:
        return _recorded(trace, scope, entry, types)

    def vjp(ct: Any, out: Any, *operands: Value) -> Cotangents:
        cts, outs = (ct, out) if isinstance(ct, tuple) else ((ct,), (out,))
        seeds = [full_like(o, 0) if c is None else c for c, o in zip(cts, outs, strict=True)]
        inputs, grads = rule()
        present = [g for g in grads if g is not None]
        found = iter(
            inlined(inputs, present, [*operands[:number], *outs, *seeds, *operands[number:]])
        )
        return [None if g is None else next(found) for g in grads]

    def expand(operands: Sequence[Value]) -> Sequence[Value]:
        return inlined(scope, results, operands[number:])

    return marker(str(entry.primitive), types, expand, vjp)


def _recorded(
    trace: Trace, scope: tuple[Value, ...], entry: Entry, types: Sequence[Aval]
) -> tuple[list[Value], list[Value | None]]:
    """The backward pass of a custom function, which the trace is resumed for.

    Returns:
        Its inputs (operands, results, cotangents, `scope`), and the operands' cotangents.
    """
    made, outs, seeds = _inputs(map(aval_of, entry.inputs)), _inputs(types), _inputs(types)
    with using(Mode(trace, True)):
        cts = [trace.wrap(seed) for seed in seeds]
        for ct in cts:
            ct._requires_grad = ct.dtype.is_floating_point
        grads = _cotangents(trace, entry, cts)
        known: Known = dict(zip(cts, seeds, strict=True))
        known |= {(entry, number): out for number, out in enumerate(outs)}
        sources = zip(entry.sources, made, strict=True)
        known |= {source: value for source, value in reversed([*sources]) if source is not None}
        inner = _History(trace, (*seeds, *scope), known, None)
        found = iter(inner.follow([g for g in grads if g is not None]))
    if not set(trace.inputs) <= set(scope):
        raise UntraceableError(
            f"the backward pass of {entry.primitive} reads a tensor that the compiled function "
            "does not; pass it through ctx.save_for_backward"
        )
    return [*made, *outs, *seeds, *scope], [None if g is None else next(found) for g in grads]


def _cotangents(trace: Trace, entry: Entry, cts: Sequence[Tensor]) -> list[Tensor | None]:
    """What the user's backward pass makes of cotangents, for each operand."""
    primitive: Any = entry.primitive
    operands = [trace.read(p) if isinstance(p, TensorBase) else p for p in entry.inputs]
    outs = primitive.bind(*operands, **entry.params)
    moving = [ct for ct in cts if ct._requires_grad]
    seeds = [trace.read(ct) if ct._requires_grad else None for ct in cts]
    found = primitive.require_vjp()((*seeds, None), outs, *operands, **entry.params)
    node = next(value.node for value in found if value is not None)
    *_, context = outputs_of(entry, {})
    grads = node.prim.expand([context, *moving], dict(node.params))
    return [None if value is None else grads[value.index] for value in found]
