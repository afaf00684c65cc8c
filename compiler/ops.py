"""Every primitive by its name: `ops.matmul(x, w)` is the value of a new node.

Operands are positional, attributes are keywords: `ops.broadcast(b, dims=(1,), shape=(B, 16))`.
`taut ops` lists both.  A primitive whose name is a word of Python takes an underscore: `ops.and_`.
"""

from __future__ import annotations

from . import primitives as _primitives  # importing registers them
from .primitive import Primitive, all_primitives, get

__all__ = [p.name for p in all_primitives()]
del _primitives


def __getattr__(name: str) -> Primitive:
    """The primitive called `name`."""
    try:
        return get(name.removesuffix("_"))
    except KeyError:
        from .text.lexer import suggestion

        hint = suggestion(name, [p.name for p in all_primitives()]) or "; `taut ops` lists all"
        raise AttributeError(f"no primitive is called {name!r}{hint}") from None


def __dir__() -> list[str]:
    return [p.name for p in all_primitives()]
