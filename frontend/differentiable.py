"""A compiled forward function whose results are differentiated outside of it.

Its program becomes one primitive on the tape; that primitive's VJP rule is a second program,
derived while the function was traced.  What the second reads of the first, the first returns beside
its results; `compiler/autodiff/partition.py` chooses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..compiler.autodiff import backward_graph, batch
from ..compiler.autodiff.partition import partition
from ..compiler.aval import Aval, Dim
from ..compiler.errors import CheckFailed
from ..compiler.evaluate import interpret
from ..compiler.ir import Graph, Node, Value, bind_sizes, solve_sizes
from ..compiler.primitive import Cotangents, Primitive
from ..compiler.primitives.batching import is_batched
from ..compiler.primitives.create import full_like
from ..runtime.compile import compile_graph
from ..runtime.options import Options
from .core import CallCounter, TensorBase, from_array
from .errors import check_error
from .found_state import FoundState, Overlaps, found, seen, sizes_at, target_of
from .functions.labels import named
from .grad_mode import grad_mode
from .inplace import assign
from .record import BackwardPart, Fresh, Recording
from .specialisation import MISS
from .tape import apply_all
from .trace import Argument, GradOf, Hyperparameter
from .tree import unflatten


class DifferentiableForward:
    """A specialisation whose results carry a gradient's history."""

    def __init__(self, recording: Recording, options: Options, guard: Callable[[], bool]) -> None:
        self.recording, self._guard = recording, guard
        self.counter = CallCounter()
        self.native_calls = 0
        self._results = len(recording.graph.outputs)
        assert recording.backward is not None
        self._split = partition(recording.graph, recording.backward.graph)
        self._forward = _with_residuals(recording.graph, self._split.residuals)
        self.executable = compile_graph(self._forward, options)
        self._program = self._primitive(options)
        self._written = [d for d in recording.graph.donations if d is not None]
        self._differentiable = set(recording.backward.outputs)
        self._found = FoundState(recording)
        written = [recording.bindings[d] for d in self._written]
        self._overlaps = Overlaps(
            recording, {b.position for b in written if isinstance(b, Argument)}
        )

    def _primitive(self, options: Options) -> Primitive:
        part = self.recording.backward
        assert part is not None
        graph = self._forward
        split = self._split
        rule = _rule_of(split.backward) if part.exact else _refused(graph.name)
        executable = compile_graph(split.backward, options)
        backward = _call_of(executable, split.backward, self, rule)
        again = _rule_of(graph) if part.exact else _refused(graph.name)

        def vjp(ct: Any, out: Any, *operands: Value) -> Cotangents:
            cts, outs = (ct, out) if isinstance(ct, tuple) else ((ct,), (out,))
            if any(c is not None for c in cts[self._results :]):  # of residuals: second order
                return again(cts, outs, *operands)
            known = dict(zip((*graph.inputs, *graph.outputs), (*operands, *outs), strict=True))
            seeds = [c if c is not None else full_like(outs[o], 0) for o, c in _at(cts, part)]
            made = backward.bind(*[known[v] for v in split.residuals], *seeds)
            grads = dict(zip(part.inputs, made, strict=True))
            return [grads.get(i) for i in range(len(operands))]

        return _call_of(self.executable, graph, self, vjp)

    def is_current(self) -> bool:
        """Whether the state that the recording found is still there."""
        return self._guard() and self._found.holds()

    def remember(self, leaves: Sequence[Any]) -> None:
        """Calls are never skipped over the guards here."""

    def call_again(self, leaves: Sequence[Any]) -> Any:
        """See `Specialisation.call_again`."""
        return MISS

    def call(self, leaves: Sequence[Any]) -> Any:
        """The result for these leaves, or MISS if a guard does not hold."""
        sizes = self.sizes_at(leaves)
        if sizes is None or not self.is_current():
            return MISS
        self._overlaps.require_apart(leaves)
        operands = [self._operand(binding, leaves) for binding in self.recording.bindings]
        read = [self._taped(i, operand) for i, operand in enumerate(operands)]
        outputs = apply_all(self._program, read, {})[: self._results]
        for number in set(range(len(outputs))) - self._differentiable:
            outputs[number].detach_()
        named(outputs[min(self._differentiable)], "CompiledFunctionBackward")
        self.counter.count += 1
        self._write_state(operands, outputs)
        for update in self.recording.grads:
            grad = None if update.output is None else outputs[update.output].detach()
            target_of(update, leaves).grad = grad
        values = [self._value(r, leaves, outputs, sizes) for r in self.recording.results]
        return unflatten(self.recording.structure, iter(values))

    def _taped(self, number: int, operand: Any) -> Any:
        """An operand as the tape is to see it."""
        part = self.recording.backward
        assert part is not None
        read = operand if number in part.inputs else operand.detach()
        # What is about to be written is taped as it was.
        return read.clone() if number in self._written else read

    def _operand(self, binding: Any, leaves: Sequence[Any]) -> Any:
        if isinstance(binding, Argument):
            leaf = leaves[binding.position]
            return leaf if isinstance(leaf, TensorBase) else _scalar(leaf)
        if isinstance(binding, Hyperparameter):
            return _scalar(binding.read())
        tensor: Any = binding.tensor
        if isinstance(tensor, int):
            tensor = leaves[tensor]
        if isinstance(binding, GradOf):
            tensor = tensor._grad
        if not tensor.steps:
            return tensor
        return tensor.base if tensor.base is not None else from_array(tensor.storage.array)

    def _write_state(self, operands: Sequence[Any], outputs: Sequence[Any]) -> None:
        donations = self.recording.graph.donations
        with grad_mode(False):  # what is written is state, also where it is a leaf
            for position, output in zip(donations, outputs, strict=True):
                if position is not None:
                    assign(operands[position], output.detach(), checked=False)

    def sizes_at(self, leaves: Sequence[Any]) -> dict[str, int] | None:
        """See `Specialisation.sizes_at`."""
        return sizes_at(self.recording, leaves)

    def _value(
        self, result: Any, leaves: Sequence[Any], outputs: Sequence[Any], sizes: dict[str, int]
    ) -> Any:
        if isinstance(result, Fresh):
            return seen(outputs[result.output], result, sizes)
        return found(result, leaves, sizes)


def _with_residuals(graph: Graph, residuals: Sequence[Value]) -> Graph:
    """The forward graph, nothing donated, with what the backward pass reads as further outputs."""
    known = {*graph.inputs, *graph.outputs}
    extra = [v for v in residuals if v not in known]
    outputs = (*graph.outputs, *extra)
    return graph.replace(outputs=outputs, donations=(None,) * len(outputs))


def _at(cts: Sequence[Any], part: BackwardPart) -> list[tuple[int, Any]]:
    """The differentiable outputs and their cotangents."""
    return [(number, cts[number]) for number in part.outputs]


def _refused(name: str) -> Callable[..., Cotangents]:
    """The rule of a program whose second derivatives its graph alone does not tell."""

    def vjp(*_: Any) -> Cotangents:
        raise RuntimeError(
            f"{name} detaches a tensor or uses an autograd.Function, so that its second "
            "derivatives cannot be taken outside of the compiled function; take them inside"
        )

    return vjp


def _scalar(value: float) -> Any:
    import numpy as np

    return from_array(np.array(value, np.float64))


def _call_of(executable: Any, graph: Graph, owner: Any, vjp: Any = None) -> Primitive:
    """A program as a primitive of its own, known to nobody else."""

    def types(*operands: Aval) -> tuple[Aval, ...]:
        sizes = solve_sizes([v.aval for v in graph.inputs], [a.shape for a in operands])  # type: ignore[misc]  # numbers
        shapes = [bind_sizes(o.aval.shape, sizes) for o in graph.outputs]
        return tuple([Aval(o.aval.dtype, s) for o, s in zip(graph.outputs, shapes, strict=True)])

    def reference(*arrays: Any) -> Any:
        owner.native_calls += 1
        try:
            outputs = executable(arrays)
        except CheckFailed as failed:
            raise check_error(str(failed)) from None
        return tuple(outputs) if len(outputs) != 1 else outputs[0]

    def batched(size: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
        pairs = zip(operands, node.operands, strict=True)
        made, _ = batch(graph, size, [is_batched(new, old) for new, old in pairs])
        return _inlined(made, operands, _sizes(graph, node.operands))

    doc = "a compiled program"
    return Primitive(graph.name, types, reference, vjp, None, doc, batch=batched)


def _sizes(graph: Graph, operands: Sequence[Value]) -> dict[str, int]:
    """What the graph's named sizes are at some operands."""
    shapes: Any = [o.aval.shape for o in operands]
    return solve_sizes([v.aval for v in graph.inputs], shapes) if graph.symbols else {}


def _inlined(graph: Graph, operands: Sequence[Value], sizes: dict[str, int]) -> list[Value]:
    """A graph's nodes on other operands."""

    def bind(node: Node, xs: list[Value]) -> Sequence[Value]:
        return node.prim.bind(*xs, **{k: bind_sizes(v, sizes) for k, v in node.params.items()})

    value_of = interpret(graph, operands, bind)
    return [value_of(output) for output in graph.outputs]


def _rule_of(graph: Graph) -> Callable[..., Cotangents]:
    """The VJP rule of a program, node by node: for derivatives of second order, outside."""

    def vjp(ct: Any, out: Any, *operands: Value) -> Cotangents:
        cts, outs = (ct, out) if isinstance(ct, tuple) else ((ct,), (out,))
        backward, residuals = backward_graph(graph, floating)
        sizes = _sizes(graph, operands)
        seeds = [c if c is not None else full_like(o, 0) for c, o in zip(cts, outs, strict=True)]
        kept = _inlined(Graph("residuals", graph.inputs, residuals), operands, sizes)
        grads = _inlined(backward, [*kept, *seeds], sizes)
        found = dict(zip(floating, grads, strict=True))
        return [found.get(v) for v in graph.inputs]

    floating = [v for v in graph.inputs if v.aval.dtype.is_floating_point]
    return vjp
