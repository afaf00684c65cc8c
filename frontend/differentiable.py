"""A compiled forward function whose results are differentiated outside of it.

Its program becomes one primitive on the tape; that primitive's VJP rule is a second program,
derived while the function was traced.  What the second reads of the first, the first returns beside
its results; `compiler/autodiff/partition.py` chooses it.  Derivatives of the second program are
derived from the tape when they are asked for, and compiled: those of every order are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any, TypeAlias

from ..compiler.autodiff import batch
from ..compiler.autodiff.partition import partition
from ..compiler.autodiff.vjp import cotangents
from ..compiler.aval import Aval, Dim
from ..compiler.errors import CheckFailed
from ..compiler.evaluate import interpret
from ..compiler.ir import Graph, Node, Value, bind_sizes, solve_sizes, topological
from ..compiler.primitive import Cotangents, Primitive
from ..compiler.primitives.batching import BatchRule, is_batched
from ..compiler.primitives.create import full_like, graph_input
from ..compiler.primitives.elementwise import add
from ..runtime.compile import compile_graph
from ..runtime.executable import Executable
from ..runtime.options import Options
from .core import CallCounter, TensorBase, from_array
from .errors import check_error
from .found_state import FoundState, Overlaps, found, seen, sizes_at, target_of
from .functions.labels import named
from .grad_mode import grad_mode
from .history import expanded, inlined
from .inplace import assign
from .record import BackwardPart, Fresh, Recording
from .specialisation import MISS
from .tape import apply_all
from .trace import Argument, GradOf, HostScalar, HostTensor, Hyperparameter

Rule: TypeAlias = "Callable[..., Cotangents]"


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
        graph, split = self._forward, self._split
        executable = compile_graph(split.backward, options)
        self.executables = (self.executable, executable)
        programs = _Programs(self, options)
        backward = programs.call(
            split.backward, lambda: executable, self._again(programs), self._spread
        )

        def vjp(ct: Any, out: Any, *operands: Value) -> Cotangents:
            cts, outs = (ct, out) if isinstance(ct, tuple) else ((ct,), (out,))
            known = dict(zip(graph.inputs, operands, strict=False))
            known |= zip(graph.outputs, outs, strict=True)
            seeds = [c if c is not None else full_like(outs[o], 0) for o, c in _at(cts, part)]
            made = backward.bind(*[known[v] for v in split.residuals], *seeds, *operands)
            grads = dict(zip(part.inputs, made, strict=True))
            return [grads.get(i) for i in range(len(operands))]

        def batched(size: Dim, node: Node, xs: Sequence[Value]) -> Sequence[Value]:
            count = len(graph.inputs)
            return _over_batch(graph, size, node.operands[:count], xs[:count])

        return programs.call(graph, lambda: self.executable, vjp, batched)

    def _again(self, programs: _Programs) -> Rule:
        """The VJP rule of the backward program, whose operands end in the forward one's."""
        part = self.recording.backward
        assert part is not None
        kept, cts = len(self._split.residuals), len(part.outputs)

        @cache
        def rule() -> Rule:
            base = len(self._exact.inputs) - cts
            seeds = range(base, base + cts)
            return programs.rule(self._exact, (*part.inputs, *seeds), seeds)

        def vjp(ct: Any, out: Any, *operands: Value) -> Cotangents:
            seeds, inputs = operands[kept : kept + cts], operands[kept + cts :]
            found = rule()(ct, out, *inputs, *seeds)
            return [*[None] * kept, *found[len(inputs) :], *found[: len(inputs)]]

        return vjp

    @cached_property
    def _exact(self) -> Graph:
        """The backward graph as the tape has it: from the forward pass's operands, and seeds."""
        part = self.recording.backward
        assert part is not None
        return _joint(part.history(), part.inputs)

    def _spread(self, size: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
        """The batching rule of the backward program, whose results may be differentiated."""
        kept, cts = len(self._split.residuals), len(self._split.backward.inputs)
        ends = (*range(cts, len(operands)), *range(kept, cts))
        before = [node.operands[i] for i in ends]
        return _over_batch(self._exact, size, before, [operands[i] for i in ends])

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
        assert self.recording.backward is not None
        read += self.recording.backward.leaves
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
        return self.recording.finish(iter(values))

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
        if isinstance(binding, HostScalar):
            return _scalar(binding.expression.value())
        if isinstance(binding, HostTensor):
            return binding.expression.value()
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


def programs_of(recording: Recording) -> tuple[Graph, Graph]:
    """What a recording with a history runs: forward, and backward from what that keeps."""
    assert recording.backward is not None
    split = partition(recording.graph, recording.backward.graph)
    return _with_residuals(recording.graph, split.residuals), split.backward


def _with_residuals(graph: Graph, residuals: Sequence[Value]) -> Graph:
    """The forward graph, nothing donated, with what the backward pass reads as further outputs."""
    known = {*graph.inputs, *graph.outputs}
    extra = [v for v in residuals if v not in known]
    outputs = (*graph.outputs, *extra)
    return graph.replace(outputs=outputs, donations=(None,) * len(outputs))


def _at(cts: Sequence[Any], part: BackwardPart) -> list[tuple[int, Any]]:
    """The differentiable outputs and their cotangents."""
    return [(number, cts[number]) for number in part.outputs]


def _scalar(value: float) -> Any:
    import numpy as np

    return from_array(np.array(value, np.int64 if isinstance(value, int) else np.float64))


class _Programs:
    """Compiled programs as primitives of their own, known to nobody else."""

    def __init__(self, owner: DifferentiableForward, options: Options) -> None:
        self._owner, self._options = owner, options

    def of(self, graph: Graph, wanted: Sequence[int], linear: Sequence[int]) -> Primitive:
        """A graph, compiled when it first runs; for the arguments see `rule`."""
        plain = expanded(graph)
        executable = cache(lambda: compile_graph(plain, self._options))

        def batched(size: Dim, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
            return _over_batch(graph, size, node.operands, operands)

        return self.call(plain, executable, self.rule(graph, wanted, linear), batched)

    def rule(self, graph: Graph, wanted: Sequence[int], linear: Sequence[int]) -> Rule:
        """The VJP rule of a graph: programs again.

        Args:
            graph: what to differentiate.
            wanted: positions of the inputs that may get cotangents.
            linear: those of them in which the graph is linear, so that their cotangents do not
                depend on them: forward mode, which transposes the rule, relies on this.
        """
        others = [i for i in wanted if i not in linear]
        parts = [self._part(graph, others, wanted, ()), self._part(graph, linear, others, linear)]

        def vjp(ct: Any, out: Any, *operands: Value) -> Cotangents:
            cts, outs = (ct, out) if isinstance(ct, tuple) else ((ct,), (out,))
            seeds = [full_like(o, 0) if c is None else c for c, o in zip(cts, outs, strict=True)]
            found = parts[0](operands, seeds) | parts[1](operands, seeds)
            return [found.get(i) for i in range(len(graph.inputs))]

        return vjp

    def _part(
        self, graph: Graph, wanted: Sequence[int], varying: Sequence[int], linear: Sequence[int]
    ) -> Callable[[Sequence[Value], Sequence[Value]], dict[int, Value]]:
        """Gives cotangents of some inputs, by a program that takes no `linear` ones."""

        @cache
        def program() -> tuple[list[int], Primitive]:
            joint, present = _without(_joint(graph, wanted), linear)
            seeds = [i for i, old in enumerate(present) if old >= len(graph.inputs)]
            again = [i for i, old in enumerate(present) if old in varying]
            return present, self.of(joint, (*again, *seeds), seeds)

        def cotangents_of(operands: Sequence[Value], seeds: Sequence[Value]) -> dict[int, Value]:
            if not wanted:
                return {}
            present, primitive = program()
            given = [*operands, *seeds]
            return dict(zip(wanted, primitive.bind(*(given[i] for i in present)), strict=True))

        return cotangents_of

    def call(
        self,
        graph: Graph,
        executable: Callable[[], Executable],
        vjp: Rule,
        batched: BatchRule,
    ) -> Primitive:
        """A program; operands past its graph's inputs are there for its VJP rule only."""
        count = len(graph.inputs)

        def types(*operands: Aval) -> tuple[Aval, ...]:
            sizes = _sizes(graph, operands[:count])
            shapes = [bind_sizes(o.aval.shape, sizes) for o in graph.outputs]
            pairs = zip(graph.outputs, shapes, strict=True)
            return tuple([Aval(o.aval.dtype, s) for o, s in pairs])

        def reference(*arrays: Any) -> Any:
            self._owner.native_calls += 1
            try:
                outputs = executable()(arrays[:count])
            except CheckFailed as failed:
                raise check_error(str(failed)) from None
            return tuple(outputs) if len(outputs) != 1 else outputs[0]

        doc = "a compiled program"
        return Primitive(graph.name, types, reference, vjp, None, doc, batch=batched)


def _sizes(graph: Graph, operands: Sequence[Aval]) -> dict[str, int]:
    """What the graph's named sizes are at some operands."""
    shapes: Any = [aval.shape for aval in operands]
    return solve_sizes([v.aval for v in graph.inputs], shapes) if graph.symbols else {}


def _over_batch(
    graph: Graph, size: Dim, before: Sequence[Value], operands: Sequence[Value]
) -> list[Value]:
    """A graph's nodes on operands some of which have a batch dimension that they had not before."""
    made, _ = batch(graph, size, list(map(is_batched, operands, before)))
    return _inlined(made, operands, _sizes(graph, [o.aval for o in before]))


def _inlined(graph: Graph, operands: Sequence[Value], sizes: dict[str, int]) -> list[Value]:
    """A graph's nodes on other operands."""

    def bind(node: Node, xs: list[Value]) -> Sequence[Value]:
        return node.prim.bind(*xs, **{k: bind_sizes(v, sizes) for k, v in node.params.items()})

    value_of = interpret(graph, operands, bind)
    return [value_of(output) for output in graph.outputs]


def _joint(graph: Graph, wanted: Sequence[int]) -> Graph:
    """The cotangents of some inputs, given all inputs and a cotangent for each output."""
    base = len(graph.inputs)
    seeds = tuple(graph_input(base + i, o.aval) for i, o in enumerate(graph.outputs))
    totals: dict[Value, Value] = {}
    for output, seed in zip(graph.outputs, seeds, strict=True):
        totals[output] = add(totals[output], seed) if output in totals else seed
    inputs = [graph.inputs[number] for number in wanted]
    found = cotangents(totals, inputs)
    outputs = tuple([found[v] if v in found else full_like(v, 0) for v in inputs])
    return Graph(f"{graph.name}_backward", (*graph.inputs, *seeds), outputs)


def _without(graph: Graph, absent: Sequence[int]) -> tuple[Graph, list[int]]:
    """A graph without some inputs, if it does not depend on them, and which inputs remain."""
    read = {o for node in topological(expanded(graph).outputs) for o in node.results}
    gone = {i for i in absent if graph.inputs[i] not in read}
    present = [i for i in range(len(graph.inputs)) if i not in gone]
    inputs = {i: graph_input(new, graph.inputs[i].aval) for new, i in enumerate(present)}
    operands = [inputs.get(i, full_like(v, 0)) for i, v in enumerate(graph.inputs)]
    outputs = tuple(inlined(graph.inputs, graph.outputs, operands))
    return Graph(graph.name, tuple(inputs.values()), outputs), present
