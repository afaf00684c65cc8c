"""The compiler: graphs, passes, kernels and generated code.

It is pure: it knows no machine but its `Target`.  `public` lists what it offers to others, which is
imported when it is first named; `taut.runtime` has `compile_graph`, which makes graphs run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

VERSION = "0.1.0"

if TYPE_CHECKING:
    from .public import *  # noqa: F403  # its __all__ is this package's


def __getattr__(name: str) -> Any:
    """A public name: `import taut` stays quick."""
    if name == "__all__" or not name.startswith("_"):
        from importlib import import_module

        public = import_module(".public", __name__)
        if name in ("__all__", *public.__all__):
            return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
