"""The state that a recording found, at a later call: whether it is still there, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compiler.ir import bind_sizes
from .core import Size, Storage
from .record import Alias, Fresh, GradUpdate, HostResult, NamedSizes, Recording
from .trace import Argument, Captured, GradOf, snapshot
from .watch.effects import Kept


class FoundState:
    """What one recording found outside of its arguments.

    Attributes:
        bindings: tensors and `.grad`s that the graph reads.
        seen: for each, the storage and the `requires_grad` flag that the trace saw.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.bindings: list[Any] = [b for b in recording.bindings if is_state(b)]
        self.seen = [(storage_of(b), b.tensor._requires_grad) for b in self.bindings]

    def holds(self) -> bool:
        """Whether all of it is still there."""
        recording = self._recording
        return (
            all(map(_is_there, self.bindings, self.seen))
            and all(t._grad is None for t in recording.absent_grads)
            and all(snapshot(module) == seen for module, seen in recording.modules)
        )


def is_state(binding: Any) -> bool:
    """Whether an input is found at the same place at every call, whatever the arguments."""
    return isinstance(binding, Captured) or (
        isinstance(binding, GradOf) and not isinstance(binding.tensor, int)
    )


def storage_of(binding: Any) -> Storage:
    """The memory of a piece of state now."""
    tensor = binding.tensor if isinstance(binding, Captured) else binding.tensor._grad
    storage: Storage = tensor.storage
    return storage


def _is_there(binding: Any, seen: tuple[Storage, bool]) -> bool:
    storage, needs_grad = seen
    if isinstance(binding, Captured):
        return binding.tensor.storage is storage and binding.tensor._requires_grad == needs_grad
    grad = binding.tensor._grad
    return grad is not None and not grad.steps and grad.storage.aval == storage.aval


def target_of(update: GradUpdate, leaves: Sequence[Any]) -> Any:
    """The tensor whose `.grad` is to be set."""
    return leaves[update.target] if isinstance(update.target, int) else update.target


def found(result: Any, leaves: Sequence[Any], sizes: dict[str, int]) -> Any:
    """A result that is no output of the program: a plain value, or a tensor there before."""
    if isinstance(result, NamedSizes):
        numbers = bind_sizes(result.sizes, sizes)
        return Size(numbers) if isinstance(numbers, tuple) else numbers
    if isinstance(result, HostResult):
        return result.expression.value()
    if not isinstance(result, Alias):
        return result.target if isinstance(result, Kept) else result
    source: Any = result.source
    if isinstance(source, GradOf):
        owner = source.tensor
        source = (leaves[owner] if isinstance(owner, int) else owner).grad
    elif isinstance(source, int):
        source = leaves[source]
    view = through(source, result.steps, sizes)
    return view.detach() if result.detached and view._requires_grad else view


def seen(output: Any, result: Fresh, sizes: dict[str, int]) -> Any:
    """A result in the memory of an output."""
    return output.item() if result.number else through(output, result.steps, sizes)


def through(tensor: Any, steps: Sequence[Any], sizes: dict[str, int]) -> Any:
    """A tensor seen through movement steps, at a call's sizes."""
    from .tape import apply_view

    for primitive, params in steps:
        numbers = {k: bind_sizes(v, sizes) for k, v in params.items()} if sizes else params
        tensor = apply_view(primitive, tensor, **numbers)
    return tensor


def sizes_at(recording: Recording, leaves: Sequence[Any]) -> dict[str, int] | None:
    """The sizes of a call's arguments, or None if the recording is not for such."""
    sizes = recording.sizes
    if not sizes.actual:
        return {}
    given = zip(recording.bindings, recording.graph.inputs, strict=True)
    tensors = [(v.aval, leaves[b.position]) for b, v in given if isinstance(b, Argument)]
    shaped = [(aval, x.array.shape) for aval, x in tensors if aval.shape]
    return sizes.fitting([aval for aval, _ in shaped], [shape for _, shape in shaped])


# --- arguments that meet --------------------------------------------------------------------------


class Overlaps:
    """How the arguments of a recording lie to each other in memory.

    Attributes:
        same: pairs of positions that held one tensor.
        apart: pairs that did not, where the program writes to one of them or sets its `.grad`.
        matter: whether there is anything to be checked at a call.
    """

    def __init__(self, recording: Recording, written: set[int]) -> None:
        self._written = written
        self._graded = {u.target for u in recording.grads if isinstance(u.target, int)}
        self._others = {id(u.target) for u in recording.grads if not isinstance(u.target, int)}
        self.same = tuple(recording.same.items())
        changed = written | self._graded
        self.apart = tuple(
            (i, j)
            for i in changed
            for j in recording.tensors
            if i != j and (i < j or j not in changed)
        )
        self.matter = bool(self.same or self.apart or (self._graded and self._others))

    def alike(self, leaves: Sequence[Any]) -> bool:
        """Whether just those positions hold one tensor that did."""
        return all(leaves[i] is leaves[j] for i, j in self.same) and not any(
            leaves[i] is leaves[j] for i, j in self.apart
        )

    def require_apart(self, leaves: Sequence[Any]) -> None:
        """Raises if an argument that is written shares memory with another one.

        Raises:
            RuntimeError: see above; or a `.grad` would be set under two names.
        """
        for i, j in self.apart:
            if not {i, j} & self._written:
                continue
            if np.may_share_memory(leaves[i].array, leaves[j].array):
                raise RuntimeError(
                    "a compiled function writes to an argument that shares memory with another "
                    "argument; pass a clone()"
                )
        if self._others and any(id(leaves[i]) in self._others for i in self._graded):
            raise RuntimeError(
                "a compiled function adds to the .grad of an argument that it also finds by "
                "another name; use one of both"
            )
