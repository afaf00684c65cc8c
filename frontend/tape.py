"""Applying primitives to tensors: the one door through which every operation passes.

Eager: the NumPy reference runs at once.  Tracing: a node is recorded.  In both cases, if an operand
needs a gradient, a tape entry remembers what was applied to what.  Entries refer to the entries
before them, so that whatever no tensor refers to is freed; `autograd` reads them back in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ..compiler.primitive import Primitive
from ..compiler.quiet import quiet
from .composition import Composition
from .context import current
from .core import Payload, Storage, TensorBase, from_array, make_tensor
from .symint import plain
from .watch.events import unwatched

if TYPE_CHECKING:
    from .tensor import Tensor
    from .trace import Trace

Scalar: TypeAlias = "bool | int | float"
Operand: TypeAlias = "Tensor | Scalar"
Source: TypeAlias = "tuple[Entry, int] | Tensor | None"

_sequence = count()


def next_order() -> int:
    """A number after that of every entry so far, and before that of every later one."""
    return next(_sequence)


class Dropped(NamedTuple):
    """Results that a checkpoint did not keep.

    Attributes:
        recompute: computes the results of all its entries again.
        number: which of them these are.
    """

    recompute: Callable[[], Sequence[tuple[Payload, ...]]]
    number: int


class Entry:
    """One taped application of a primitive.

    Attributes:
        order: entries are numbered as they are made, so that sorting them gives an order of
            evaluation.
        primitive, params: what was applied.
        inputs: the operands' arrays or graph values, or Python numbers.
        sources: where each operand's gradient goes: to a result of another entry, to a leaf, or
            nowhere.
        outputs: the results' arrays or graph values; Dropped by a checkpoint, and None once freed
            by `backward()`.
        written: (storage, version) of operands and results, to notice writes in place since.
        level: the trace that it was made in, whose values its payloads are; None in eager mode.
        label: the name of the function that users know, where it is composed of several primitives.
    """

    __slots__ = (
        "__weakref__",
        "inputs",
        "label",
        "level",
        "order",
        "outputs",
        "params",
        "primitive",
        "sources",
        "written",
    )

    def __init__(
        self,
        primitive: Primitive | Composition,
        params: dict[str, Any],
        inputs: tuple[Payload | Scalar, ...],
        sources: tuple[Source, ...],
        outputs: tuple[Payload, ...],
        written: tuple[tuple[Storage, int] | None, ...],
    ) -> None:
        self.order = next(_sequence)
        self.primitive, self.params = primitive, params
        self.label: str | None = None
        self.level = current().trace
        self.inputs, self.sources = inputs, sources
        self.outputs: tuple[Payload, ...] | Dropped | None = outputs
        self.written = written


def apply(primitive: Primitive | Composition, *operands: Operand, **params: Any) -> Tensor:
    """The first result of a primitive on tensors.

    A number among the operands stands for itself in every element.
    """
    mode = current()
    if mode.trace is not None:
        if isinstance(primitive, Composition):
            return primitive.steps(apply, *operands, **params)  # type: ignore[no-any-return]  # of its last step
        return apply_all(primitive, operands, params)[0]
    # Eager mode spends its time here: one pass over the operands, and no more tuples than needed.
    inputs: list[Any] = []
    taped = False
    for operand in operands:
        if isinstance(operand, TensorBase):
            inputs.append(operand.array)
            if operand.array is None:
                raise leaked_tracer()
            taped = taped or operand._requires_grad
        else:
            inputs.append(operand)
    output = quiet.run(primitive.reference, *inputs, **params)
    if type(output) is tuple:
        return _results(primitive, operands, params, tuple(inputs), output)[0]
    result = from_array(output)
    array: Any = result.array
    if primitive.view and array.base is not None:
        shared: Any = operands[0]
        result.storage.parent = shared.storage
    if taped and mode.grad:
        record_entry(primitive, params, operands, tuple(inputs), (result,), (array,))
    return result


def apply_all(
    primitive: Primitive, operands: Sequence[Operand], params: dict[str, Any]
) -> tuple[Tensor, ...]:
    """All results of a primitive on tensors."""
    mode = current()
    if mode.trace is None:
        inputs = tuple([o.array if isinstance(o, TensorBase) else o for o in operands])
        if any(i is None for i in inputs):
            raise leaked_tracer()
        output = quiet.run(primitive.reference, *inputs, **params)
        outputs = output if type(output) is tuple else (output,)
        return _results(primitive, operands, params, inputs, outputs)
    if params:
        params = {name: plain(param) for name, param in params.items()}
    with unwatched():
        recorded, values = mode.trace.record(primitive, operands, params)
        results = tuple([mode.trace.wrap(value) for value in values])
        if mode.grad and _any_requires_grad(operands):
            record_entry(primitive, params, operands, recorded, results, values)
    return results


def _results(
    primitive: Primitive | Composition,
    operands: Sequence[Operand],
    params: dict[str, Any],
    inputs: tuple[Any, ...],
    outputs: Sequence[Any],
) -> tuple[Tensor, ...]:
    """What a reference returned, as taped tensors."""
    results = tuple([from_array(array) for array in outputs])
    if current().grad and _any_requires_grad(operands):
        arrays = tuple([r.array for r in results])
        record_entry(primitive, params, operands, inputs, results, arrays)
    return results


def _any_requires_grad(operands: Sequence[Operand]) -> bool:
    return any(isinstance(o, TensorBase) and o._requires_grad for o in operands)


def leaked_tracer() -> RuntimeError:
    """The error of a tensor that outlived its trace."""
    return RuntimeError(
        "a tensor that belongs to a trace was used after the trace had ended; return it from the "
        "compiled function instead of keeping it in a variable"
    )


def record_entry(
    primitive: Primitive | Composition,
    params: dict[str, Any],
    operands: Sequence[Operand],
    inputs: tuple[Any, ...],
    results: Sequence[Tensor],
    outputs: tuple[Any, ...],
) -> Entry:
    """Tapes an application and marks its floating results as needing a gradient."""
    sources: list[Source] = []
    written: list[tuple[Storage, int] | None] = []
    trace = current().trace
    for operand in operands:
        if not isinstance(operand, TensorBase):
            written.append(None)
            sources.append(None)
            continue
        storage = operand.storage
        plain = not storage.programs and storage.parent is None
        written.append((storage, storage.version if plain else storage.writes()))
        tensor: Any = operand
        if not operand._requires_grad:
            sources.append(None)
        elif operand.base is None and operand.entry is not None and trace is None:
            sources.append((operand.entry, operand.index))
        else:
            sources.append(source_within(trace, tensor))
    for result in results:
        storage = result.storage
        written.append((storage, storage.writes() if primitive.view else 0))
    entry = Entry(primitive, params, inputs, tuple(sources), outputs, tuple(written))
    for index, result in enumerate(results):
        array = result.array
        if result.dtype.is_floating_point if array is None else array.dtype.kind == "f":
            result.entry, result.index, result._requires_grad = entry, index, True
    return entry


def source_within(trace: Trace | None, tensor: Tensor) -> Source:
    """As `source_of`; to a trace that will be compiled, history from outside ends at its tensor."""
    source = source_of(tensor)
    if trace is None or not trace.compiles or type(source) is not tuple or source[0].level:
        return source
    if tensor.base is None or not tensor.base._requires_grad:
        return tensor
    if tensor not in trace.retaken:  # of its base, which is the trace's input
        trace.retaken[tensor] = _viewed_again(tensor)
    return source_of(trace.retaken[tensor])


def source_of(tensor: Tensor) -> Source:
    """Where the gradient of a tensor goes."""
    if tensor.base is not None and tensor.base.history != tensor.history:
        renew_view(tensor)
    return (tensor.entry, tensor.index) if tensor.entry is not None else tensor


def renew_view(tensor: Tensor) -> None:
    """Takes a view's history from its base again, after a write in place changed the base's."""
    base: Any = tensor.base
    fresh = _viewed_again(tensor)
    tensor._changing()
    tensor.entry, tensor.index = fresh.entry, fresh.index
    if fresh.entry is not None:
        fresh.entry.label = "AsStrided"
    tensor._requires_grad, tensor.history = fresh._requires_grad, base.history


def _viewed_again(tensor: Tensor) -> Tensor:
    """What a view shows, taken of its base."""
    fresh: Any = tensor.base
    for primitive, params in tensor.steps[len(fresh.steps) :]:
        fresh = apply(primitive, fresh, **params)
    return fresh  # type: ignore[no-any-return]  # a tensor


def apply_view(primitive: Primitive, x: Tensor, **params: Any) -> Tensor:
    """A movement primitive whose result shares `x`'s memory (unless NumPy has to copy)."""
    moved = apply(primitive, x, **params)
    if x.array is None:
        view = make_tensor(x.storage, None, moved.traced_aval)
        params = {name: plain(param) for name, param in params.items()}
    elif moved.array is None or np.may_share_memory(moved.array, x.array):
        view = make_tensor(x.storage, moved.array, moved.traced_aval)
    else:
        return moved
    view.steps = (*x.steps, (primitive, params))
    view.base = x.base if x.base is not None else x
    view.history = view.base.history
    view.entry, view.index, view._requires_grad = moved.entry, moved.index, moved._requires_grad
    return view
