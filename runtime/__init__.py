"""This machine: native code, buffers, LAPACK, caches.  The layer below the front end.

`compile_graph(graph)` makes a graph a function of arrays.  The public names are imported when they
are first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compile import compile_graph as compile_graph
    from .executable import Executable as Executable
    from .host import host_target as host_target
    from .options import Options as Options

_HOMES = {
    "Executable": "executable",
    "Options": "options",
    "compile_graph": "compile",
    "host_target": "host",
}


def __getattr__(name: str) -> Any:
    """A public name."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
