"""One compiled form of a function: its program, bound to the state that it found.

A call in steady state checks the guards, fills in what is fresh (arguments, scalars, results), and
runs the program once.  State (parameters, buffers, optimizer state) was entered in the program's
table when it was bound; that is done again only if the structure of some module, optimizer or
`.grad` has changed since (see `context.Epoch`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from threading import Lock
from typing import Any

import numpy as np

from ..compiler.ir import bind_sizes
from ..runtime.executable import Executable, Frame
from .context import epoch
from .core import CallCounter, TensorBase, address_of, from_array
from .errors import check_error, history_outside
from .found_state import (
    FoundState,
    Overlaps,
    found,
    is_state,
    seen,
    sizes_at,
    storage_of,
    target_of,
)
from .guards import NAMES
from .memory import GradMemory, OutputMemory
from .record import Fresh, Recording
from .strided import StridedState
from .trace import Argument, GradOf, HostScalar, HostTensor, Hyperparameter
from .tree import LEAF

MISS: Any = object()
"""What a specialisation returns for a call that it does not serve."""


class Bound:
    """A program's table for one set of sizes: where arguments go in, and memory for results.

    Attributes:
        frame: the table and the arena.
        seen: the array last entered for each argument.
        results: (output, word, memory) of each result that is fresh at every call.
        grads: the same for results that become `.grad`s.
    """

    def __init__(
        self, executable: Executable, sizes: dict[str, int], arguments: int, grads: set[int]
    ) -> None:
        self.sizes, self.frame = sizes, executable.frame(sizes)
        self.seen: list[Any] = [None] * arguments
        self.results: list[tuple[int, int, OutputMemory]] = []
        self.grads: list[tuple[int, int, OutputMemory]] = []
        spec = executable.spec
        for output, (word, aval) in enumerate(zip(spec.layout.outputs, spec.outputs, strict=True)):
            if word is not None:
                memory = OutputMemory(aval, bind_sizes(aval.shape, sizes))
                (self.grads if output in grads else self.results).append((output, word, memory))


class Specialisation:
    """A recording and its program.

    Attributes:
        recording: what tracing found out.
        executable: the linked program.
        counter: how often it has run.
    """

    def __init__(
        self, recording: Recording, executable: Executable, guard: Callable[[], bool]
    ) -> None:
        self.recording, self.executable, self._guard = recording, executable, guard
        self.counter = CallCounter()
        self._lock = Lock()
        self._bound: Bound | None = None
        self._shapes: list[tuple[int, ...]] = []
        self._past_calls = 0
        self._epoch = -1
        self._last: tuple[Any, ...] = ()
        self._sort_bindings()
        self._grads = [g for g in recording.grads if g.output is not None]
        self._cleared = [g for g in recording.grads if g.output is None]
        self._leaves = [g.target for g in self._grads if isinstance(g.target, int)]
        self._grad_memory = GradMemory()
        self._reads_grads = bool(recording.absent_grads) or any(
            isinstance(b, GradOf) for b in recording.bindings
        )
        results = recording.results
        self._single = results[0] if recording.structure == LEAF and _is_whole(results[0]) else None

    def _sort_bindings(self) -> None:
        """Inputs by what they are bound to: (word of the table, binding)."""
        graph, words = self.recording.graph, self.executable.spec.layout.inputs
        bound = list(zip(words, self.recording.bindings, graph.inputs, strict=True))
        self._arguments = [(w, b.position, v.aval) for w, b, v in bound if isinstance(b, Argument)]
        varying = self._arguments if self.recording.sizes.names else []
        self._varying = [position for _, position, aval in varying if aval.shape]
        self._argument_grads = [
            (w, b.tensor)
            for w, b, _ in bound
            if isinstance(b, GradOf) and isinstance(b.tensor, int)
        ]
        self._state = [(w, b) for w, b, _ in bound if is_state(b)]
        self._found = FoundState(self.recording)
        self._strided = StridedState()
        donated = {d for d in graph.donations if d is not None}
        self._written_state = {b for i, b in enumerate(self.recording.bindings) if i in donated}
        scalars = [(w, b) for w, b, _ in bound if isinstance(b, (Hyperparameter, HostScalar))]
        self._scalar_words = [word for word, _ in scalars]
        self._host_tensors = [(w, b.expression) for w, b, _ in bound if isinstance(b, HostTensor)]
        self._scalars = np.zeros(len(scalars) + len(self._arguments), np.float64)
        self._scalar_address = address_of(self._scalars)
        self._read_scalars = _scalar_reader([b for _, b in scalars], self._scalars)
        self._written = _written_arguments(self.recording)
        self._written_positions = [self._arguments[number][1] for number in self._written]
        self._overlaps = Overlaps(self.recording, set(self._written_positions))
        self._owned = {id(storage) for storage, _ in self._found.seen}

    @property
    def executables(self) -> tuple[Executable, ...]:
        """The programs that it runs: one."""
        return (self.executable,)

    @property
    def native_calls(self) -> int:
        """How often the program has run, as it counts itself."""
        return self._past_calls + (self._bound.frame.calls if self._bound is not None else 0)

    # --- guards -----------------------------------------------------------------------------------

    def is_current(self) -> bool:
        """Whether all guards hold; binds the state again if it may have moved."""
        if not self._guard():
            return False
        if self._epoch != epoch.count:
            if not self._found.holds():
                return False
            if self._bound is not None:
                self._enter_state(self._bound.frame)
        return True

    # --- binding ----------------------------------------------------------------------------------

    def _enter_state(self, frame: Frame) -> None:
        """Enters the addresses of state and scalars."""
        self._strided.clear()
        for word, binding in self._state:
            storage = storage_of(binding)
            array: Any = storage.array
            in_order = array.flags.c_contiguous
            written = binding in self._written_state
            frame.words[word] = storage.address if in_order else self._strided.add(array, written)
            if self.counter not in storage.programs:
                storage.programs = (*storage.programs, self.counter)
        for number, word in enumerate(self._scalar_words):
            frame.words[word] = self._scalar_address + 8 * number
        self._grad_memory.fresh = True
        self._epoch = epoch.count

    def _bound_for(self, leaves: Sequence[Any]) -> Bound:
        shapes = [leaves[position].array.shape for position in self._varying]
        bound = self._bound
        if bound is None or self._shapes != shapes:
            sizes = self.sizes_at(leaves)
            assert sizes is not None  # or the call would be another program's
            self._past_calls, self._shapes = self.native_calls, shapes
            grads = {g.output for g in self._grads if g.output is not None}
            bound = self._bound = Bound(self.executable, sizes, len(self._arguments), grads)
            self._enter_state(bound.frame)
        return bound

    def sizes_at(self, leaves: Sequence[Any]) -> dict[str, int] | None:
        """The sizes of a call's arguments, or None if the program is not for such."""
        return sizes_at(self.recording, leaves)

    # --- calling ----------------------------------------------------------------------------------

    def remember(self, leaves: Sequence[Any]) -> None:
        """Lets `call_again` serve arguments like these, which are all there are."""
        lifted = {position for _, position, _ in self._arguments}
        self._last = tuple(_likeness(leaf, i in lifted) for i, leaf in enumerate(leaves))

    def call_again(self, args: tuple[Any, ...]) -> Any:
        """The result for arguments like those of the last call, or MISS."""
        if len(args) != len(self._last) or self._epoch != epoch.count or not self._guard():
            return MISS
        alike = not self._overlaps.matter or self._overlaps.alike(args)
        for arg, last in zip(args, self._last, strict=True):
            if type(last) is tuple:
                if not isinstance(arg, TensorBase):
                    return MISS
                array = arg.array
                dtype, shape, needs_grad, no_grad = last
                if (
                    array is None
                    or array.dtype is not dtype
                    or array.shape != shape
                    or arg._requires_grad is not needs_grad
                    or (arg._grad is None) is not no_grad
                ):
                    return MISS
            elif last is float:
                if type(arg) is not float:
                    return MISS
            elif arg is not last:
                return MISS
        with self._lock:
            return self._run(args) if alike else MISS

    def call(self, leaves: Sequence[Any]) -> Any:
        """The result for leaves of the types that the key requires, or MISS if a guard fails."""
        if not self.is_current() or self.sizes_at(leaves) is None:
            return MISS
        with self._lock:
            return self._run(leaves)

    def _run(self, leaves: Sequence[Any]) -> Any:
        for position in self._leaves:
            if leaves[position].entry is not None:
                raise history_outside()
        bound = self._bound
        if bound is None or bound.sizes:
            bound = self._bound_for(leaves)
        frame = bound.frame
        words = frame.words
        copies = self._enter_arguments(bound, leaves)
        arrays: dict[int, Any] = {}
        for output, word, memory in bound.results:
            arrays[output], words[word] = memory.take()
        renew = self._grads and self._grad_memory.fresh
        if renew:
            for output, word, memory in bound.grads:
                arrays[output], words[word] = memory.take()
        status = self.executable.entry(frame.address)
        if status:
            self._grad_memory.fresh = True
            raise check_error(self.executable.spec.checks[status - 1])
        self.counter.count += 1
        del copies  # argument copies live until here
        self._announce_changes(leaves, arrays if renew else None)
        if self._single is not None:
            return from_array(arrays[self._single.output])
        return self._result(leaves, arrays, bound.sizes)

    def _announce_changes(self, leaves: Sequence[Any], grads: dict[int, Any] | None) -> None:
        """What a call changes besides memory: versions of arguments, and `.grad`s."""
        if self._strided:
            self._strided.store()
        for position in self._written_positions:
            leaves[position].storage.version += 1
        if grads is not None:
            self._set_grads(leaves, grads)
        if self._cleared:
            self._clear_grads(leaves)

    # --- arguments --------------------------------------------------------------------------------

    def _enter_arguments(self, bound: Bound, leaves: Sequence[Any]) -> Any:
        """Enters arguments and scalars; returns the copies that have to live during the call."""
        if self._overlaps.matter:
            self._overlaps.require_apart(leaves)
        copies: Any = None
        frame, seen = bound.frame, bound.seen
        for number, (word, position, _) in enumerate(self._arguments):
            leaf = leaves[position]
            if type(leaf) is float:
                self._enter_float(frame, number, word, leaf)
            elif leaf.array is not seen[number]:
                copies = self._enter_tensor(bound, number, word, leaf), copies
        for word, position in self._argument_grads:
            frame.words[word] = _grad_address(leaves[position])
        for word, expression in self._host_tensors:
            copies = self._enter_host_tensor(frame, word, expression.value()), copies
        if self._strided:
            self._strided.load()
        self._read_scalars()
        return copies

    def _enter_host_tensor(self, frame: Frame, word: int, tensor: Any) -> Any:
        """Enters a tensor found in Python; one whose memory the program may write is copied."""
        shared = id(tensor.storage) in self._owned
        array = tensor.array.copy() if shared else np.ascontiguousarray(tensor.array)
        frame.words[word] = address_of(array)
        return array

    def _enter_float(self, frame: Frame, number: int, word: int, value: float) -> None:
        place = len(self._scalar_words) + number
        self._scalars[place] = value
        frame.words[word] = self._scalar_address + 8 * place

    def _enter_tensor(self, bound: Bound, number: int, word: int, leaf: Any) -> Any:
        """Enters an argument's address; one that is not contiguous is copied first."""
        array = leaf.array
        if not array.flags.c_contiguous:
            if number in self._written:
                raise RuntimeError(
                    "a compiled function writes to this argument, whose memory is not contiguous; "
                    "pass .contiguous() or write to a new tensor"
                )
            array = np.ascontiguousarray(array)
            bound.seen[number] = None
        else:
            if number in self._written and id(leaf.storage) in self._owned:
                raise RuntimeError(
                    "a compiled function writes to this argument, which shares memory with a "
                    "tensor that the function reads by another name; pass a clone()"
                )
            bound.seen[number] = array
        bound.frame.words[word] = address_of(array)
        return array

    # --- gradients --------------------------------------------------------------------------------

    def _set_grads(self, leaves: Sequence[Any], arrays: dict[int, Any]) -> None:
        for update in self._grads:
            assert update.output is not None
            grad = from_array(arrays[update.output])
            grad.owner = self._grad_memory
            target_of(update, leaves)._grad = grad
        self._grad_memory.fresh = any(isinstance(u.target, int) for u in self._grads)
        self._announce()

    def _clear_grads(self, leaves: Sequence[Any]) -> None:
        targets = [target_of(update, leaves) for update in self._cleared]
        if any(t._grad is not None for t in targets):
            for target in targets:
                target._grad = None
            self._announce()

    def _announce(self) -> None:
        """Tells compiled functions that `.grad`s were exchanged: this one too, if it read any."""
        epoch.bump()
        if not self._reads_grads:
            self._epoch = epoch.count

    # --- results ----------------------------------------------------------------------------------

    def _result(self, leaves: Sequence[Any], arrays: dict[int, Any], sizes: dict[str, int]) -> Any:
        whole: dict[int, Any] = {}
        values: list[Any] = []
        for result in self.recording.results:
            if isinstance(result, Fresh):
                if result.output not in whole:
                    whole[result.output] = from_array(arrays[result.output])
                values.append(seen(whole[result.output], result, sizes))
            else:
                values.append(found(result, leaves, sizes))
        return self.recording.finish(iter(values))


def _is_whole(result: Any) -> bool:
    return isinstance(result, Fresh) and not result.steps and not result.number


def _likeness(leaf: Any, lifted: bool) -> Any:
    """What an argument must be for the program to serve it: a tensor's type, `float`, or itself."""
    if isinstance(leaf, TensorBase):
        assert leaf.array is not None
        return leaf.array.dtype, leaf.array.shape, leaf._requires_grad, leaf._grad is None
    return float if lifted else leaf


def _grad_address(leaf: Any) -> int:
    """Address of an argument's `.grad`, which the program reads and writes."""
    array = leaf._grad.array
    if array.shape != leaf.array.shape or array.dtype != leaf.array.dtype:
        raise RuntimeError("the .grad of an argument does not have its argument's type any more")
    if not array.flags.c_contiguous:
        raise RuntimeError(
            "a compiled function adds to the .grad of an argument, whose memory is not contiguous; "
            "assign its contiguous() to .grad"
        )
    return address_of(array)


def _written_arguments(recording: Recording) -> set[int]:
    """Numbers, among the arguments, of those that the program writes to."""
    donated = {d for d in recording.graph.donations if d is not None}
    arguments = [i for i, b in enumerate(recording.bindings) if isinstance(b, Argument)]
    return {number for number, position in enumerate(arguments) if position in donated}


def _scalar_reader(
    bindings: Sequence[Hyperparameter | HostScalar], memory: Any
) -> Callable[[], None]:
    """A function that copies all hyperparameters, and numbers of Python's, into `memory`."""
    if not bindings:
        return lambda: None
    names: dict[str, Any] = dict(NAMES)
    reads, codes = [], ""
    for number, binding in enumerate(bindings):
        if isinstance(binding, HostScalar):
            reads.append(binding.expression.text(names))
            codes += "q" if binding.whole else "d"
            continue
        names[f"c{number}"] = binding.container
        index = "" if binding.index is None else f"[{binding.index}]"
        reads.append(f"c{number}[{binding.key!r}]{index}")
        codes += "d"
    names.update(pack=Struct(codes).pack_into, memory=memory)
    source = f"lambda: pack(memory, 0, {', '.join(reads)})"
    reader: Callable[[], None] = eval(source, names)  # noqa: S307  # from bindings alone
    return reader
