"""From a call to a recording.

The function runs once with stand-ins, and what it did becomes a graph and a plan.  The plan
says, in plain data, what each input of the graph is bound to at a call and what becomes of each
output: a result, the new value of a piece of state, or a `.grad`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ..compiler.aval import Aval
from ..compiler.dtypes import f64
from ..compiler.ir import Graph, Value
from ..compiler.primitives.create import graph_input
from .context import Mode, using
from .core import Size, Storage, TensorBase, ViewStep
from .guards import Guard
from .history import history_of
from .outside import Outside
from .plans import pull_back
from .size_guards import Sizes
from .symint import SymInt, plain
from .tape_reading import has_history
from .trace import Binding, GradOf, Trace
from .tree import Structure, flatten, unflatten
from .watch.effects import Effect, Kept
from .watch.numbers import Answer, Expression, HostNumber
from .watch.observer import observed
from .watch.reads import Reads, Varying

if TYPE_CHECKING:
    from .tensor import Tensor


@dataclass(frozen=True, eq=False)
class Alias:
    """A result that is, or views, a tensor that was there before the call.

    That is an argument (by position), a tensor that the function found, or a `.grad`.  `detached`:
    it has no history, even where the tensor that it views has.
    """

    source: int | Tensor | GradOf
    steps: tuple[ViewStep, ...]
    detached: bool = False


@dataclass(frozen=True)
class Fresh:
    """A result in the memory of an output of the graph, seen through `steps`.

    `number`: it is computed from Python's numbers and sizes alone, and becomes a float.
    """

    output: int
    steps: tuple[ViewStep, ...]
    requires_grad: bool
    number: bool = False


@dataclass(frozen=True)
class NamedSizes:
    """A result that is a size, or a shape: numbers only at a call."""

    sizes: Any


@dataclass(frozen=True, eq=False)
class HostResult:
    """A result that is a number which Python computes at each call."""

    expression: Expression


@dataclass(frozen=True, eq=False)
class GradUpdate:
    """A `.grad` to set after the call: from an output of the graph, or to None."""

    target: Tensor | int
    output: int | None


@dataclass(frozen=True)
class BackwardPart:
    """The gradients of a compiled forward function, for `backward()` outside of it.

    Attributes:
        graph: from the function's inputs followed by its differentiable outputs' cotangents to
            gradients.
        outputs: which outputs have a cotangent.
        inputs: which inputs the gradients belong to; those past the function's are `leaves`.
        leaves: views that want a gradient, though what they view does not.
        history: gives the differentiable outputs as a graph of the function's inputs that can be
            differentiated further: see `history.py`.
    """

    graph: Graph
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    leaves: tuple[Tensor, ...]
    history: Callable[[], Graph]


@dataclass(frozen=True, eq=False)
class Recording:
    """All that tracing found out.

    Attributes:
        graph: the whole computation; written state is donated.
        forward: the part of it that the user wrote, without derived gradients.
        bindings: what each input is at a call.
        results: what each leaf of the result is: Alias, Fresh, NamedSizes, or a plain value.
        structure: how the result's leaves nest.
        grads: `.grad`s to set.
        absent_grads: tensors whose `.grad` was None.
        modules: modules that were read, with what they held.
        sizes: what was assumed of named sizes.
        outside: what was made outside, to be taken back if the call fails.
        tensors: positions of the arguments that are tensors, each tensor once.
        same: for positions that held one of these again, its first position.
        guards: on what was read from Python.
        effects: changes to Python's objects; with these, the leaves are those of a pair of the
            result and the values that they are given.
        backward: for results that need a gradient.
    """

    graph: Graph
    forward: Graph
    bindings: tuple[Binding, ...]
    results: tuple[Any, ...]
    structure: Structure
    grads: tuple[GradUpdate, ...]
    absent_grads: tuple[Tensor, ...]
    modules: tuple[tuple[Any, Any], ...]
    sizes: Sizes
    outside: Outside
    tensors: tuple[int, ...]
    same: dict[int, int]
    guards: tuple[Guard | Answer, ...]
    effects: tuple[Effect, ...]
    backward: BackwardPart | None = None

    def finish(self, values: Iterator[Any]) -> Any:
        """What a call returns, given each leaf's value; makes the changes to Python's objects."""
        result = unflatten(self.structure, values)
        if not self.effects:
            return result
        result, given = result
        for effect, changed in zip(self.effects, given, strict=True):
            effect.apply(*effect.target, *changed)
        return result


@dataclass
class _Outputs:
    """The graph's outputs as they are found; a value that lives in one storage is one output."""

    values: list[Value] = field(default_factory=list)
    donations: list[int | None] = field(default_factory=list)
    places: dict[Storage, int] = field(default_factory=dict)

    def add(self, value: Value, donated: int | None = None) -> int:
        self.values.append(value)
        self.donations.append(donated)
        return len(self.values) - 1


@dataclass(frozen=True)
class Leaf:
    """One leaf of the arguments as the trace is to see it: `aval` for tensors and lifted floats."""

    value: Any
    name: str
    aval: Aval | None


def record(
    name: str,
    function: Callable[..., Any],
    leaves: Sequence[Leaf],
    structure: Structure,
    grad: bool,
    sizes: Sizes,
    varying: Varying = frozenset(),
) -> Recording:
    """Runs `function` on stand-ins for `leaves` and returns what it did.

    Raises:
        Exception: whatever the function raises; nothing real has been changed then.
        SizesLearnt: named sizes are equal, so that it must run again.
    """
    trace = Trace(name, sizes)
    try:
        return _record(trace, function, leaves, structure, grad, sizes, varying)
    except BaseException:
        trace.outside.take_back()
        raise
    finally:
        trace.outside.restore_tensors()


def _record(
    trace: Trace,
    function: Callable[..., Any],
    leaves: Sequence[Leaf],
    structure: Structure,
    grad: bool,
    sizes: Sizes,
    varying: Varying,
) -> Recording:
    with using(Mode(trace, grad)):
        same = repeats([leaf.value for leaf in leaves])
        stand_ins: list[Any] = []
        for i, leaf in enumerate(leaves):
            stand_ins.append(stand_ins[same[i]] if i in same else _stand_in(trace, i, leaf))
        args, kwargs = unflatten(structure, iter(stand_ins))
        with observed(varying, sys._getframe()) as observer:
            value = function(*args, **kwargs)
            effects = tuple(observer.effects.made)
            kept = [[_kept(v, observer.reads) for v in effect.values] for effect in effects]
        returned, result_structure = flatten((value, kept) if effects else value)
        outputs = _Outputs()
        results = tuple([_result(trace, outputs, leaf) for leaf in returned])
        grads = tuple(_grad_updates(trace, outputs))
        for storage in trace.written:
            outputs.add(trace.values[storage], trace.positions[storage])
        backward = _backward_part(trace, outputs, returned, results)
    trace.outside.require_unchanged()
    trace.name_state(state_names(function, [module for module, _ in trace.modules.values()]))
    graph = trace.graph(outputs.values, outputs.donations)
    return Recording(
        graph=graph,
        forward=_forward(graph, trace, results),
        bindings=tuple(trace.bindings[: len(graph.inputs)]),
        results=results,
        structure=result_structure,
        grads=grads,
        absent_grads=tuple(t for t in trace.absent_grads if _outlives(trace, t)),
        modules=tuple(trace.modules.values()),
        sizes=sizes,
        outside=trace.outside,
        tensors=tuple(trace.proxies.values()),
        same=same,
        guards=(*observer.reads.guards, *trace.answers),
        effects=effects,
        backward=backward,
    )


def _stand_in(trace: Trace, position: int, leaf: Leaf) -> Any:
    if leaf.aval is None:
        return leaf.value
    if not isinstance(leaf.value, (TensorBase, type(None))):
        return trace.scalar_argument(position, leaf.name)
    needs_grad = leaf.value is not None and leaf.value._requires_grad
    proxy = trace.argument(position, leaf.aval, leaf.name, needs_grad)
    if leaf.value is not None and leaf.value._grad is not None:
        proxy._grad = leaf.value._grad
    return proxy


def repeats(values: Sequence[Any]) -> dict[int, int]:
    """For each tensor that comes again, the position where it was first."""
    first: dict[int, int] = {}
    return {
        i: first[id(value)]
        for i, value in enumerate(values)
        if isinstance(value, TensorBase) and first.setdefault(id(value), i) != i
    }


def _kept(value: Any, reads: Reads) -> Any:
    """A value that an effect is given, with what was there before as leaves."""
    if isinstance(value, tuple):
        return value if hasattr(value, "_fields") else tuple([_kept(v, reads) for v in value])
    if type(value) in (list, dict) and not reads.is_outside(value):
        if isinstance(value, list):
            return [_kept(v, reads) for v in value]
        return {key: _kept(v, reads) for key, v in value.items()}
    if isinstance(value, (TensorBase, SymInt, Size, HostNumber)):
        return value
    return Kept(value)


def _result(trace: Trace, outputs: _Outputs, leaf: Any) -> Any:
    if isinstance(leaf, TensorBase):
        return _tensor_result(trace, outputs, leaf)
    if isinstance(leaf, HostNumber):
        return HostResult(leaf.expression)
    if isinstance(leaf, (SymInt, Size)):
        sizes = plain(tuple(leaf) if isinstance(leaf, Size) else leaf)
        return NamedSizes(Size(sizes) if isinstance(leaf, Size) else sizes)
    return leaf


def _tensor_result(trace: Trace, outputs: _Outputs, leaf: TensorBase) -> Alias | Fresh:
    storage = leaf.storage
    if storage in trace.grad_storages:
        return Alias(GradOf(trace.grad_storages[storage]), leaf.steps)
    if storage in trace.proxies:
        return Alias(trace.proxies[storage], leaf.steps, detached=not leaf._requires_grad)
    if storage.array is not None:
        found: Any = leaf if leaf.base is None else leaf.base
        return Alias(found, leaf.steps[len(found.steps) :])
    if storage not in outputs.places:
        outputs.places[storage] = outputs.add(trace.base_value(leaf))
    taped = leaf._requires_grad and has_history(leaf)  # type: ignore[arg-type]  # a TensorBase is a Tensor
    number = leaf.aval.weak and leaf.dtype is f64
    return Fresh(outputs.places[storage], leaf.steps, taped, number)


def _grad_updates(trace: Trace, outputs: _Outputs) -> list[GradUpdate]:
    updates: list[GradUpdate] = []
    for tensor, grad in trace.grads.items():
        if not _outlives(trace, tensor):
            continue
        target: Any = trace.proxies.get(tensor.storage, tensor)
        if grad is None:
            if tensor not in trace.absent_grads:
                updates.append(GradUpdate(target, None))
        elif grad is trace.found_grads.get(tensor):
            pass  # written in place, if at all
        elif grad.storage.array is None:
            updates.append(GradUpdate(target, outputs.add(trace.read(grad))))
        else:
            raise RuntimeError(
                "a traced function set .grad to a tensor from outside the trace; assign a computed "
                "value, or set it before the call"
            )
    return updates


def _outlives(trace: Trace, tensor: Tensor) -> bool:
    """Whether a tensor is an argument or was there before, so that its `.grad` is seen again."""
    return tensor.storage in trace.proxies or tensor.storage.array is not None


def _backward_part(
    trace: Trace, outputs: _Outputs, returned: Sequence[Any], results: Sequence[Any]
) -> BackwardPart | None:
    """Gradients of the results that need them, derived from the tape while it is still there."""
    heads = {
        r.output: t if t.base is None else t.base  # views are taken of the output at a call
        for t, r in zip(returned, results, strict=True)
        if isinstance(r, Fresh) and r.requires_grad
    }
    if not heads:
        return None
    before = trace.annotations()
    base = len(trace.inputs)
    seeds = [graph_input(base + i, outputs.values[o].aval) for i, o in enumerate(heads)]
    with using(Mode(trace, False)):
        cotangents = [trace.wrap(seed) for seed in seeds]
        found = pull_back(list(heads.values()), cotangents, retain_graph=True)
    # A leaf that is not there was made while tracing.
    grads = {leaf: trace.read(ct) for leaf, ct in found.items() if leaf.storage in trace.positions}
    leaves = {leaf: base + i for i, leaf in enumerate(leaf for leaf in grads if leaf.steps)}
    places = [leaves.get(leaf, trace.positions[leaf.storage]) for leaf in grads]
    inputs = (*trace.inputs[:base], *seeds)
    locs = {node: tuple(places) for node, places in trace.locs.items()}
    graph = Graph(f"{trace.name}_backward", inputs, tuple(grads.values()), locs=locs)
    trace.restore(before)
    history = partial(history_of, trace, inputs[:base], tuple(leaves), list(heads.values()))
    return BackwardPart(graph, tuple(heads), tuple(places), tuple(leaves), history)


def _forward(graph: Graph, trace: Trace, results: Sequence[Any]) -> Graph:
    """The graph up to what `backward()` was called on and the results; all if it was not called."""
    if not trace.roots:
        return graph
    kept = [graph.outputs[r.output] for r in results if isinstance(r, Fresh)]
    outputs = tuple(dict.fromkeys([*trace.roots, *kept]))
    return graph.replace(outputs=outputs, donations=(None,) * len(outputs))


def state_names(function: Callable[..., Any], modules: Sequence[Any]) -> dict[Storage, str]:
    """Readable names of state: parameters by their path in a module, others by their variable."""
    from .optim.watched import Seen

    known: dict[Storage, str] = {}
    for module in modules:
        members: tuple[Any, Any] = (
            getattr(module, "named_parameters", dict)(),
            getattr(module, "named_buffers", dict)(),
        )
        for path, tensor in (pair for member in members for pair in member):
            name = path.replace(".", "_")
            known.setdefault(tensor.storage, f"m{name}" if name[0].isdigit() else name)
    plain = getattr(function, "__func__", function)
    code = getattr(plain, "__code__", None)
    if code is not None:
        scope = plain.__globals__
        cells = zip(code.co_freevars, plain.__closure__ or (), strict=True)
        found = [(name, scope.get(name)) for name in code.co_names]
        found += [(name, _contents(cell)) for name, cell in cells]
        for name, value in found:
            if isinstance(value, TensorBase):
                known.setdefault(value.storage, name)
    for module in modules:
        if isinstance(module, Seen):
            known.update(module.named_state(known))
    return known


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
