"""Changes of what modules and optimizers hold: announced, and refused in a trace."""

from __future__ import annotations

from .context import current
from .core import structure_changed
from .errors import UntraceableError
from .frames import place


def announce(what: str) -> None:
    """Tells compiled functions that something they may have found was exchanged.

    Raises:
        UntraceableError: inside a traced function, where the change would happen only once.
    """
    if current().trace is not None:
        raise UntraceableError(
            f"{what} was changed while tracing{place()}: a compiled call would not do so again. "
            "Change it outside the compiled function, or keep the value in a buffer or another "
            "tensor and write that in place"
        )
    structure_changed()
