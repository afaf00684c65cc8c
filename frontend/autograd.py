"""Gradients: from the tape to a graph, through the differentiation pass, and back to tensors.

`backward()` reads the tape into a forward graph, derives the backward graph from it and runs that:
on arrays in eager mode, as further nodes while tracing.  The derived graph depends only on what was
applied to what (the tape's structure), so it is kept and a loop derives it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from ..compiler import dtypes
from ..compiler.autodiff.vjp import backward_graph, mark_grad
from ..compiler.aval import size_of
from ..compiler.evaluate import interpret
from ..compiler.ir import Graph, Loc, Node, Value
from ..compiler.quiet import quiet
from .context import Mode, current, set_mode
from .core import Array, Storage, TensorBase, from_array, shape_of
from .functions.dtype_names import LEGACY_NAMES
from .tape import apply_all
from .tape_reading import (
    Slot,
    Tape,
    Wanted,
    forward_graph,
    payload_of,
    read_tape,
    structure_of,
)
from .trace import Trace

if TYPE_CHECKING:
    from .tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Plan:
    """A derived backward graph and where its inputs come from.

    Attributes:
        residuals: which values of the forward pass its first inputs are.
        steps, outputs: the graph as a list of NumPy calls, filled on first use.
    """

    graph: Graph
    residuals: list[Slot]
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


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


def _derive(tape: Tape) -> Plan:
    from ..compiler.passes.simplify import run as simplify  # here, since importing it takes long

    forward, slots, leaves = forward_graph(tape)
    backward, residuals = backward_graph(forward, leaves)
    kept = [slots[value] for value in residuals]
    return Plan(simplify(backward), kept)


def _plan(tape: Tape) -> Plan:
    key = structure_of(tape)
    plan = _plans.get(key)
    return plan if plan is not None else _plans.remember(key, _derive(tape))


# --- running --------------------------------------------------------------------------------------


def _residual(tape: Tape, slot: Slot) -> Any:
    number, index = slot
    if number < 0:
        return tape.externals[index]
    outputs = tape.entries[number].outputs
    if outputs is None:
        raise _freed()
    return outputs[index]


def _freed() -> RuntimeError:
    return RuntimeError(
        "Trying to backward through the graph a second time (or directly access saved tensors "
        "after they have already been freed). Saved intermediate values of the graph are freed "
        "when you call .backward() or autograd.grad(). Specify retain_graph=True if you need to "
        "backward through the graph a second time or if you need to access saved tensors after "
        "calling backward."
    )


def _require_unwritten(tape: Tape, plan: Plan) -> None:
    """Raises if memory that the backward graph reads was written in place since it was taped."""
    for number, index in plan.residuals:
        if number < 0:
            mark = tape.marks[index]
        else:
            entry = tape.entries[number]
            mark = entry.written[len(entry.inputs) + index]
        if mark is not None and mark[0].writes() != mark[1]:
            raise _overwritten(_residual(tape, (number, index)), *mark)


def _overwritten(payload: Any, storage: Storage, version: int) -> RuntimeError:
    name = LEGACY_NAMES[dtypes.from_numpy(payload.dtype).long_name]
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: [torch.{name}Tensor {list(payload.shape)}] is at version {storage.writes()}; "
        f"expected version {version} instead. Clone it before the write, or write to a new tensor."
    )


def _run_arrays(plan: Plan, inputs: Sequence[Array]) -> list[Array]:
    """The backward graph on arrays, as a flat list of calls."""
    if not plan.outputs:
        _flatten(plan)
    values = list(inputs)
    for reference, operands, params, single in plan.steps:
        out = quiet.run(reference, *[values[o] for o in operands], **params)
        if single:
            values.append(out)
        else:
            values.extend(out)
    # An output that is an input, or that another leaf has, must not become a gradient as it is.
    taken = set(range(len(inputs)))
    outputs = []
    for place in plan.outputs:
        outputs.append(np.array(values[place]) if place in taken else values[place])
        taken.add(place)
    return outputs


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
        plan.steps.append((node.prim.reference, operands, dict(node.params), single))
    plan.outputs = [numbers[o] for o in graph.outputs]


def _run_traced(trace: Trace, plan: Plan, inputs: Sequence[Value], tape: Tape) -> list[Value]:
    """The backward graph as further nodes of the trace, with the lines of the forward pass."""
    places: list[Loc] = []
    for entry in tape.entries:
        for output in entry.outputs or ():
            if isinstance(output, Value):
                places.extend(trace.locs.get(output.node, ()))
    fallback = mark_grad(places[-1:])

    def replay(node: Node, operands: list[Value]) -> Sequence[Value]:
        sources = {loc for o in operands for loc in trace.locs.get(o.node, ())}
        return trace.replay(node, operands, mark_grad(sorted(sources)[:1]) or fallback)

    value_of = interpret(plan.graph, inputs, replay)
    return [value_of(output) for output in plan.graph.outputs]


def _run_taped(plan: Plan, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The backward graph on tensors, itself taped (`create_graph=True`)."""

    def run(node: Node, operands: list[Tensor]) -> Sequence[Tensor]:
        return apply_all(node.prim, operands, dict(node.params))

    value_of = interpret(plan.graph, inputs, run)
    return [value_of(output) for output in plan.graph.outputs]


def _as_tensor(tape: Tape, slot: Slot) -> Tensor:
    """A residual as a tensor that continues its own history."""
    payload = _residual(tape, slot)
    trace = current().trace
    tensor = trace.wrap(payload) if trace is not None else from_array(payload)
    number, index = slot
    if number >= 0:
        tensor.entry, tensor.index, tensor._requires_grad = tape.entries[number], index, True
        return tensor
    for leaf, place in tape.leaves.items():
        if place == slot:
            return leaf
    return tensor


def cotangents_of_leaves(
    roots: Sequence[Tensor],
    seeds: Sequence[Tensor],
    create_graph: bool,
    retain_graph: bool,
    wanted: Wanted | None = None,
) -> dict[Tensor, Tensor]:
    """The gradient of each leaf behind `roots` and of the `wanted` results, given cotangents."""
    tape = read_tape(roots, wanted or {})
    if not tape.leaves:
        return {}
    plan = _plan(tape)
    grads: list[Tensor]
    trace = current().trace
    _require_unwritten(tape, plan)
    if create_graph:
        grads = _run_taped(plan, [*(_as_tensor(tape, s) for s in plan.residuals), *seeds])
    else:
        residuals = [_residual(tape, slot) for slot in plan.residuals]
        inputs = [*residuals, *map(payload_of, seeds)]
        if trace is not None:
            grads = [trace.wrap(v) for v in _run_traced(trace, plan, inputs, tape)]
        else:
            grads = [from_array(array) for array in _run_arrays(plan, inputs)]
    if not (retain_graph or create_graph):
        for entry in tape.entries:
            entry.outputs = None
    return dict(zip(tape.leaves, grads, strict=True))


def _owned(grad: Tensor) -> Tensor:
    """A gradient whose memory is its own and in order; one that views other memory is copied."""
    array = grad.array
    if array is None or (array.base is None and array.flags.c_contiguous):
        return grad
    return from_array(np.array(array, order="C"))


# --- the public interface -------------------------------------------------------------------------


def backward(
    tensor: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Adds the gradient of `tensor` to the `.grad` of every leaf that it depends on."""
    _require_history(tensor)
    seed = _seed(tensor, gradient)
    trace = current().trace
    if trace is not None:
        trace.roots.append(trace.read(tensor))
    keep = create_graph if retain_graph is None else retain_graph
    for leaf, grad in cotangents_of_leaves([tensor], [seed], create_graph, keep).items():
        accumulate(leaf, grad, create_graph)


def accumulate(leaf: Tensor, grad: Tensor, create_graph: bool = False) -> None:
    """Adds to a leaf's `.grad`: in place if there is one already."""
    traced = current().trace is not None
    known = leaf.grad if traced else leaf._grad
    if known is None:
        leaf.grad = grad if create_graph else _owned(grad)
    elif create_graph:
        leaf.grad = known + grad
    elif traced:
        with grad_mode(False):
            known.add_(grad)
    else:
        add: Any = np.add
        quiet.run(add, known.array, grad.array, known.array)
        known.storage.version += 1


def _require_history(tensor: Tensor) -> None:
    if not tensor.requires_grad:
        raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")


def _seed(tensor: Tensor, gradient: Tensor | None) -> Tensor:
    from .create import ones_like

    if gradient is None:
        if size_of(shape_of(tensor)) != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        return ones_like(tensor)
    if not isinstance(gradient, TensorBase):
        raise TypeError(
            f"gradients can be either Tensors or None, but got {type(gradient).__name__}"
        )
    if tuple(gradient.shape) != tuple(tensor.shape):
        raise RuntimeError(
            f"Mismatch in shape: grad_output[0] has a shape of {gradient.shape} and output[0] has "
            f"a shape of {tensor.shape}."
        )
    return gradient


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`; no `.grad` is touched.

    Args:
        outputs: scalars, unless `grad_outputs` gives their cotangents.
        inputs: leaves or intermediate results.
        grad_outputs: cotangents of the outputs, of their shapes.
        retain_graph: keep what `backward` needs, for a second time.
        create_graph: make the gradients differentiable themselves.
        allow_unused: give None for an input that no output depends on, instead of raising.

    Raises:
        RuntimeError: an output has no history, or an input is unused.
    """
    _require_tensors("outputs", outputs)
    _require_tensors("inputs", inputs)
    heads = [outputs] if isinstance(outputs, TensorBase) else list(outputs)
    targets = [inputs] if isinstance(inputs, TensorBase) else list(inputs)
    given = [grad_outputs] if isinstance(grad_outputs, TensorBase) else grad_outputs
    seeds = [_seed(h, g) for h, g in zip(heads, given or [None] * len(heads), strict=True)]
    for head in heads:
        _require_history(head)
    keep = create_graph if retain_graph is None else retain_graph
    wanted = {(t.entry, t.index): t for t in targets if t.entry is not None}
    found = cotangents_of_leaves(heads, seeds, create_graph, keep, wanted)
    owned = {t: g if create_graph else _owned(g) for t, g in found.items()}
    results = [owned.get(t) for t in targets]
    if not allow_unused and any(r is None for r in results):
        raise RuntimeError(
            "One of the differentiated Tensors appears to not have been used in the graph. Set "
            "allow_unused=True if this is the desired behavior."
        )
    return tuple(results)


def _require_tensors(what: str, given: Any) -> None:
    for tensor in [given] if isinstance(given, (TensorBase, str)) else given:
        if not isinstance(tensor, TensorBase):
            raise RuntimeError(f"all {what} have to be Tensors, but got {type(tensor).__name__}")


class grad_mode:  # noqa: N801  # PyTorch's context managers have lower-case names
    """Turns the tape on or off for a block or, as a decorator, for a function."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._previous: list[Mode] = []

    def __enter__(self) -> None:
        mode = current()
        self._previous.append(mode)
        set_mode(Mode(mode.trace, self._enabled))

    def __exit__(self, *_: object) -> None:
        set_mode(self._previous.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, run in this mode."""

        @wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with grad_mode(self._enabled):
                return function(*args, **kwargs)

        return wrapped


class no_grad(grad_mode):  # noqa: N801  # as above
    """Operations inside are not taped."""

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        super().__init__(False)
        self._function = function

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """`@no_grad` without parentheses decorates at once, as PyTorch allows."""
        return super().__new__(cls) if function is None else no_grad()(function)


class enable_grad(grad_mode):  # noqa: N801  # as above
    """Operations inside are taped, also within `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


inference_mode = no_grad


class set_grad_enabled(grad_mode):  # noqa: N801  # as above
    """Sets whether operations are taped: for a block, or for good when called as a function."""

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(
                "set_grad_enabled(): argument 'enabled' (position 1) must be bool, not "
                f"{type(mode).__name__}"
            )
        super().__init__(mode)
        self._previous.append(current())
        set_mode(Mode(current().trace, mode))

    def __enter__(self) -> None:
        set_mode(Mode(current().trace, self._enabled))


def is_grad_enabled() -> bool:
    """Whether operations are taped now."""
    return current().grad
