"""What a derived graph reads of the forward pass: values kept on the tape, or computed again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .tape import Dropped, Entry
from .tape_reading import Slot, Tape


def residuals_of(tape: Tape, slots: Sequence[Slot]) -> list[Any]:
    """The payloads at some slots; what a checkpoint dropped is computed again, once.

    Raises:
        RuntimeError: `backward()` has freed one of them.
    """
    again: dict[Any, Any] = {}
    return [_residual(tape, slot, again) for slot in slots]


def _residual(tape: Tape, slot: Slot, again: dict[Any, Any]) -> Any:
    number, index = slot
    if number < 0:
        return tape.externals[index]
    return outputs_of(tape.entries[number], again)[index]


def outputs_of(entry: Entry, again: dict[Any, Any]) -> tuple[Any, ...]:
    """What an entry computed; `again` holds what checkpoints have computed again so far."""
    outputs = entry.outputs
    if outputs is None:
        raise _freed()
    if isinstance(outputs, Dropped):
        if outputs.recompute not in again:
            again[outputs.recompute] = outputs.recompute()
        found: tuple[Any, ...] = again[outputs.recompute][outputs.number]
        return found
    return outputs


def _freed() -> RuntimeError:
    return RuntimeError(
        "Trying to backward through the graph a second time (or directly access saved tensors "
        "after they have already been freed). Saved intermediate values of the graph are freed "
        "when you call .backward() or autograd.grad(). Specify retain_graph=True if you need to "
        "backward through the graph a second time or if you need to access saved tensors after "
        "calling backward."
    )
