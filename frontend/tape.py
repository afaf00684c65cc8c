"""Applying primitives to tensors: the one door through which every operation passes.

Eager: the NumPy reference runs at once.  Tracing: a node is recorded.  In both cases, if an operand
needs a gradient, a tape entry remembers what was applied to what.  Entries refer to the entries
before them, so that whatever no tensor refers to is freed; `autograd` reads them back in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..compiler.primitive import Primitive
from ..compiler.quiet import quiet
from .context import current
from .core import Array, Payload, Storage, TensorBase, from_array, make_tensor

if TYPE_CHECKING:
    from .tensor import Tensor

Scalar: TypeAlias = "bool | int | float"
Operand: TypeAlias = "Tensor | Scalar"
Source: TypeAlias = "tuple[Entry, int] | Tensor | None"

_sequence = count()


class Entry:
    """One taped application of a primitive.

    Attributes:
        order: entries are numbered as they are made, so that sorting them gives an order of
            evaluation.
        primitive, params: what was applied.
        inputs: the operands' arrays or graph values, or Python numbers.
        sources: where each operand's gradient goes: to a result of another entry, to a leaf, or
            nowhere.
        outputs: the results' arrays or graph values; None once freed by `backward()`.
        written: (storage, version) of operands and results, to notice writes in place since.
        label: the name of the function that users know, where it is composed of several primitives.
    """

    __slots__ = (
        "inputs",
        "label",
        "order",
        "outputs",
        "params",
        "primitive",
        "sources",
        "written",
    )

    def __init__(
        self,
        primitive: Primitive,
        params: dict[str, Any],
        inputs: tuple[Payload | Scalar, ...],
        sources: tuple[Source, ...],
        outputs: tuple[Payload, ...],
        written: tuple[tuple[Storage, int] | None, ...],
    ) -> None:
        self.order = next(_sequence)
        self.primitive, self.params = primitive, params
        self.label: str | None = None
        self.inputs, self.sources = inputs, sources
        self.outputs: tuple[Payload, ...] | None = outputs
        self.written = written


def apply(primitive: Primitive, *operands: Operand, **params: Any) -> Tensor:
    """The first result of a primitive on tensors.

    A number among the operands stands for itself in every element.
    """
    return apply_all(primitive, operands, params)[0]


def apply_all(
    primitive: Primitive, operands: Sequence[Operand], params: dict[str, Any]
) -> tuple[Tensor, ...]:
    """All results of a primitive on tensors."""
    mode = current()
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    if mode.trace is not None:
        inputs, outputs = mode.trace.record(primitive, operands, params)
        results = tuple([mode.trace.wrap(value) for value in outputs])
    else:
        inputs = tuple([o.array if isinstance(o, TensorBase) else o for o in operands])
        outputs = run_reference(primitive, inputs, params)
        results = tuple([from_array(array) for array in outputs])
        if primitive.view and outputs[0].base is not None:
            shared: Any = operands[0]
            results[0].storage.parent = shared.storage
    # A list, not a generator: there are few operands, and every operation comes by here.
    if mode.grad and any([isinstance(o, TensorBase) and o._requires_grad for o in operands]):  # noqa: C419  # as above
        record_entry(primitive, params, operands, inputs, results, outputs)
    return results


def run_reference(
    primitive: Primitive, inputs: Sequence[Any], params: dict[str, Any]
) -> tuple[Array, ...]:
    """Results of a primitive on arrays, each an array (of 0-d ones NumPy returns scalars)."""
    for array in inputs:
        if array is None:
            raise leaked_tracer()
    result = quiet.run(primitive.reference, *inputs, **params)
    if type(result) is np.ndarray:
        return (result,)
    if type(result) is tuple:
        return tuple([np.asarray(r) for r in result])
    return (np.asarray(result),)


def leaked_tracer() -> RuntimeError:
    """The error of a tensor that outlived its trace."""
    return RuntimeError(
        "a tensor that belongs to a trace was used after the trace had ended; return it from the "
        "compiled function instead of keeping it in a variable"
    )


def record_entry(
    primitive: Primitive,
    params: dict[str, Any],
    operands: Sequence[Operand],
    inputs: tuple[Any, ...],
    results: Sequence[Tensor],
    outputs: tuple[Any, ...],
) -> None:
    """Tapes an application and marks its floating results as needing a gradient."""
    sources: list[Source] = []
    written: list[tuple[Storage, int] | None] = []
    for operand in operands:
        if isinstance(operand, TensorBase):
            storage = operand.storage
            written.append((storage, _writes(storage)))
            tensor: Any = operand
            sources.append(source_of(tensor) if operand._requires_grad else None)
        else:
            written.append(None)
            sources.append(None)
    written += [(result.storage, _writes(result.storage)) for result in results]
    entry = Entry(primitive, params, inputs, tuple(sources), outputs, tuple(written))
    for index, result in enumerate(results):
        if result.dtype.is_floating_point:
            result.entry, result.index, result._requires_grad = entry, index, True


def _writes(storage: Storage) -> int:
    """`storage.writes()`, which is one attribute for most."""
    if storage.programs or storage.parent is not None:
        return storage.writes()
    return storage.version


def source_of(tensor: Tensor) -> Source:
    """Where the gradient of a tensor goes."""
    if tensor.base is not None and tensor.base.history != tensor.history:
        renew_view(tensor)
    return (tensor.entry, tensor.index) if tensor.entry is not None else tensor


def renew_view(tensor: Tensor) -> None:
    """Takes a view's history from its base again, after a write in place changed the base's."""
    base = tensor.base
    assert base is not None
    fresh: Tensor = base
    for primitive, params in tensor.steps[len(base.steps) :]:
        fresh = apply(primitive, fresh, **params)
    tensor.entry, tensor.index = fresh.entry, fresh.index
    tensor._requires_grad, tensor.history = fresh._requires_grad, base.history


def apply_view(primitive: Primitive, x: Tensor, **params: Any) -> Tensor:
    """A movement primitive whose result shares `x`'s memory (unless NumPy has to copy)."""
    moved = apply(primitive, x, **params)
    if x.array is None:
        view = make_tensor(x.storage, None, moved.traced_aval)
    elif moved.array is None or np.may_share_memory(moved.array, x.array):
        view = make_tensor(x.storage, moved.array, moved.traced_aval)
    else:
        return moved
    view.steps = (*x.steps, (primitive, params))
    view.base = x.base if x.base is not None else x
    view.history = view.base.history
    view.entry, view.index, view._requires_grad = moved.entry, moved.index, moved._requires_grad
    return view
