"""A recording inside of another computation: what a function does to one slice, for `vmap`.

The function runs on stand-ins, and what it did becomes a graph, which is then applied, transformed,
to tensors of the world outside.  Tensors from there become inputs as they are found, each with its
own history.  What the function cut off from that history (by `detach`, or within `no_grad`) must
stay cut off when the graph is applied: where such a tensor is read, `stop_gradient` is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..compiler.aval import Aval
from ..compiler.ir import Check, Graph, Loc, Node, Value
from ..compiler.primitive import Primitive
from ..compiler.primitives.elementwise import stop_gradient
from .context import Mode, current
from .core import TensorBase, make_tensor
from .errors import UntraceableError, check_error
from .tape import apply, apply_all
from .trace import Captured, Trace

if TYPE_CHECKING:
    from .tensor import Tensor


class NestedTrace(Trace):
    """The recording of a function within the mode `outer`.

    Attributes:
        operands: the tensor outside that each input stands for.
    """

    def __init__(self, name: str, outer: Mode) -> None:
        super().__init__(name)
        self.outer = outer
        self.operands: list[Tensor] = []
        self._direct: dict[int, Value] = {}
        self._varying: set[Value] = set()
        self.compiles = outer.trace is not None and outer.trace.compiles
        if outer.trace is not None:
            self.outside = outer.trace.outside

    # --- inputs -----------------------------------------------------------------------------------

    def stand_in(self, tensor: Tensor, aval: Aval) -> Tensor:
        """What the function sees in place of a tensor: one slice of it, say."""
        proxy = self.wrap(self._input(tensor, aval))
        self.positions[proxy.storage] = len(self.inputs) - 1
        proxy._requires_grad = self.outer.grad and tensor.requires_grad
        return proxy

    def _input(self, tensor: Tensor, aval: Aval) -> Value:
        value = self.add_input(aval, Captured(tensor))
        self.operands.append(tensor)
        if self.outer.grad and tensor.requires_grad:
            self._varying.add(value)
        return value

    def _found(self, tensor: Any) -> Value:
        """The input for a tensor from outside, as it is."""
        value = self._direct.get(id(tensor))
        if value is None:
            value = self._direct[id(tensor)] = self._input(tensor, tensor.aval)
        return value

    def _capture(self, tensor: TensorBase) -> Value:
        """A whole storage from outside, which is about to be written."""
        base: Any = tensor.base if tensor.base is not None else tensor
        if base.steps:
            base = make_tensor(base.storage, base.storage.array, base.storage.traced_aval)
        value = self._found(base)
        self.values[tensor.storage] = value
        self.positions[tensor.storage] = self.inputs.index(value)
        return value

    # --- values -----------------------------------------------------------------------------------

    def read(self, tensor: TensorBase) -> Value:
        """The current value of a tensor, as a constant where its history was cut."""
        found: Any = tensor
        value = self.values.get(tensor.storage)
        steps = tensor.steps
        if value is None and tensor.base is not None:
            value, steps = self.read(tensor.base), steps[len(tensor.base.steps) :]
        elif value is None:
            return self._found(found)
        varies = value in self._varying
        if varies and not found.requires_grad:
            value, varies = stop_gradient(value), False
        for primitive, params in steps:
            value = primitive(value, **params)
        if varies:
            self._varying.add(value)
        return value

    def write(self, tensor: TensorBase, value: Value) -> None:
        """Gives a tensor's place in its storage a new value."""
        varies = {self.base_value(tensor), value} & self._varying
        super().write(tensor, value)
        if varies:
            self._varying.add(self.values[tensor.storage])

    def record(
        self, primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Records an application."""
        inputs, outputs = super().record(primitive, operands, params)
        self._note(inputs, outputs)
        return inputs, outputs

    def replay(self, node: Node, operands: Sequence[Value], locs: Sequence[Loc]) -> Sequence[Value]:
        """Records a node of a derived graph."""
        outputs = super().replay(node, operands, locs)
        self._note(operands, outputs)
        return outputs

    def _note(self, operands: Sequence[Value], results: Sequence[Value]) -> None:
        if not self._varying.isdisjoint(operands):
            self._varying.update(results)

    def varies(self, tensor: TensorBase) -> bool:
        """Whether a gradient is wanted, outside, of what a tensor's value is computed from."""
        return self.read(tensor) in self._varying

    # --- state ------------------------------------------------------------------------------------

    def grad_of(self, tensor: Tensor) -> Tensor | None:
        """What `.grad` is at this point of the traced code."""
        if tensor in self.grads or self.outer.trace is None:
            return super().grad_of(tensor)
        return self.outer.trace.grad_of(tensor)

    def detached(self, tensor: Tensor, same: Tensor) -> None:
        """Notes a tensor on the memory of another one."""
        if same.array is not None:
            self.outside.made(same)

    def note_module(self, module: Any) -> None:
        """Remembers what a module holds, for the trace outside."""
        if self.outer.trace is not None:
            self.outer.trace.note_module(module)

    def hyperparameter(
        self, container: dict[str, Any], key: str, index: int | None = None
    ) -> Tensor:
        """Refused: an optimizer steps once, not once for each slice."""
        raise UntraceableError("an optimizer cannot step within a function that vmap maps")

    def recorded(self, outputs: Sequence[Value]) -> Graph:
        """The recording as a graph, whose outputs are followed by what was written."""
        written = [self.values[storage] for storage in self.written]
        return self.graph([*outputs, *written], [None] * (len(outputs) + len(written)))


def run_on_tensors(graph: Graph, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a graph on tensors: at once, or as further nodes of the current trace.

    Raises:
        Exception: the one that a failed check names.
    """
    environment: dict[Value, Any] = dict(zip(graph.inputs, tensors, strict=True))
    open_checks: dict[Value, Check] = {c.condition: c for c in reversed(graph.checks)}
    _test(environment, open_checks, graph.inputs)
    for node in graph.nodes:
        operands = [environment[o] for o in node.operands]
        if len(node.results) == 1:  # unlike `apply_all`, `apply` knows whose memory a view shares
            results: Sequence[Tensor] = (apply(node.prim, *operands, **node.params),)
        else:
            results = apply_all(node.prim, operands, dict(node.params))
        environment.update(zip(node.results, results, strict=True))
        _test(environment, open_checks, node.results)
    return [environment[output] for output in graph.outputs]


def _test(
    environment: dict[Value, Any], open_checks: dict[Value, Check], values: Sequence[Value]
) -> None:
    trace = current().trace
    for value in values:
        check = open_checks.pop(value, None)
        if check is not None and trace is not None:
            trace.check(trace.read(environment[value]), check.message)
        elif check is not None and not environment[value].array.all():
            raise check_error(check.message)
