"""`checkpoint`: results of a block are dropped, and computed again where a gradient needs them.

In eager mode the block is taped as usual, but its entries keep no results.  In a trace nothing is
kept anyway: the compiler chooses what to compute again (`schedule/recompute.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .context import Mode, current, using
from .core import TensorBase
from .generator import get_rng_state, set_rng_state
from .residuals import outputs_of
from .tape import Dropped, Entry, next_order, source_of
from .tape_reading import reachable
from .tree import flatten

__all__ = ["checkpoint", "checkpoint_sequential"]


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """What `function` returns; what it computes on the way is not kept for the backward pass.

    Args:
        function: runs again, with the same arguments, when a gradient needs what it computed.
        args: its arguments.
        use_reentrant: accepted; gradients of second order and of tensors that the function finds by
            itself are right either way.
        preserve_rng_state: whether it draws the same random numbers the second time.
        kwargs: its keyword arguments.

    Raises:
        RuntimeError: later, by `backward()`: the function did something else the second time.
    """
    del use_reentrant
    mode = current()
    if mode.trace is not None or not mode.grad:
        return function(*args, **kwargs)
    block = _Block(function, args, kwargs, preserve_rng_state)
    before = next_order()
    result = function(*args, **kwargs)
    block.drop(result, before)
    return result


class _Block:
    """A call that can be made again."""

    def __init__(
        self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any], preserve: bool
    ) -> None:
        self._function, self._args, self._kwargs = function, args, kwargs
        self._state = get_rng_state() if preserve else None
        self._operations: list[Any] = []

    def drop(self, result: Any, before: int) -> None:
        """Lets the entries made since `before` forget what they computed."""
        entries = _entries(result, before)
        own = set(entries)
        self._operations = [e.primitive for e in entries]
        for number, entry in enumerate(entries):
            entry.outputs = Dropped(self.recompute, number)
            inner = [type(s) is tuple and s[0] in own for s in entry.sources]
            entry.inputs = tuple([0 if i else x for x, i in zip(entry.inputs, inner, strict=True)])
            marks = entry.written[: len(inner)]
            entry.written = tuple([None if i else m for m, i in zip(marks, inner, strict=True)])

    def recompute(self) -> Sequence[tuple[Any, ...]]:
        """The results of all entries, in order."""
        after = get_rng_state()
        before = next_order()
        try:
            if self._state is not None:
                set_rng_state(self._state)
            with using(Mode(None, True)):
                result = self._function(*self._args, **self._kwargs)
        finally:
            if self._state is not None:
                set_rng_state(after)
        entries = _entries(result, before)
        if [e.primitive for e in entries] != self._operations:
            raise RuntimeError(
                "torch.utils.checkpoint: A different number of tensors was saved during the "
                "original forward and recomputation."
            )
        again: dict[Any, Any] = {}
        return [outputs_of(entry, again) for entry in entries]


def _entries(result: Any, before: int) -> list[Entry]:
    """The entries behind a result that were made after the one numbered `before`."""
    sources = [source_of(t) for t in flatten(result)[0] if isinstance(t, TensorBase)]  # type: ignore[arg-type]  # every tensor is a Tensor
    found = reachable([s[0] for s in sources if type(s) is tuple])
    return [entry for entry in found if entry.order > before]


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
) -> Any:
    """Functions one after another, in `segments` parts that are checkpoints, but for the last."""
    del use_reentrant
    listed = list(functions.children()) if hasattr(functions, "children") else list(functions)
    length = len(listed) // segments
    for start in range(0, length * (segments - 1), max(length, 1)):
        part = _in_sequence(listed[start : start + length])
        input = checkpoint(part, input, preserve_rng_state=preserve_rng_state)
    return _in_sequence(listed[length * (segments - 1) :])(input)


def _in_sequence(functions: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        for function in functions:
            x = function(x)
        return x

    return run
