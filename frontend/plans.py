"""Derivatives of what was taped: from the tape to a graph, through a pass, and back to tensors.

The tape is read into a forward graph.  A pass derives from it a graph of cotangents (`pull_back`)
or of tangents (`push_forward`), for one seed or for a batch of them.  It runs on arrays in eager
mode, as further nodes while tracing, or on tensors that are taped themselves.  The derived graph
depends only on what was applied to what (the tape's structure), so that it is kept, and a loop
derives it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..compiler.autodiff.batch import batch
from ..compiler.autodiff.jvp import tangent_graph
from ..compiler.autodiff.vjp import backward_graph, mark_grad
from ..compiler.aval import Aval, Dim
from ..compiler.evaluate import interpret
from ..compiler.ir import Graph, Loc, Node, Value
from ..compiler.primitives.batching import repeated
from ..compiler.quiet import quiet
from .context import current
from .core import Array, Storage, from_array
from .functions.dtype_names import LEGACY_NAMES
from .grad_mode import grad_mode
from .nested import NestedTrace
from .python_primitive import Context, PythonPrimitive
from .residuals import residuals_of
from .tape import apply_all
from .tape_reading import Slot, Tape, aval_of, forward_graph, payload_of, read_tape, structure_of
from .trace import Trace
from .watch.events import unwatched

if TYPE_CHECKING:
    from .tensor import Tensor


class Derivative(NamedTuple):
    """What to derive: cotangents, or else tangents; of a batch of seeds if it has a size."""

    pull: bool = True
    size: Dim | None = None


@dataclass
class Plan:
    """A derived graph and where its inputs come from.

    Attributes:
        residuals: which values of the forward pass its first inputs are; seeds follow.
        steps, outputs: the graph as a list of NumPy calls, filled on first use.
        loud: whether Python code is among them, whose operations silence NumPy one by one.
    """

    graph: Graph
    residuals: list[Slot]
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    loud: bool = False


class _Plans(dict[Any, Plan]):
    """Plans by the tape's structure; a bounded number of them."""

    limit = 512

    def remember(self, key: Any, plan: Plan) -> Plan:
        if len(self) >= self.limit:
            del self[next(iter(self))]
        self[key] = plan
        return plan


_plans = _Plans()


# --- deriving -------------------------------------------------------------------------------------


def _derive(tape: Tape, kind: Derivative) -> Plan:
    from ..compiler.passes import simplify  # here, since importing it takes long

    forward, slots, wanted = forward_graph(tape)
    derive = backward_graph if kind.pull else tangent_graph
    graph, residuals = derive(forward, wanted, slots)
    if kind.size is not None:
        seeded = [i >= len(residuals) for i in range(len(graph.inputs))]
        graph, flags = batch(graph, kind.size, seeded)
        pairs = zip(graph.outputs, flags, strict=True)
        graph = graph.replace(outputs=tuple(o if b else repeated(kind.size, o) for o, b in pairs))
    return Plan(simplify.run_differentiable(graph), [slots[value] for value in residuals])


def _plan(tape: Tape, kind: Derivative) -> Plan:
    key = (kind, structure_of(tape))
    plan = _plans.get(key)
    return plan if plan is not None else _plans.remember(key, _derive(tape, kind))


# --- running --------------------------------------------------------------------------------------


def _require_unwritten(tape: Tape, plan: Plan) -> None:
    """Raises if memory that the derived graph reads was written in place since it was taped."""
    for number, index in plan.residuals:
        if number < 0:
            mark, payload = tape.marks[index], tape.externals[index]
        else:
            entry = tape.entries[number]
            place = len(entry.inputs) + index
            mark = entry.written[place] if place < len(entry.written) else None
            payload = entry.outputs[index] if isinstance(entry.outputs, tuple) else None
        if mark is not None and mark[0].writes() != mark[1]:
            raise overwritten(aval_of(payload), *mark)


def overwritten(aval: Aval, storage: Storage, version: int) -> RuntimeError:
    """The error of a value that a gradient needs and that was written in place."""
    name = LEGACY_NAMES[aval.dtype.long_name]
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: [torch.{name}Tensor {list(aval.shape)}] is at version {storage.writes()}; "
        f"expected version {version} instead. Clone it before the write, or write to a new tensor."
    )


def _run_arrays(plan: Plan, inputs: Sequence[Any]) -> list[Array]:
    """The derived graph on arrays, as a flat list of calls."""
    if not plan.outputs:
        _flatten(plan)
    values = list(inputs)
    if plan.loud:
        _run_steps(plan, values)
    else:
        quiet.run(_run_steps, plan, values)
    # An output that is an input, or that another leaf has, must not become a gradient as it is.
    taken = set(range(len(inputs)))
    outputs = []
    for place in plan.outputs:
        outputs.append(np.array(values[place]) if place in taken else values[place])
        taken.add(place)
    return outputs


def _run_steps(plan: Plan, values: list[Any]) -> None:
    """Appends what each step computes."""
    for reference, operands, params, single in plan.steps:
        given = [values[o] for o in operands]
        out = reference(*given, **params)
        if single:
            values.append(out)
        else:
            values.extend(out)


def _numbering(graph: Graph) -> dict[Value, int]:
    results = [r for node in graph.nodes for r in node.results]
    return {value: number for number, value in enumerate((*graph.inputs, *results))}


def _flatten(plan: Plan) -> None:
    """Numbers the values: the inputs, then the results in order."""
    graph = plan.graph
    numbers = _numbering(graph)
    for node in graph.nodes:
        operands = tuple(numbers[o] for o in node.operands)
        single = len(node.results) == 1
        reference = node.prim.reference
        plan.steps.append((reference, operands, dict(node.params), single))
    plan.outputs = [numbers[o] for o in graph.outputs]
    plan.loud = any(isinstance(node.prim, PythonPrimitive) for node in graph.nodes)


def _run_traced(trace: Trace, plan: Plan, inputs: Sequence[Any], tape: Tape) -> list[Tensor]:
    """The derived graph as further nodes of the trace, with the lines of the forward pass."""
    places: list[Loc] = []
    for entry in tape.entries:
        for output in entry.outputs or ():
            if isinstance(output, Value):
                places.extend(trace.locs.get(output.node, ()))
    fallback = mark_grad(places[-1:])

    def replay(node: Node, operands: list[Any]) -> Sequence[Any]:
        if isinstance(node.prim, PythonPrimitive):
            tensors = [o if isinstance(o, Context) else trace.wrap(o) for o in operands]
            with grad_mode(False):
                results = node.prim.expand(tensors, dict(node.params))
            return [trace.read(r) for r in results]
        sources = {loc for o in operands for loc in trace.locs.get(o.node, ())}
        return trace.replay(node, operands, mark_grad(sorted(sources)[:1]) or fallback)

    users = any(isinstance(node.prim, PythonPrimitive) for node in plan.graph.nodes)
    with nullcontext() if users else unwatched():
        value_of = interpret(plan.graph, inputs, replay)
        return [trace.wrap(value_of(output)) for output in plan.graph.outputs]


def on_tensors(node: Node, operands: list[Any]) -> Sequence[Tensor]:
    """One node of a graph applied to tensors, taped as usual."""
    params = dict(node.params)
    if isinstance(node.prim, PythonPrimitive):
        return node.prim.expand(operands, params)
    return apply_all(node.prim, operands, params)


def _run_taped(plan: Plan, inputs: Sequence[Any]) -> list[Tensor]:
    with grad_mode(True):
        value_of = interpret(plan.graph, inputs, on_tensors)
        return [value_of(output) for output in plan.graph.outputs]


def _as_tensor(tape: Tape, slot: Slot, payload: Any) -> Any:
    """A residual as a tensor that continues its own history."""
    if isinstance(payload, Context):
        return payload
    tensor = _outside(tape, slot, payload)
    number, index = slot
    if number >= 0:
        tensor.entry, tensor.index, tensor._requires_grad = tape.entries[number], index, True
        return tensor
    for leaf, place in tape.leaves.items():
        if place == slot:
            return leaf
    return tensor


def _outside(tape: Tape, slot: Slot, payload: Any) -> Tensor:
    """A residual as a tensor of the trace, or the eager world, that it was taped in."""
    level = _level(tape, slot)
    return level.wrap(payload) if isinstance(payload, Value) else from_array(payload)


def _level(tape: Tape, slot: Slot) -> Any:
    number, index = slot
    return tape.levels[index] if number < 0 else tape.entries[number].level


def _here(tape: Tape, slot: Slot, payload: Any) -> Any:
    """A residual as a payload of the current trace; `vmap`'s finds what was taped outside of it."""
    trace = current().trace
    foreign = isinstance(trace, NestedTrace) and _level(tape, slot) is not trace
    if trace is None or not foreign or isinstance(payload, Context):
        return payload
    return trace.read(_outside(tape, slot, payload))


def _run(tape: Tape, kind: Derivative, seeds: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    plan = _plan(tape, kind)
    _require_unwritten(tape, plan)
    kept = residuals_of(tape, plan.residuals)
    if create_graph:
        continued = map(_as_tensor, [tape] * len(kept), plan.residuals, kept)
        return _run_taped(plan, [*continued, *seeds])
    found = map(_here, [tape] * len(kept), plan.residuals, kept)
    inputs = [*found, *map(payload_of, seeds)]
    trace = current().trace
    if trace is not None:
        return _run_traced(trace, plan, inputs, tape)
    return [from_array(array) for array in _run_arrays(plan, inputs)]


# --- the interface --------------------------------------------------------------------------------


def pull_back(
    roots: Sequence[Tensor],
    seeds: Sequence[Tensor],
    wanted: Sequence[Tensor] | None = None,
    *,
    create_graph: bool | None = False,
    retain_graph: bool = False,
    size: Dim | None = None,
) -> dict[Tensor, Tensor]:
    """The gradient of each leaf behind `roots`, or of each wanted tensor among them.

    Args:
        roots: taped tensors.
        seeds: the cotangent of each root.
        wanted: leaves or results; those that no root depends on are left out of the result.
        create_graph: whether the gradients are taped themselves; None if they depend on a leaf
            that is not wanted.
        retain_graph: whether the tape may be read again.
        size: of a batch: seeds and gradients have a first dimension of this size.
    """
    tape = read_tape(roots, wanted)
    if not tape.wanted:
        return {}
    taped = _others_vary(tape) if create_graph is None else create_graph
    grads = _run(tape, Derivative(True, size), seeds, taped)
    if not (retain_graph or taped):
        for entry in tape.entries:
            entry.outputs = None
    return dict(zip(tape.wanted, grads, strict=True))


def push_forward(
    roots: Sequence[Tensor], tangents: dict[Tensor, Tensor], *, size: Dim | None = None
) -> list[Tensor]:
    """The tangent of each root, given those of some leaves or results; see `pull_back`.

    The tangents are taped if they depend on another leaf or on the given tangents' history.
    """
    tape = read_tape(roots, list(tangents))
    seeds = [tangents[t] for t in tape.wanted]
    taped = current().grad and (_others_vary(tape) or any(s._requires_grad for s in seeds))
    return _run(tape, Derivative(False, size), seeds, taped)


def _others_vary(tape: Tape) -> bool:
    """Whether something that is not asked about wants a gradient, too."""
    return current().grad and any(leaf not in tape.wanted for leaf in tape.leaves)


def varies_apart_from(tensor: Tensor, leaves: Sequence[Tensor]) -> bool:
    """Whether a tensor depends on a leaf that is not among `leaves`."""
    return current().grad and tensor.requires_grad and _others_vary(read_tape([tensor], leaves))
