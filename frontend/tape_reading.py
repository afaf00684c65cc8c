"""Reading the tape: everything behind some tensors, numbered, as plain data and as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ..compiler import dtypes
from ..compiler.aval import Aval
from ..compiler.ir import Graph, Value
from ..compiler.primitives.create import graph_input
from .context import current
from .core import Storage
from .tape import Entry, source_of, source_within
from .trace import with_constants

if TYPE_CHECKING:
    from .tensor import Tensor

Slot: TypeAlias = "tuple[int, int]"  # (-1, external number) or (entry number, result number)
Mark: TypeAlias = "tuple[Storage, int] | None"


class Tape(NamedTuple):
    """The part of the tape behind some tensors, numbered.

    Attributes:
        entries: in order of evaluation.
        externals: operands that no entry computes (leaves among them), as payloads.
        levels: for each external, the trace that it is a value of, if any.
        marks: for each external, its storage and the writes that it had seen when it was taped.
        leaves: slot of each leaf that wants a gradient.
        wanted: slot of each tensor that is asked about: leaves, or results.
        operands: for each entry, each operand's slot, or the Python number that it is.
        roots: slots of the tensors asked for.
    """

    entries: list[Entry]
    externals: list[Any]
    levels: list[Any]
    marks: list[Mark]
    leaves: dict[Tensor, Slot]
    wanted: dict[Tensor, Slot]
    operands: list[tuple[Any, ...]]
    roots: list[Slot]


def read_tape(roots: Sequence[Tensor], wanted: Sequence[Tensor] | None = None) -> Tape:
    """Numbers everything behind `roots`; what is asked about is `wanted`, by default all leaves."""
    sources = [source_of(root) for root in roots]
    entries = reachable([s[0] for s in sources if type(s) is tuple])
    numbers = {entry: number for number, entry in enumerate(entries)}
    leaves: dict[Tensor, Slot] = {}
    tape = Tape(entries, [], [], [], leaves, leaves if wanted is None else {}, [], [])
    known: dict[Any, Slot] = {}
    asked = set(wanted or ())
    for entry in entries:
        slots = []
        for payload, source, mark in zip(entry.inputs, entry.sources, entry.written, strict=False):
            if type(source) is tuple:
                slots.append((numbers[source[0]], source[1]))
            else:
                leaf: Any = source
                if leaf is not None and leaf.closed and leaf not in asked:
                    leaf = None
                slots.append(_external(tape, known, payload, leaf, mark, entry.level))
        tape.operands.append(tuple(slots))
    here = current().trace
    for root, source in zip(roots, sources, strict=True):
        if type(source) is tuple:
            tape.roots.append((numbers[source[0]], source[1]))
        else:
            tape.roots.append(_external(tape, known, payload_of(root), source, None, here))
    for tensor in wanted or ():
        source = source_within(here, tensor)
        if type(source) is tuple and source[0] in numbers:
            tape.wanted[tensor] = (numbers[source[0]], source[1])
        elif source is tensor and tensor in leaves:
            tape.wanted[tensor] = leaves[tensor]
    return tape


def reachable(heads: Sequence[Entry]) -> list[Entry]:
    """The entries behind `heads`, in order of evaluation."""
    seen = set(heads)
    stack = list(seen)
    while stack:
        for source in stack.pop().sources:
            if type(source) is tuple and source[0] not in seen:
                seen.add(source[0])
                stack.append(source[0])
    return sorted(seen, key=_order)


def _order(entry: Entry) -> int:
    return entry.order


def _external(
    tape: Tape, known: dict[Any, Slot], payload: Any, leaf: Any, mark: Mark, level: Any
) -> Any:
    """The slot of an operand that no entry computes; a Python number is its own."""
    if leaf is not None:
        slot = tape.leaves.get(leaf)
    elif isinstance(payload, (np.ndarray, Value)):
        slot = known.get((id(payload), level))
    else:
        return payload
    if slot is None:
        slot = -1, len(tape.externals)
        tape.externals.append(payload)
        tape.levels.append(level)
        tape.marks.append(mark)
        if leaf is not None:
            tape.leaves[leaf] = slot
        else:
            known[id(payload), level] = slot
    return slot


def has_history(tensor: Tensor) -> bool:
    """Whether `backward()` from this tensor is still possible: nothing behind it has been freed."""
    source = source_of(tensor)
    if type(source) is not tuple:
        return False
    return all(entry.outputs is not None for entry in reachable([source[0]]))


def payload_of(tensor: Tensor) -> Any:
    """What the tape keeps of a tensor: its array, or while tracing its graph value."""
    trace = current().trace
    return trace.read(tensor) if trace is not None else tensor.array


def structure_of(tape: Tape) -> Any:
    """What the derived backward graph depends on, as a key: all but the values."""
    structure = [
        (entry.primitive, tuple(entry.params.items()), operands)
        for entry, operands in zip(tape.entries, tape.operands, strict=True)
    ]
    numbers = [repr(o) for operands in tape.operands for o in operands if type(o) is not tuple]
    types = [x.aval if isinstance(x, Value) else (x.dtype, x.shape) for x in tape.externals]
    # `repr` tells apart numbers and parameters that compare equal: 1, 1.0 and True, 0.0 and -0.0.
    floats = [repr(v) for e in tape.entries for v in e.params.values() if type(v) is float]
    places = tuple(tape.wanted.values()), tuple(tape.roots)
    return tuple(structure), tuple(numbers), tuple(floats), tuple(types), places


def forward_graph(tape: Tape) -> tuple[Graph, dict[Value, Slot], list[Value]]:
    """The taped computation as a graph, the slot that each value stands for, and what is wanted."""
    inputs = [graph_input(i, aval_of(x)) for i, x in enumerate(tape.externals)]
    slots: dict[Value, Slot] = {value: (-1, i) for i, value in enumerate(inputs)}
    computed: list[tuple[Value, ...]] = []

    def value_at(slot: Any) -> Any:
        if type(slot) is not tuple:
            return slot
        return inputs[slot[1]] if slot[0] < 0 else computed[slot[0]][slot[1]]

    for number, entry in enumerate(tape.entries):
        operands = with_constants(entry.primitive, [value_at(s) for s in tape.operands[number]])
        results = entry.primitive.bind(*operands, **entry.params)
        computed.append(results)
        for index, result in enumerate(results):
            slots.setdefault(result, (number, index))
    outputs = tuple(value_at(slot) for slot in tape.roots)
    wanted = [value_at(slot) for slot in tape.wanted.values()]
    return Graph("backward", tuple(inputs), outputs), slots, wanted


def aval_of(payload: Any) -> Aval:
    """The type of an array or a graph value."""
    if isinstance(payload, Value):
        return Aval(payload.aval.dtype, payload.aval.shape)
    return Aval(dtypes.from_numpy(payload.dtype), payload.shape)
