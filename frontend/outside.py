"""What tracing changes of things that outlive the trace, so that it can be taken back.

A traced function runs as Python, so a few things really happen: an optimizer makes its state on the
first step, a `requires_grad` flag is set, a tensor from outside takes on history.  Changes of a
tensor last as long as the trace and have to be gone by its end; what was made to stay, such as an
optimizer's state, stays only if the call succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .core import structure_changed
from .errors import UntraceableError
from .frames import place

if TYPE_CHECKING:
    from .guards import Guard
    from .tensor import Tensor

_ATTRIBUTES = ("entry", "index", "history", "_requires_grad")


class Outside:
    """The changes that one trace has made outside of itself.

    Attributes:
        reads: what functions that were compiled for the trace read when that was done.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._tensors: dict[Tensor, tuple[list[Any], str]] = {}
        self._own: set[Tensor] = set()
        self.reads: dict[Guard, None] = {}

    def made(self, tensor: Tensor) -> None:
        """Notes a tensor on real memory that the traced code made, and so may change."""
        self._own.add(tensor)

    def changing(self, tensor: Tensor) -> None:
        """To be called before history or the flag of a tensor changes."""
        if tensor.array is not None and tensor not in self._tensors and tensor not in self._own:
            self._tensors[tensor] = [getattr(tensor, name) for name in _ATTRIBUTES], place()

    def set_item(self, mapping: dict[Any, Any], key: Any, value: Any) -> None:
        """Sets an entry of a dictionary that outlives the trace, to stay if the call succeeds."""
        if key in mapping:
            self._undo.append(partial(dict.__setitem__, mapping, key, mapping[key]))
        else:
            self._undo.append(partial(dict.__delitem__, mapping, key))
        dict.__setitem__(mapping, key, value)

    def require_unchanged(self) -> None:
        """Raises if a tensor from outside is not what it was: a later call would not change it.

        Raises:
            UntraceableError: see above.
        """
        from .tape_reading import has_history

        for tensor, ((entry, _, _, needs_grad), line) in self._tensors.items():
            if tensor.entry is not entry and tensor.entry is not None and has_history(tensor):
                raise UntraceableError(
                    "a tensor from outside the compiled function was given a value that has a "
                    f"gradient's history{line}: a compiled call would not keep it. Write the "
                    "value's detach(), or return it"
                )
            if tensor.entry is None and (entry is not None or tensor._requires_grad != needs_grad):
                raise UntraceableError(
                    "requires_grad of a tensor from outside was changed while tracing"
                    f"{line}: a compiled call would not do so again. Change it outside the "
                    "compiled function, or change it back before the end"
                )

    def restore_tensors(self) -> None:
        """Gives each tensor from outside its history and flag back."""
        for tensor, (values, _) in self._tensors.items():
            for name, value in zip(_ATTRIBUTES, values, strict=True):
                setattr(tensor, name, value)
        self._tensors.clear()

    def take_back(self) -> None:
        """Undoes what was to stay, the last change first."""
        while self._undo:
            self._undo.pop()()
        structure_changed()
