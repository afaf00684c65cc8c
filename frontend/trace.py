"""Recording a function: which values it computes, which state it reads, and what it leaves behind.

Every storage that the traced code touches has a current value in the graph.  Reading an unknown one
makes it an input (state was found); writing one gives it a new value; at the end the written ones
become outputs that replace their inputs' memory.  `.grad` attributes are overlaid in the same way.
Nothing real changes while tracing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..compiler import dtypes
from ..compiler.aval import Aval
from ..compiler.ir import Check, Graph, Loc, Node, Value
from ..compiler.primitive import Primitive
from ..compiler.primitives.create import constant, graph_input
from .core import Storage, TensorBase, make_tensor
from .errors import UntraceableError
from .frames import running_call, user_frame, user_loc
from .guards import Attribute, Guard, is_taut
from .outside import Outside
from .size_guards import Sizes
from .watch.numbers import Answer, Expression, HostNumber
from .writes import write_through

if TYPE_CHECKING:
    from .composition import Composition
    from .tensor import Tensor


@dataclass(frozen=True)
class Argument:
    """An input that is a tensor or a float of the arguments, by position among the leaves."""

    position: int


@dataclass(frozen=True, eq=False)
class Captured:
    """An input that is the whole storage of a tensor that the function found by itself."""

    tensor: Tensor


@dataclass(frozen=True, eq=False)
class GradOf:
    """An input that is the storage of a tensor's `.grad`, whichever tensor that is at the call.

    The tensor is one that the function found by itself, or an argument, by position.
    """

    tensor: Tensor | int


@dataclass(frozen=True, eq=False)
class Hyperparameter:
    """An input that is a number in a mapping, read at each call (an optimizer's `lr`)."""

    container: dict[str, Any]
    key: str
    index: int | None = None

    def read(self) -> float:
        """Its value now."""
        value = self.container[self.key]
        return float(value if self.index is None else value[self.index])


@dataclass(frozen=True, eq=False)
class HostScalar:
    """An input that is a number which Python computes at each call; `whole`: an integer."""

    expression: Expression
    whole: bool


@dataclass(frozen=True, eq=False)
class HostTensor:
    """An input that is a whole tensor which Python reads at each call."""

    expression: Expression


SCALAR = Aval(dtypes.f64, (), weak=True)
Binding: TypeAlias = Argument | Captured | GradOf | Hyperparameter | HostScalar | HostTensor


class Trace:
    """The recording of one function.

    Attributes:
        bindings: where each input of the graph comes from.
        values: the current value of each storage that has been touched.
        written: storages that exist outside the trace and have a new value.
        grads: the `.grad` that the traced code has set, by tensor.
        found_grads: the `.grad` that was there before, by tensor.
        grad_storages: the storages of these, with whose they are.
        absent_grads: tensors whose `.grad` was found to be None.
        proxies: for each stand-in of an argument, the argument's position.
        roots: what `backward()` was called on: where the forward pass ends.
        modules: modules whose state was read, with what `snapshot` saw.
        sizes: what is known and assumed of named sizes.
        outside: what the traced code changed that outlives the trace.
        compiles: whether it becomes a program, which knows no tape from outside.
        retaken: views from outside with a history, as views taken again within the trace.
    """

    def __init__(self, name: str, sizes: Sizes | None = None) -> None:
        self.name, self.sizes = name, Sizes.of({}) if sizes is None else sizes
        self.compiles = True
        self.retaken: dict[Tensor, Tensor] = {}
        self.bindings: list[Binding] = []
        self.inputs: list[Value] = []
        self.values: dict[Storage, Value] = {}
        self.positions: dict[Storage, int] = {}
        self.written: dict[Storage, None] = {}
        self.grads: dict[Tensor, Tensor | None] = {}
        self.found_grads: dict[Tensor, Tensor] = {}
        self.grad_storages: dict[Storage, Tensor | int] = {}
        self.absent_grads: dict[Tensor, None] = {}
        self.proxies: dict[Storage, int] = {}
        self.checks: list[Check] = []
        self.names: dict[Value, str] = {}
        self.locs: dict[Node, list[Loc]] = {}
        self.roots: list[Value] = []
        self._named: tuple[tuple[int, int], Value] | None = None
        self._taken: set[str] = set()
        self._first_free: dict[str, int] = {}
        self.modules: dict[int, tuple[Any, Any]] = {}
        self.outside = Outside()
        self._places: dict[int, int] = {}
        self._scalars: dict[tuple[int, str, int | None], Tensor] = {}
        self._host_scalars: dict[Expression, Tensor] = {}
        self.answers: list[Answer] = []
        self._classes: set[Any] = set()

    # --- inputs -----------------------------------------------------------------------------------

    def add_input(self, aval: Aval, binding: Binding, name: str | None = None) -> Value:
        """A new input of the graph."""
        value = graph_input(len(self.inputs), aval)
        self.inputs.append(value)
        self.bindings.append(binding)
        if name:
            self.names[value] = self._unique(name)
        return value

    def argument(self, position: int, aval: Aval, name: str, requires_grad: bool) -> Tensor:
        """The stand-in for a tensor argument."""
        proxy = self.wrap(self.add_input(aval, Argument(position), name))
        self.positions[proxy.storage] = self._places[position] = len(self.inputs) - 1
        self.proxies[proxy.storage] = position
        proxy._requires_grad = requires_grad
        return proxy

    def hyperparameter(
        self, container: dict[str, Any], key: str, index: int | None = None
    ) -> Tensor:
        """A number that optimizers read at each call, as a weak scalar."""
        known = self._scalars.get((id(container), key, index))
        if known is None:
            name = key if index is None else f"{key}{index}"
            binding = Hyperparameter(container, key, index)
            known = self.wrap(self.add_input(SCALAR, binding, name))
            self._scalars[id(container), key, index] = known
        return known

    def host_scalar(self, number: HostNumber) -> Tensor:
        """A number that Python computes at each call, as a weak scalar."""
        known = self._host_scalars.get(number.expression)
        if known is None:
            dtype = dtypes.i64 if isinstance(number.number, int) else dtypes.f64
            binding = HostScalar(number.expression, isinstance(number.number, int))
            known = self.wrap(self.add_input(Aval(dtype, (), weak=True), binding))
            self._host_scalars[number.expression] = known
        return known

    def host_tensor(self, expression: Expression, tensor: TensorBase) -> Tensor:
        """The stand-in for a tensor that Python reads at each call."""
        if tensor._requires_grad or tensor.array is None:
            raise UntraceableError("a call cannot read a tensor anew that needs a gradient")
        return self.wrap(self.add_input(tensor.aval, HostTensor(expression)))

    def answer(self, expression: Expression, seen: Any) -> None:
        """Notes what a question about numbers was answered."""
        self.answers.append(Answer(expression, seen, "a number", user_loc()))

    def scalar_argument(self, position: int, name: str) -> Tensor:
        """The stand-in for a float argument."""
        return self.wrap(self.add_input(SCALAR, Argument(position), name))

    def wrap(self, value: Value) -> Tensor:
        """A tensor of its own for a value."""
        tensor = make_tensor(Storage(None, value.aval), None, value.aval)
        self.values[tensor.storage] = value
        return tensor

    # --- values -----------------------------------------------------------------------------------

    def read(self, tensor: TensorBase) -> Value:
        """The current value of a tensor."""
        value = self.base_value(tensor)
        for primitive, params in tensor.steps:
            value = primitive(value, **params)
        return value

    def base_value(self, tensor: TensorBase) -> Value:
        """The current value of the whole storage behind a tensor."""
        value = self.values.get(tensor.storage)
        if value is None:
            value = self._capture(tensor)
        return value

    def _capture(self, tensor: TensorBase) -> Value:
        storage = tensor.storage
        if storage.array is None:
            from .tape import leaked_tracer

            raise leaked_tracer()
        owner = self.grad_storages.get(storage)
        found: Any = tensor
        binding = Captured(found) if owner is None else GradOf(owner)
        value = self.add_input(storage.aval, binding)
        self.values[storage] = value
        self.positions[storage] = len(self.inputs) - 1
        return value

    def write(self, tensor: TensorBase, value: Value) -> None:
        """Gives a tensor's place in its storage a new value."""
        base = self.base_value(tensor)
        self.values[tensor.storage] = write_through(base, tensor.steps, value)
        if tensor.storage in self.positions:
            self.written[tensor.storage] = None

    def record(
        self, primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Records an application; numbers become constants of the type of their neighbours."""
        values = [self.read(o) if isinstance(o, TensorBase) else o for o in operands]
        inputs = with_constants(primitive, values)
        outputs = primitive.bind(*inputs, **params)
        self._annotate(outputs)
        return inputs, outputs

    def replay(self, node: Node, operands: Sequence[Value], locs: Sequence[Loc]) -> Sequence[Value]:
        """Records a node of a derived graph, with the lines that it was derived from."""
        outputs = node.prim.bind(*operands, **node.params)
        self._add_locs(outputs[0].node, locs)
        return outputs

    def check(self, condition: Value, message: str) -> None:
        """Requires a condition when the program runs."""
        self.checks.append(Check(condition, message, user_loc()))

    # --- gradients --------------------------------------------------------------------------------

    def grad_of(self, tensor: Tensor) -> Tensor | None:
        """What `.grad` is at this point of the traced code."""
        if tensor in self.grads:
            return self.grads[tensor]
        grad: Tensor | None = tensor._grad
        if grad is None:
            self.absent_grads[tensor] = None
        elif tensor.storage in self.proxies:
            grad = self._argument_grad(self.proxies[tensor.storage])
        else:
            self.grad_storages[grad.storage] = tensor
        self.grads[tensor] = grad
        if grad is not None:
            self.found_grads[tensor] = grad
        return grad

    def _argument_grad(self, position: int) -> Tensor:
        """The stand-in for the `.grad` of an argument."""
        argument = self.inputs[self._places[position]]
        name = self.names.get(argument)
        binding = GradOf(position)
        stand_in = self.wrap(self.add_input(argument.aval, binding, f"{name}_grad"))
        self.positions[stand_in.storage] = len(self.inputs) - 1
        self.grad_storages[stand_in.storage] = position
        return stand_in

    def detached(self, tensor: Tensor, same: Tensor) -> None:
        """Notes a tensor on the memory of another one, which is what the trace found."""
        self.base_value(tensor)
        if same.array is not None:
            self.outside.made(same)

    def note_module(self, module: Any) -> None:
        """Remembers what a module holds and runs, so that a change of it is noticed."""
        if id(module) in self.modules:
            return
        self.modules[id(module)] = (module, snapshot(module))
        cls = type(module)
        if not is_taut(module) and cls not in self._classes:
            self._classes.add(cls)
            text = f"{cls.__name__}.forward"
            self.outside.reads[Guard(Attribute(cls, "forward"), cls.forward, text)] = None

    # --- names and lines --------------------------------------------------------------------------

    def _annotate(self, outputs: Sequence[Value]) -> None:
        frame = user_frame()
        if frame is None:
            return
        call = running_call(frame)
        self._add_locs(outputs[0].node, (call.loc,))
        if call.name and not outputs[0].is_input:
            self._name_result(outputs[0], call.name, (id(frame), frame.f_lasti))

    def _name_result(self, value: Value, name: str, call: tuple[int, int]) -> None:
        """Names a value after the variable of the running call, whose last value has the name."""
        if self._named is not None and self._named[0] == call:
            self._free(self.names.pop(self._named[1], None))
        if value not in self.names:
            self.names[value] = self._unique(name)
            self._named = call, value

    def annotations(self) -> tuple[Any, ...]:
        """Copies of the names and lines so far, for `restore`."""
        found = self.locs, self.names, self._taken, self._first_free
        return tuple([each.copy() for each in found])

    def restore(self, annotations: tuple[Any, ...]) -> None:
        """Forgets the names and lines since `annotations`."""
        self.locs, self.names, self._taken, self._first_free = annotations

    def name_state(self, known: dict[Storage, str]) -> None:
        """Names the inputs that are state, given readable names of storages."""
        for storage, position in self.positions.items():
            value, binding = self.inputs[position], self.bindings[position]
            if value in self.names:
                continue
            if isinstance(binding, GradOf) and not isinstance(binding.tensor, int):
                if binding.tensor.storage in known:
                    self.names[value] = self._unique(f"{known[binding.tensor.storage]}_grad")
            elif storage in known:
                self.names[value] = self._unique(known[storage])

    def locate(self, tensor: TensorBase, loc: Loc) -> None:
        """Notes another line that a result comes from."""
        self._add_locs(self.read(tensor).node, [loc])

    def _add_locs(self, node: Node, locs: Sequence[Loc]) -> None:
        known = self.locs.get(node)
        if known is None:
            self.locs[node] = list(dict.fromkeys(locs))
        else:
            known += [loc for loc in dict.fromkeys(locs) if loc not in known]

    def _unique(self, name: str) -> str:
        """A name that no value has: `name`, or `name` with the first number that is free."""
        number = self._first_free.get(name, 1)
        while (candidate := f"{name}_{number}" if number > 1 else name) in self._taken:
            number += 1
        self._first_free[name] = number
        self._taken.add(candidate)
        return candidate

    def _free(self, name: str | None) -> None:
        """Lets a name be given again."""
        if name is not None:
            self._taken.discard(name)
            stem, _, number = name.rpartition("_")
            self._first_free.pop(name, None)
            if number.isdecimal():
                self._first_free[stem] = min(self._first_free.get(stem, 1), int(number))

    def graph(self, outputs: Sequence[Value], donations: Sequence[int | None]) -> Graph:
        """The recording as a graph; what it assumes of sizes that nobody knows, it checks."""
        locs = {node: tuple(places) for node, places in self.locs.items()}
        assumed = () if self.sizes.actual else [guard.check() for guard in self.sizes.guards]
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(outputs),
            tuple(donations),
            (*assumed, *self.checks),
            dict(self.names),
            locs,
        )


_PLAIN = (bool, int, float, str, bytes, type(None))


def snapshot(module: Any) -> dict[str, Any]:
    """What a module holds, one level deep: plain values, and the identity of everything else."""
    seen: dict[str, Any] = {}
    for name, value in module.__dict__.items():
        if isinstance(value, dict):
            seen.update({f"{name}.{key}": _identity(item) for key, item in value.items()})
        else:
            seen[name] = _identity(value)
    return seen


def _identity(value: Any) -> Any:
    return (type(value), value) if isinstance(value, _PLAIN) else id(value)


def with_constants(
    primitive: Primitive | Composition, operands: Sequence[Any]
) -> tuple[Value, ...]:
    """Operands with each Python number made a constant of the first value's type.

    Of `select`, the first value past its condition.
    """
    if all([isinstance(o, Value) for o in operands]):  # noqa: C419  # a list, as in `make_node`
        return tuple(operands)
    first = 1 if primitive.name == "select" else 0
    typed = [o for o in operands[first:] if isinstance(o, Value)]
    return tuple([o if isinstance(o, Value) else constant(o, typed[0].aval) for o in operands])
